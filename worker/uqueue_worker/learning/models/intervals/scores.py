"""Intervals beside true values: which of them miss, how uncertain they are, and what they come to.

With l, u the bounds, w = u - l, y the truth and r the reference width:

    miss          y < l or y > u
    total         min(1, w / r)
    epistemic     min(total, (s_l + s_u) / r), s = standard deviation of a bound over the passes of Monte Carlo dropout
    aleatoric     total - epistemic
    confidence    of a miss only: d / (d + w), d = how far y lies outside; 1 for a point that misses
    ambiguity     (classes that the interval touches - 1) / (classes - 1)

    interval score  w + 2/a (l - y) if y < l, + 2/a (y - u) if y > u; mean (Gneiting and Raftery 2007, eq. 43)
    pinball loss    of l as the a/2 and u as the 1 - a/2 quantile, mean of both; a = 1 - nominal coverage
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from uqueue_worker.learning.metrics import FloatArray, IntArray
from uqueue_worker.learning.models.intervals.regression import RegressionSpec
from uqueue_worker.learning.uncertainty import ambiguity

NO_CLASS = -1


@dataclass(frozen=True, eq=False)
class Intervals:
    """Row by row; float64 (N,), NaN in the rows of `failed`.

    spread            standard deviations of both bounds over the passes, added; None where there is one pass only
    failed            bool (N,), rows without an answer
    nominal_coverage  None where the model does not say
    """

    lower: FloatArray
    point: FloatArray
    upper: FloatArray
    spread: FloatArray | None
    failed: NDArray[np.bool_]
    nominal_coverage: float | None = None
    model_version: str = "unknown"
    uncertainty_method: str = "single_model"
    warnings: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        lower: ArrayLike,
        upper: ArrayLike,
        *,
        point: ArrayLike | None = None,
        spread: ArrayLike | None = None,
        failed: Sequence[int] = (),
        nominal_coverage: float | None = None,
        model_version: str = "unknown",
        uncertainty_method: str = "single_model",
        warnings: Sequence[str] = (),
    ) -> Self:
        """Return checked intervals; the point (the median, say) is halfway between the bounds unless given.

        Rows of `failed` may hold anything. Raises ValueError, naming the first row, for other lengths, for NaN and
        infinities, for lower > upper and for a negative spread.
        """
        low = _column("lower", lower)
        missing = np.zeros(len(low), dtype=bool)
        missing[list(failed)] = True
        high = _column("upper", upper, len(low))
        middle = low + (high - low) / 2 if point is None else _column("point", point, len(low))
        deviation = None if spread is None else _column("spread", spread, len(low))
        for name, values in (("lower", low), ("upper", high), ("point", middle), ("spread", deviation)):
            if values is not None:
                _refuse(~np.isfinite(values) & ~missing, f"{name}: expected finite numbers")
        _refuse((low > high) & ~missing, "expected lower <= upper")
        if deviation is not None:
            _refuse((deviation < 0) & ~missing, "spread: expected 0 or more")
        if nominal_coverage is not None and not 0 < nominal_coverage < 1:
            raise ValueError(f"nominal_coverage: expected a share between 0 and 1, got {nominal_coverage}")

        def blank(values: FloatArray) -> FloatArray:
            return np.where(missing, np.nan, values)

        return cls(
            lower=blank(low),
            point=blank(middle),
            upper=blank(high),
            spread=None if deviation is None else blank(deviation),
            failed=missing,
            nominal_coverage=nominal_coverage,
            model_version=model_version,
            uncertainty_method=uncertainty_method,
            warnings=tuple(warnings),
        )

    def __len__(self) -> int:
        return len(self.lower)

    @property
    def width(self) -> FloatArray:
        return self.upper - self.lower


@dataclass(frozen=True, eq=False)
class Assessment:
    """Each row of intervals beside its truth; float64 (N,), NaN where a number does not apply.

    true, said  class numbers, -1 for none. `said` is the truth's class where the interval holds the truth, or else
                that of the point: unequal labels are errors to strategies, and such a row is none
    counted     the rows that metrics are about: with a truth and an answer
    miss        bool (N,)
    """

    true: IntArray
    said: IntArray
    counted: IntArray
    miss: NDArray[np.bool_]
    total: FloatArray
    epistemic: FloatArray | None
    aleatoric: FloatArray | None
    confidence: FloatArray
    ambiguity: FloatArray


@dataclass(frozen=True, eq=False)
class ClassCounts:
    """Per class: rows whose truth lies in it, those of them whose interval holds it, and rows that say the class."""

    support: IntArray
    held: IntArray
    said: IntArray


def assess(truth: FloatArray, intervals: Intervals, spec: RegressionSpec) -> Assessment:
    """Return each row beside its truth (N,), which is NaN where a sample has none. Raises ValueError."""
    values = _column("truth", truth, len(intervals))
    _refuse(np.isinf(values), "truth: expected finite numbers, or NaN where there is none")
    answered, labelled = ~intervals.failed, ~np.isnan(values)
    outside = np.maximum(intervals.lower - values, values - intervals.upper)
    miss = outside > 0
    true = np.where(labelled, spec.classes_of(values), NO_CLASS)
    of_point = np.where(answered, spec.classes_of(intervals.point), NO_CLASS)
    total = np.minimum(1, intervals.width / spec.reference_width)
    epistemic = None if intervals.spread is None else np.minimum(total, intervals.spread / spec.reference_width)
    confidence = np.full(len(values), np.nan)
    confidence[miss] = outside[miss] / (outside[miss] + intervals.width[miss])
    touched = np.full(len(values), np.nan)
    sizes = spec.classes_of(intervals.upper[answered]) - spec.classes_of(intervals.lower[answered]) + 1
    touched[answered] = ambiguity(sizes, len(spec.classes))
    return Assessment(
        true=true,
        said=np.where(labelled & answered & ~miss, true, of_point),
        counted=np.flatnonzero(labelled & answered),
        miss=miss,
        total=total,
        epistemic=epistemic,
        aleatoric=None if epistemic is None else total - epistemic,
        confidence=confidence,
        ambiguity=touched,
    )


def class_counts(found: Assessment, rows: IntArray, n_classes: int) -> ClassCounts:
    """Return the counts over some of the counted rows."""
    true, said, held = found.true[rows], found.said[rows], ~found.miss[rows]
    counted = [np.bincount(of, minlength=n_classes).astype(np.int64) for of in (true, true[held], said)]
    return ClassCounts(*counted)


def overall_scores(truth: FloatArray, intervals: Intervals, rows: IntArray) -> dict[str, float]:
    """Return the metrics over all of these rows, at least one; those that need the nominal coverage only with it."""
    y, low, high = truth[rows], intervals.lower[rows], intervals.upper[rows]
    errors = y - intervals.point[rows]
    found = {
        "mae": float(np.abs(errors).mean()),
        "rmse": float(np.sqrt((errors**2).mean())),
        "coverage": float(((low <= y) & (y <= high)).mean()),
        "mean_interval_width": float((high - low).mean()),
    }
    if intervals.nominal_coverage is not None:
        found["nominal_coverage"] = intervals.nominal_coverage
        found["interval_score"] = interval_score(y, low, high, 1 - intervals.nominal_coverage)
        found["pinball_loss"] = quantile_loss(y, low, high, 1 - intervals.nominal_coverage)
    return found


def interval_score(truth: ArrayLike, lower: ArrayLike, upper: ArrayLike, alpha: float) -> float:
    """Return the mean interval score; smaller is better, and the true quantiles have the smallest expected one."""
    y, low, high = (np.asarray(values, dtype=np.float64) for values in (truth, lower, upper))
    outside = np.maximum(low - y, 0) + np.maximum(y - high, 0)
    return float((high - low + 2 / alpha * outside).mean())


def quantile_loss(truth: ArrayLike, lower: ArrayLike, upper: ArrayLike, alpha: float) -> float:
    """Return the mean pinball loss of both bounds (Koenker and Bassett 1978), as the quantiles that they stand for."""
    y = np.asarray(truth, dtype=np.float64)
    losses = []
    for level, bound in ((alpha / 2, lower), (1 - alpha / 2, upper)):
        error = y - np.asarray(bound, dtype=np.float64)
        losses.append(np.maximum(level * error, (level - 1) * error))
    return float(np.mean(losses))


def _column(name: str, values: ArrayLike, length: int | None = None) -> FloatArray:
    found: FloatArray = np.asarray(values, dtype=np.float64)
    if found.ndim != 1 or (length is not None and len(found) != length):
        expected = "(rows,)" if length is None else f"({length},) as lower has"
        raise ValueError(f"{name}: expected numbers {expected}, got the shape {found.shape}")
    return found


def _refuse(wrong: NDArray[np.bool_], expected: str) -> None:
    if wrong.any():
        raise ValueError(f"{expected}; row {int(wrong.argmax())} has others")
