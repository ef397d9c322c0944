"""The proof that a candidate owes before it serves: calibration fingerprint, golden rows, coverage of labelled rows.

Golden rows. Engines, processors and library versions add in different orders, which moves a pass by up to 8e-7 of its
size (measured between TensorFlow, NumPy and the fused kernel). A bound may therefore differ from the published one by
`TOLERANCE` of the size of the row's interval, or of the median row's where that is larger; this is a hundred times
what was measured, and a hundredth of a percent of the answer. The stop rule turns such a difference into another
number of passes where a row is about to stop: one row, or `OTHER_PASSES` of them, may stop elsewhere. A mean over k of
k + d numbers with standard deviation s differs from the mean of all by at most s * sqrt(d / k); so much more is allowed
there.

Labelled rows. Given n calibration points, the number of covered rows follows a Beta-binomial law (see
`uncertainty.coverage`). A target that has fewer than its lower `FALSE_ALARM` quantile is refused: a right calibration
is refused in at most one of 10,000 publications and target, if its rows are like the calibration rows. Too much
coverage is not refused, for wide intervals break no promise.
"""

from __future__ import annotations

import hashlib
import math
import time
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from uqueue_config.errors import CalibrationMismatch, CoverageTooLow, GoldenMismatch, InvalidChecks, InvalidFeatures
from uqueue_config.prediction import IntervalPrediction
from uqueue_worker.artifacts import ArtifactPair
from uqueue_worker.artifacts.checks_file import (
    CalibrationFingerprint,
    Checks,
    GoldenRows,
    LabelledRows,
    Mode,
    Preprocessing,
    StopRule,
    read_checks,
    table,
)
from uqueue_worker.artifacts.torch_file import is_torch_file, read_torch_file
from uqueue_worker.models.torch_graph import input_statistics
from uqueue_worker.models.weights import read_weights
from uqueue_worker.uncertainty import coverage_report

if TYPE_CHECKING:
    from uqueue_worker.models.interval_model import IntervalModel

TOLERANCE: Final = 1e-4
OTHER_PASSES: Final = 0.05
FALSE_ALARM: Final = 1e-4
#: How many calibration points are assumed where nobody says: few, so that the band is rather too wide.
ASSUMED_CALIBRATION: Final = 500
#: More make no difference to the band, but to the precision with which it can be computed.
MOST_CALIBRATION: Final = 1_000_000
#: A file with more rows than can be answered in this time is refused, and so is a stop rule that never ends.
MAX_SECONDS: Final = 60.0
FILE: Final = "checks.json"

Floats = NDArray[np.float64]


def check_candidate(model: IntervalModel, pair: ArtifactPair) -> None:
    """Hold a loaded model against the checks that came with it; without any there is nothing to do.

    Raises CalibrationMismatch, GoldenMismatch or CoverageTooLow where it does not stand up to them, InvalidChecks where
    they are not readable or do not fit the model.
    """
    if pair.checks is None:
        return
    checks, deadline = read_checks(pair.checks), _Deadline()
    if checks.calibration is not None:
        check_calibration(checks.calibration, fingerprint_of(model, pair))
    if checks.golden is not None:
        _check_mode(checks.golden.forward_mode, model.forward_mode)
        _check_shape(checks.golden.lower, model.n_targets, "golden")
        compare_golden(checks.golden, _answer(model, checks.golden, deadline))
    if checks.labelled is not None:
        _check_shape(checks.labelled.targets, model.n_targets, "labelled")
        n_calibration = checks.calibration.n_calibration if checks.calibration else None
        answer = _answer(model, checks.labelled, deadline)
        check_coverage(checks.labelled, answer, model.calibration.alpha, n_calibration)


def record_checks(
    model: IntervalModel,
    pair: ArtifactPair,
    *,
    golden: tuple[Floats, int] | None = None,
    labelled: tuple[Floats, Floats, int] | None = None,
    n_calibration: int | None = None,
) -> Checks:
    """Return the checks of a pair that this model was loaded from.

    golden    (features (rows, n_features), seed): rows whose answers are recorded now
    labelled  (features, targets (rows, targets), seed)

    What is None stays as the pair's own checks have it. Raises InvalidFeatures, and InvalidChecks for a row that fails.
    """
    own = read_checks(pair.checks) if pair.checks is not None else None
    calibration = (own and own.calibration) or fingerprint_of(model, pair)
    if n_calibration is not None:
        calibration = calibration.model_copy(update={"n_calibration": n_calibration})
    return Checks(
        calibration=calibration,
        golden=_recorded(model, *golden) if golden else own and own.golden,
        labelled=_copied(*labelled) if labelled else own and own.labelled,
    )


