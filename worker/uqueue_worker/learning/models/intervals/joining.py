"""Answers of chunks as one table of intervals."""

from __future__ import annotations

from collections import Counter

import numpy as np

from uqueue_config.errors import UqueueError
from uqueue_config.prediction import IntervalPrediction
from uqueue_worker.learning.errors import ModelIntegrity, PartialEvaluation
from uqueue_worker.learning.metrics import FloatArray
from uqueue_worker.learning.models.intervals.place import PinnedIntervals
from uqueue_worker.learning.models.intervals.regression import RegressionSpec
from uqueue_worker.learning.models.intervals.scores import Intervals

_TOLD_ERRORS = 3


class Joining:
    """Takes the answers to chunks in their order, of one of the model's targets."""

    def __init__(self, pinned: PinnedIntervals, spec: RegressionSpec) -> None:
        self._pinned = pinned
        self._spec = spec
        self._errors: Counter[str] = Counter()
        self._columns: list[FloatArray] = []
        self._said: list[IntervalPrediction] = []
        self.rows = 0

    def add(self, answer: IntervalPrediction | UqueueError, n_rows: int) -> None:
        """Take one answer. Raises ModelIntegrity for one that is not of the version that was asked."""
        self.rows += n_rows
        if isinstance(answer, UqueueError):
            self._errors[answer.code] += 1
            self._columns.append(np.full((3, n_rows), np.nan))
            return
        self._check(answer, n_rows)
        target = self._spec.output_of(answer.lower.shape[1])
        spread = answer.pass_std[:, :, target].astype(np.float64).sum(axis=1)
        columns = np.stack([answer.lower[:, target], answer.upper[:, target], spread])
        self._columns.append(np.where(answer.failed, np.nan, columns))
        self._said.append(answer)

    def intervals(self, max_failed_fraction: float) -> Intervals:
        """Return everything together. Raises PartialEvaluation where more rows than that share have no answer."""
        lower, upper, spread = np.concatenate(self._columns, axis=1)
        failed = np.isnan(lower)
        allowed = int(max_failed_fraction * self.rows)
        if failed.sum() > allowed or failed.all():
            raise PartialEvaluation(failed=int(failed.sum()), samples=self.rows, limit=allowed)
        crossed = lower > upper
        lower = np.where(crossed, (lower + upper) / 2, lower)
        upper = np.where(crossed, lower, upper)
        first = self._said[0]
        most = max(int(answer.passes_used.max()) for answer in self._said)
        return Intervals.of(
            lower,
            upper,
            spread=spread if first.stochastic else None,
            failed=np.flatnonzero(failed).tolist(),
            nominal_coverage=first.nominal_coverage,
            model_version=self._pinned.reference,
            uncertainty_method=f"mc_dropout:{most}" if first.stochastic else "single_model",
            warnings=[*self._warnings(), *_crossed(int(crossed.sum()))],
        )

    def _check(self, answer: IntervalPrediction, n_rows: int) -> None:
        """What changes the numbers of a version, its forward mode and units, is set where it is served."""
        reason = ""
        if answer.model.version != self._pinned.version:
            reason = "another version answered than was asked"
        elif len(answer) != n_rows:
            reason = f"it answered {len(answer)} rows, and was asked {n_rows}"
        elif self._said and _setting(answer) != _setting(self._said[0]):
            reason = "workers serve it with different forward modes or units"
        if reason:
            raise ModelIntegrity(file=self._pinned.reference, reason=reason)

    def _warnings(self) -> list[str]:
        """Return what the model says of all answers, and which chunks failed."""
        told = [one for one in self._said[0].warnings if all(one in answer.warnings for answer in self._said)]
        if self._errors:
            named = ", ".join(f"{count} with {code}" for code, count in list(self._errors.items())[:_TOLD_ERRORS])
            told.append(f"{self._errors.total()} chunks failed: {named}")
        return told


def _setting(answer: IntervalPrediction) -> tuple[object, ...]:
    return answer.forward_mode, answer.stochastic, answer.unit, answer.nominal_coverage, tuple(answer.q_hat.tolist())


def _crossed(count: int) -> list[str]:
    return [f"{count} intervals have lower > upper and count as their midpoint alone"] if count else []
