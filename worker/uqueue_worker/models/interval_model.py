"""A loaded model: features in, calibrated intervals out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, get_args

import numpy as np
from numpy.typing import NDArray

from uqueue_config.errors import InvalidCalibration, InvalidFeatures
from uqueue_config.features import validate_features
from uqueue_config.prediction import IntervalPrediction, ModelIdentity
from uqueue_worker.artifacts import (
    ArtifactPair,
    CalibrationState,
    ModelProvider,
    read_calibration_state,
)
from uqueue_worker.artifacts.model_file import read_any_model_file
from uqueue_worker.models.checks import check_candidate
from uqueue_worker.models.choice import choose_engine
from uqueue_worker.models.engine import Engine, EngineChoice, ForwardMode, SummarizingEngine
from uqueue_worker.models.randomness import UInt64, row_keys, table_keys
from uqueue_worker.models.self_test import passes_differ
from uqueue_worker.uncertainty import Draw, PassSummary, adaptive_passes, conformal_interval, rule_without_spread

Float32 = NDArray[np.float32]

FAR_OUTSIDE = 6.0  # standard deviations of the training inputs


def load_interval_model(
    source: ModelProvider | ArtifactPair,
    *,
    forward_mode: ForwardMode = "dropout",
    engine: EngineChoice = "auto",
) -> IntervalModel:
    """Return the model that a provider, or a pair of files already read, holds.

    The artifacts are checked, the network is evaluated once without and several times with its dropout layers, and
    whether passes differ is noted. Raises what the provider's `load` raises, and ModelInvalid (UnsafeArtifact,
    IncompleteArtifact, InvalidCalibration) with the reason where the files cannot be served. Checks that came with them
    must hold; see `checks`.
    """
    if forward_mode not in get_args(ForwardMode):
        raise ValueError(f"forward_mode must be one of {', '.join(get_args(ForwardMode))}, got {forward_mode!r}")
    pair = source if isinstance(source, ArtifactPair) else source.load()
    model_file = read_any_model_file(pair.model)
    state = read_calibration_state(pair.state)
    network = choose_engine(pair.model, model_file, engine)
    model = IntervalModel(
        identity=pair.identity(network.name, keras_version=model_file.keras_version),
        calibration=replace(state, q_hat=_per_target(state, network.n_targets)),
        forward_mode=forward_mode,
        stochastic=passes_differ(network, forward_mode),
        stale=pair.stale,
        engine=network,
    )
    check_candidate(model, pair)
    return model


@dataclass(frozen=True, eq=False)
class Together:
    """Several tables evaluated as one: the answer for all rows, and which rows lie far outside the training inputs."""

    prediction: IntervalPrediction
    far: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class IntervalModel:
    """A network, its calibration, and how passes are drawn. Any number of threads may predict with one object.

    engine       what evaluates the network
    calibration  stop rule and conformal correction; `q_hat` holds one value per target here
    stochastic   whether repeated passes differ, as found by trying at load
    stale        the calibration was written before the model
    """

    identity: ModelIdentity
    calibration: CalibrationState
    forward_mode: ForwardMode
    stochastic: bool
    stale: bool
    engine: Engine

    number: ClassVar[None] = None  # in a registry: what is published there goes by its content

    @property
    def n_features(self) -> int:
        return self.engine.n_features

    @property
    def n_targets(self) -> int:
        return self.engine.n_targets

    @property
    def engine_name(self) -> str:
        return self.engine.name

    def predict(
        self,
        features: Any,
        *,
        seed: int,
        target_dim: int | None = None,
        on_progress: Callable[[int], None] | None = None,
    ) -> IntervalPrediction:
        """Return the intervals of features (rows, n_features); the same features and seed give the same bytes.

        `on_progress(rows_done)` is called now and then; what it raises ends the prediction. Raises InvalidFeatures for
        features, or a `target_dim`, that do not fit the model, and ValueError for a seed outside 0 .. 2**63 - 1.
        """
        table = self.check(features, target_dim)
        summary = self._summarise(table, row_keys(seed, len(table)), on_progress)
        return self._prediction(table, summary, seed)

    def predict_many(
        self, requests: Sequence[tuple[Any, int]], *, on_progress: Callable[[int], None] | None = None
    ) -> list[IntervalPrediction]:
        """Return the answers to several (features, seed) requests, bit for bit those of one `predict` each.

        Their rows are evaluated together where the engine gives a row the same bits in any company; that is much
        faster for many small requests. One request that does not fit the model raises for all: `check` them before.
        """
        if not self.engine.batch_independent or len(requests) < 2:
            return [self.predict(features, seed=seed, on_progress=on_progress) for features, seed in requests]
        tables, seeds = [self.check(features) for features, _ in requests], [seed for _, seed in requests]
        lengths = [len(table) for table in tables]
        whole = self.predict_together(np.concatenate(tables), lengths, seeds, on_progress=on_progress)
        answers, first = [], 0
        for length, seed in zip(lengths, seeds, strict=True):
            answers.append(self.part(whole, first, first + length, seed))
            first += length
        return answers

    def predict_together(
        self,
        table: Float32,
        lengths: Sequence[int],
        seeds: Sequence[int],
        *,
        on_progress: Callable[[int], None] | None = None,
    ) -> Together:
        """Evaluate checked tables, one after the other in `table`, as one; for a `batch_independent` engine only."""
        summary = self._summarise(table, table_keys(seeds, lengths), on_progress)
        return Together(self._prediction(table, summary, seeds[0]), self._far_outside(table))

    def part(self, whole: Together, begin: int, end: int, seed: int) -> IntervalPrediction:
        """Return the answer to the table whose rows are begin .. end - 1 of the whole."""
        of = whole.prediction
        failed = of.failed[begin:end]
        return replace(
            of,
            lower=of.lower[begin:end],
            upper=of.upper[begin:end],
            passes_used=of.passes_used[begin:end],
            converged=of.converged[begin:end],
            failed=failed,
            pass_std=of.pass_std[begin:end],
            seed=seed,
            warnings=self._warnings(whole.far[begin:end], failed),
        )

    def check(self, features: Any, target_dim: int | None = None) -> Float32:
        """Return features as float32 (rows, n_features). Raises InvalidFeatures where they do not fit the model."""
        if target_dim is not None and target_dim != self.n_targets:
            raise InvalidFeatures(reason=f"target_dim is {target_dim}, but the model has {self.n_targets} targets")
        return validate_features(features, columns=self.n_features)

    @cached_property
    def _summarizing(self) -> SummarizingEngine | None:
        """The engine, if it applies the stop rule itself; found once, because to ask a protocol takes microseconds."""
        return self.engine if isinstance(self.engine, SummarizingEngine) else None

    def _summarise(self, table: Float32, keys: UInt64, on_progress: Callable[[int], None] | None) -> PassSummary:
        rule = self.calibration
        if self.stochastic and self._summarizing is not None:
            return self._summarizing.summary(
                table,
                keys,
                self.forward_mode,
                patience=rule.patience,
                delta=rule.delta,
                max_passes=rule.max_mc,
                on_progress=on_progress,
            )
        draw = self.engine.passes(table, keys, self.forward_mode)
        if not self.stochastic:
            return _one_pass(draw, len(table), rule)
        return adaptive_passes(
            draw,
            len(table),
            patience=rule.patience,
            delta=rule.delta,
            max_passes=rule.max_mc,
            on_progress=on_progress,
        )

    def _prediction(self, table: Float32, summary: PassSummary, seed: int) -> IntervalPrediction:
        q_hat = self.calibration.q_hat
        lower, upper = conformal_interval(summary.mean[:, 0], summary.mean[:, 1], q_hat)
        spread = summary.std
        failed = ~(np.isfinite(lower) & np.isfinite(upper)).all(axis=1) | ~np.isfinite(spread).all(axis=(1, 2))
        alpha = self.calibration.alpha
        return IntervalPrediction(
            lower=np.where(failed[:, None], np.nan, lower).astype(np.float64, copy=False),
            upper=np.where(failed[:, None], np.nan, upper).astype(np.float64, copy=False),
            passes_used=summary.passes_used,
            converged=summary.converged & ~failed,
            failed=failed,
            pass_std=np.where(failed[:, None, None], np.float32(np.nan), spread),
            q_hat=q_hat,
            seed=seed,
            stochastic=self.stochastic,
            forward_mode=self.forward_mode,
            nominal_coverage=None if alpha is None else 1.0 - alpha,
            model=self.identity,
            warnings=self._warnings(self._far_outside(table), failed),
        )

    def _warnings(self, far: NDArray[np.bool_], failed: NDArray[np.bool_]) -> tuple[str, ...]:
        notes = list(self.standing_warnings)
        if far.any():
            notes.append(
                f"{int(far.sum())} of {len(far)} rows have a feature more than {FAR_OUTSIDE:g} standard deviations "
                "from the mean of the training inputs"
            )
        if failed.any():
            notes.append(f"{int(failed.sum())} of {len(far)} rows failed: the model's output is not finite")
        return tuple(notes)

    @property
    def standing_warnings(self) -> tuple[str, ...]:
        """What every answer of this model warns of."""
        notes = []
        if self.forward_mode == "dropout" and not self.stochastic:
            notes.append("MC dropout inactive: repeated passes of this model are equal")
        if self.stale:
            notes.append("stale calibration: it is older than the model, so the intervals are not calibrated for it")
        return tuple(notes)

    def _far_outside(self, table: Float32) -> NDArray[np.bool_]:
        """Return bool (rows,): which rows lie far outside the training inputs."""
        statistics = self.engine.input_statistics
        if statistics is None:
            return np.zeros(len(table), np.bool_)
        mean, spread = statistics
        with np.errstate(over="ignore"):
            return np.asarray((np.abs(table - mean) > FAR_OUTSIDE * spread).any(axis=1))


def _one_pass(draw: Draw, n_rows: int, rule: CalibrationState) -> PassSummary:
    """Return what the stop rule would report of passes that are all equal, after drawing a single one."""
    mean = np.array(draw(np.arange(n_rows, dtype=np.intp), 0, 1)[0], dtype=np.float32)
    passes, converged = rule_without_spread(patience=rule.patience, max_passes=rule.max_mc)
    finite = np.isfinite(mean).all(axis=(1, 2))
    return PassSummary(
        mean=mean,
        std=np.zeros_like(mean),
        passes_used=np.where(finite | (rule.patience == 0), passes, rule.max_mc).astype(np.int32),
        converged=finite & converged,
    )


def _per_target(state: CalibrationState, n_targets: int) -> NDArray[np.float64]:
    if len(state.q_hat) not in (1, n_targets):
        raise InvalidCalibration(
            file="mccp_state.pkl",
            field="q_hat",
            reason=f"holds {len(state.q_hat)} values, but the model has {n_targets} targets",
        )
    q_hat = np.array(np.broadcast_to(state.q_hat, (n_targets,)))
    q_hat.flags.writeable = False
    return q_hat