def fingerprint_of(model: IntervalModel, pair: ArtifactPair) -> CalibrationFingerprint:
    """Return what a calibration of this model must have been made for."""
    rule = model.calibration
    return CalibrationFingerprint(
        forward_mode=model.forward_mode,
        stop_rule=StopRule(patience=rule.patience, delta=rule.delta, max_mc=rule.max_mc),
        preprocessing=Preprocessing(n_features=model.n_features, sha256=_preprocessing_sha256(model, pair)),
        weights_sha256=pair.model_file.sha256,
    )


def check_calibration(made_for: CalibrationFingerprint, served: CalibrationFingerprint) -> None:
    """Raise CalibrationMismatch where a calibration was made for something else than what is to be served."""
    expected, found = _facts(made_for), _facts(served)
    differs = [fact for fact in expected if expected[fact] != found[fact]]
    if not differs:
        return
    wanted = f"Set UQUEUE_FORWARD_MODE (or the model's forward_mode) to {made_for.forward_mode}"
    again = "run the calibration again with what is served here, and publish it with `uqueue publish`"
    raise CalibrationMismatch(
        file=FILE,
        differs=differs,
        expected=", ".join(f"{fact} {expected[fact]}" for fact in differs),
        found=", ".join(f"{fact} {found[fact]}" for fact in differs),
        advice=f"{wanted}, or {again}" if differs == ["forward mode"] else again[0].upper() + again[1:],
    )


def compare_golden(golden: GoldenRows, answer: IntervalPrediction) -> None:
    """Raise GoldenMismatch where an answer is not the one that was published, within what engines may differ."""
    lower, upper, passes = table(golden.lower), table(golden.upper), np.array(golden.passes_used)
    if answer.failed.any():
        raise GoldenMismatch(file=FILE, reason=f"the output for row {int(answer.failed.argmax()) + 1} is not finite")
    other = passes != answer.passes_used
    allowed = max(1, int(len(passes) * OTHER_PASSES))
    if other.sum() > allowed:
        reason = f"{int(other.sum())} of {len(passes)} rows use another number of passes, at most {allowed} may"
        raise GoldenMismatch(file=FILE, reason=reason)
    with np.errstate(over="ignore"):
        size = np.maximum(np.abs(lower), np.abs(upper))
        tolerance = TOLERANCE * np.maximum(size, np.sort(size, axis=0)[len(size) // 2])
        lost = np.abs(passes - answer.passes_used) / np.minimum(passes, answer.passes_used)
        spread = np.maximum(table(golden.pass_std), answer.pass_std.max(axis=1))
        off = np.maximum(np.abs(answer.lower - lower), np.abs(answer.upper - upper))
    wrong = ~(off <= tolerance + np.sqrt(lost)[:, None] * spread)
    if wrong.any():
        row, target = np.argwhere(wrong)[0]
        raise GoldenMismatch(
            file=FILE,
            reason=f"{int(wrong.any(axis=1).sum())} of {len(lower)} rows differ, the first is row {row + 1}, "
            f"target {target + 1}: {_interval(answer.lower, answer.upper, row, target)} here, "
            f"{_interval(lower, upper, row, target)} published",
        )


def check_coverage(
    labelled: LabelledRows, answer: IntervalPrediction, alpha: float | None, n_calibration: int | None
) -> None:
    """Raise CoverageTooLow where a target's intervals hold fewer of the rows than chance explains."""
    if alpha is None:
        raise InvalidChecks(file=FILE, reason="labelled: the calibration state does not say its alpha")
    n = min(n_calibration, MOST_CALIBRATION) if n_calibration else max(ASSUMED_CALIBRATION, math.ceil(10 / alpha))
    level = 1 - 2 * FALSE_ALARM
    try:
        report = coverage_report(
            table(labelled.targets), answer.lower, answer.upper, n_calibration=n, alpha=alpha, level=level
        )
    except ValueError as error:
        raise InvalidChecks(file=FILE, reason=f"labelled: {error}") from error
    low = [
        f"target {target + 1}: {int(covered)} ({covered / report.n_test:.1%})"
        for target, covered in enumerate(report.covered)
        if covered < report.low
    ]
    if low:
        raise CoverageTooLow(
            file=FILE,
            rows=report.n_test,
            covered=report.covered.tolist(),
            found=", ".join(low),
            low=report.low,
            nominal=f"{report.nominal:.1%}",
            points=f"{n} calibration points" + ("" if n_calibration else " (assumed)"),
        )


class _Deadline:
    """Ends a prediction that goes on too long."""

    def __init__(self) -> None:
        self._ends = time.monotonic() + MAX_SECONDS

    def __call__(self, rows_done: int) -> None:
        if time.monotonic() > self._ends:
            raise InvalidChecks(file=FILE, reason=f"its rows take more than {MAX_SECONDS:g} s; put fewer into it")


def _answer(model: IntervalModel, rows: GoldenRows | LabelledRows, deadline: _Deadline) -> IntervalPrediction:
    try:
        return model.predict(table(rows.features), seed=rows.seed, on_progress=deadline)
    except InvalidFeatures as error:
        raise InvalidChecks(file=FILE, reason=f"its rows do not fit the model: {error.message.rstrip('.')}") from error


def _check_mode(expected: Mode, found: Mode) -> None:
    if expected != found:
        raise CalibrationMismatch(
            file=FILE,
            differs=["forward mode"],
            expected=f"forward mode {expected}",
            found=f"forward mode {found}",
            advice=f"Set UQUEUE_FORWARD_MODE (or the model's forward_mode) to {expected}",
        )


def _check_shape(rows: list[list[float]], n_targets: int, what: str) -> None:
    if len(rows[0]) != n_targets:
        raise InvalidChecks(file=FILE, reason=f"{what}: expected {n_targets} targets as the model has, {len(rows[0])}")


def _recorded(model: IntervalModel, features: Floats, seed: int) -> GoldenRows:
    answer = model.predict(features, seed=seed)
    if answer.failed.any():
        row = int(answer.failed.argmax()) + 1
        raise InvalidChecks(file=FILE, reason=f"golden: the model's output for row {row} is not finite")
    return GoldenRows(
        features=features.tolist(),
        seed=seed,
        forward_mode=model.forward_mode,
        lower=answer.lower.tolist(),
        upper=answer.upper.tolist(),
        pass_std=answer.pass_std.max(axis=1).tolist(),
        passes_used=answer.passes_used.tolist(),
    )


def _copied(features: Floats, targets: Floats, seed: int) -> LabelledRows:
    return LabelledRows(features=features.tolist(), targets=targets.tolist(), seed=seed)


def _facts(of: CalibrationFingerprint) -> dict[str, Any]:
    """Return what must be equal, under the names that people read."""
    return {
        "forward mode": of.forward_mode,
        **of.stop_rule.model_dump(),
        "features": of.preprocessing.n_features,
        "preprocessing": of.preprocessing.sha256[:16],
        "weights": of.weights_sha256[:16],
    }


def _preprocessing_sha256(model: IntervalModel, pair: ArtifactPair) -> str:
    """Return the sha256 over the number of features and the statistics that normalize them, in their order.

    They are taken from the file and not from an engine, for engines differ in which they know of.
    """
    digest = hashlib.sha256(f"{model.n_features}".encode())
    for statistic in _statistics(pair):
        digest.update(np.ascontiguousarray(statistic, dtype="<f4").tobytes())
    return digest.hexdigest()


def _statistics(pair: ArtifactPair) -> list[NDArray[Any]]:
    if is_torch_file(pair.model):
        return list(input_statistics(read_torch_file(pair.model, file=pair.model_filename).program) or ())
    layers = read_weights(pair.model, file=pair.model_filename).values()
    return [layer[name] for layer in layers if {"mean", "variance"} <= set(layer) for name in ("mean", "variance")]


def _interval(lower: Floats, upper: Floats, row: int, target: int) -> str:
    return f"[{lower[row, target]:.6g}, {upper[row, target]:.6g}]"
