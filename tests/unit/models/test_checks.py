"""A candidate serves only if it is what was calibrated, answers as published, and covers what it promises."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders.artifacts import mqnn_h5_bytes
from builders.calibrated import MODEL, N_CALIBRATION, draw_rows, pair_of, right_q_hat, with_checks
from builders.torch_files import spec_file, weights
from uqueue_config.errors import (
    CalibrationMismatch,
    CoverageTooLow,
    GoldenMismatch,
    InvalidCalibration,
    InvalidChecks,
    ModelInvalid,
)
from uqueue_worker.artifacts import ArtifactPair, Checks
from uqueue_worker.artifacts.checks_file import GoldenRows, LabelledRows
from uqueue_worker.artifacts.pair import fingerprint
from uqueue_worker.models import checks as checks_module
from uqueue_worker.models import load_interval_model
from uqueue_worker.models.checks import (
    FALSE_ALARM,
    OTHER_PASSES,
    TOLERANCE,
    check_candidate,
    check_coverage,
    compare_golden,
    record_checks,
)
from uqueue_worker.models.interval_model import IntervalModel

ROWS = draw_rows(60, seed=11)
LABELLED = draw_rows(1000, seed=12)


@pytest.fixture(scope="module")
def q_hat() -> Any:
    return right_q_hat()


@pytest.fixture(scope="module")
def pair(q_hat: Any) -> ArtifactPair:
    """A right pair with golden and labelled rows."""
    bare = pair_of(q_hat=q_hat)
    recorded = record_checks(
        load_interval_model(bare),
        bare,
        golden=(ROWS.features, 5),
        labelled=(LABELLED.features, LABELLED.targets, 6),
        n_calibration=N_CALIBRATION,
    )
    return with_checks(bare, recorded.to_json())


@pytest.fixture(scope="module")
def model(pair: ArtifactPair) -> IntervalModel:
    return load_interval_model(pair)


@functools.cache
def bare(model: bytes, state: bytes, options: tuple[tuple[str, Any], ...]) -> IntervalModel:
    """A load takes a second, and these tests are about what comes after it."""
    pair = ArtifactPair("mccp-uq", model, state, fingerprint(model, 1), fingerprint(state, 2))
    return load_interval_model(pair, **dict(options))


def load(pair: ArtifactPair, **options: Any) -> IntervalModel:
    """Do what `load_interval_model` does."""
    model = bare(pair.model, pair.state, tuple(options.items()))
    check_candidate(model, pair)
    return model


def changed(pair: ArtifactPair, change: Callable[[dict[str, Any]], Any]) -> ArtifactPair:
    document = json.loads(pair.checks or b"")
    change(document)
    return with_checks(pair, json.dumps(document).encode())


def with_files_of(pair: ArtifactPair, other: ArtifactPair, *, pretend: bool = False) -> ArtifactPair:
    """Return other files with the checks of `pair`; `pretend` that the calibration was made for these files."""
    assert pair.checks is not None
    mixed = with_checks(other, pair.checks)
    weights = other.model_file.sha256
    return changed(mixed, lambda d: d["calibration"].update(weights_sha256=weights)) if pretend else mixed


def test_a_right_pair_passes_on_every_engine_that_evaluates_it(pair: ArtifactPair) -> None:
    for engine in ("auto", "numpy", "fused"):
        assert load_interval_model(pair, engine=engine).stochastic  # type: ignore[arg-type]


def test_a_pytorch_pair_is_proven_like_any_other(q_hat: Any) -> None:
    bare = replace(pair_of(spec_file(), q_hat=q_hat), model_filename="model.pt")
    recorded = record_checks(load_interval_model(bare), bare, golden=(ROWS.features, 5))
    assert load_interval_model(with_checks(bare, recorded.to_json()), engine="numpy")
    other = pair_of(spec_file(weights(seed=9)), q_hat=q_hat)
    with pytest.raises(CalibrationMismatch) as caught:
        load_interval_model(with_checks(other, recorded.to_json()))
    assert "weights" in caught.value.differs


def test_without_checks_nothing_is_checked(pair: ArtifactPair) -> None:
    assert load(replace(pair, checks=None, checks_file=None), forward_mode="deterministic")


def test_another_forward_mode(pair: ArtifactPair) -> None:
    with pytest.raises(CalibrationMismatch) as caught:
        load_interval_model(pair, forward_mode="deterministic")
    assert isinstance(caught.value, InvalidCalibration)
    assert caught.value.message == (
        "checks.json: the calibration was made for forward mode dropout; here it would serve with forward mode "
        "deterministic. Set UQUEUE_FORWARD_MODE (or the model's forward_mode) to dropout, or run the calibration again "
        "with what is served here, and publish it with `uqueue publish`."
    )
    golden_alone = changed(pair, lambda d: d.pop("calibration"))
    with pytest.raises(CalibrationMismatch, match="forward mode dropout; here it would serve"):
        load(golden_alone, forward_mode="deterministic")


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"patience": 3}, "for patience 2; here it would serve with patience 3"),
        ({"delta": 0.01}, "for delta 0.001; here it would serve with delta 0.01"),
        ({"max_mc": 13}, "for max_mc 12; here it would serve with max_mc 13"),
        ({"max_mc": 13, "patience": 1}, "for patience 2, max_mc 12; here it would serve with patience 1, max_mc 13"),
    ],
)
def test_another_stop_rule(pair: ArtifactPair, q_hat: Any, state: dict[str, Any], words: str) -> None:
    with pytest.raises(CalibrationMismatch, match=words) as caught:
        load(with_files_of(pair, pair_of(q_hat=q_hat, **state)))
    assert "Run the calibration again" in caught.value.message


def test_other_weights_and_another_normalization(pair: ArtifactPair, q_hat: Any) -> None:
    other = pair_of(mqnn_h5_bytes(hidden=(4,), seed=9), q_hat=q_hat)
    with pytest.raises(CalibrationMismatch) as caught:
        load(with_files_of(pair, other))
    assert caught.value.differs == ["preprocessing", "weights"]
    with pytest.raises(CalibrationMismatch) as caught:
        load(with_files_of(pair, other, pretend=True))
    assert caught.value.differs == ["preprocessing"]
    narrow = pair_of(mqnn_h5_bytes(hidden=(4,), features=5), q_hat=q_hat)
    with pytest.raises(CalibrationMismatch, match=r"for features 8, .* serve with features 5"):
        load(with_files_of(pair, narrow))


def test_a_new_calibration_of_the_same_weights_is_what_was_calibrated(pair: ArtifactPair, q_hat: Any) -> None:
    """The correction itself is no part of the fingerprint; golden rows tell that it is another one."""
    fresh = with_files_of(pair, pair_of(q_hat=q_hat + 0.5))
    with pytest.raises(GoldenMismatch):
        load(fresh)
    assert load(changed(fresh, lambda d: d.pop("golden")))


def test_golden_rows_that_are_answered_otherwise(pair: ArtifactPair, model: IntervalModel) -> None:
    def shift(document: dict[str, Any]) -> None:
        document["golden"]["upper"][3][1] += 0.01

    with pytest.raises(GoldenMismatch, match="1 of 60 rows differ, the first is row 4, target 2: "):
        load(changed(pair, shift))
    with pytest.raises(GoldenMismatch, match="rows use another number of passes, at most 3 may"):
        load(changed(pair, lambda d: d["golden"].update(passes_used=[1] * 60)))
    with pytest.raises(GoldenMismatch, match="rows"):
        load(changed(pair, lambda d: d["golden"].update(seed=6)))


def test_a_row_that_fails_is_no_golden_row(model: IntervalModel, pair: ArtifactPair) -> None:
    answer = model.predict(ROWS.features, seed=5)
    golden = Checks.model_validate_json(pair.checks or b"").golden
    assert golden
    failed = replace(answer, failed=np.arange(60) == 2)
    with pytest.raises(GoldenMismatch, match="the output for row 3 is not finite"):
        compare_golden(golden, failed)
    with pytest.raises(InvalidChecks, match="for row 1 is not finite"):
        record_checks(model, pair, golden=(np.full((1, 8), 3e38), 1))


def golden_of(answer: Any, rows: int = 60) -> GoldenRows:
    return GoldenRows(
        features=ROWS.features[:rows].tolist(),
        seed=5,
        forward_mode="dropout",
        lower=answer.lower.tolist(),
        upper=answer.upper.tolist(),
        pass_std=answer.pass_std.max(axis=1).tolist(),
        passes_used=answer.passes_used.tolist(),
    )


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_what_engines_differ_by_passes_and_what_they_do_not_is_refused(data: Any, model: IntervalModel) -> None:
    answer = model.predict(ROWS.features, seed=5)
    golden = golden_of(answer)
    row, target = data.draw(st.integers(0, 59)), data.draw(st.integers(0, 1))
    size = max(abs(answer.lower[row, target]), abs(answer.upper[row, target]))
    typical = np.sort(np.maximum(np.abs(answer.lower), np.abs(answer.upper)), axis=0)[30, target]
    limit = TOLERANCE * max(size, typical)
    share = data.draw(st.floats(-3, 3).filter(lambda x: abs(abs(x) - 1) > 1e-3))
    moved = answer.lower.copy()
    moved[row, target] += share * limit
    if abs(share) < 1:
        compare_golden(golden, replace(answer, lower=moved))
    else:
        with pytest.raises(GoldenMismatch):
            compare_golden(golden, replace(answer, lower=moved))


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(0, 20), more=st.integers(1, 3))
def test_few_rows_may_stop_elsewhere(rows: int, more: int, model: IntervalModel) -> None:
    answer = model.predict(ROWS.features, seed=5)
    passes = answer.passes_used.copy()
    passes[:rows] += more
    golden = golden_of(replace(answer, passes_used=passes))
    if rows <= int(60 * OTHER_PASSES):
        compare_golden(golden, answer)
    else:
        with pytest.raises(GoldenMismatch):
            compare_golden(golden, answer)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1), st.sampled_from(["normal", "jump"]))
def test_a_row_that_stops_elsewhere_may_differ_by_what_those_passes_explain(
    k: int, more: int, seed: int, kind: str
) -> None:
    """Means over k and over k + d of the same numbers, in whichever order two workers report them."""
    rng = np.random.default_rng(seed)
    drawn = rng.normal(size=(k + more, 2, 2)).astype(np.float32)
    if kind == "jump":
        drawn[:k] = drawn[0]  # the worst case: all that varies comes afterwards
    short, long = (one_row(drawn[:count]) for count in (k, k + more))
    compare_golden(golden_of(short, rows=1), long)
    compare_golden(golden_of(long, rows=1), short)


def one_row(drawn: Any) -> Any:
    """Return what a worker reports of one row after these passes (passes, 2, targets)."""
    mean, std = drawn.mean(axis=0, dtype=np.float64), drawn.std(axis=0)
    return replace(
        load(pair_of()).predict(ROWS.features[:1], seed=1),
        lower=mean[:1],
        upper=mean[1:],
        pass_std=std[None],
        passes_used=np.array([len(drawn)], np.int32),
    )


def test_coverage_too_low(pair: ArtifactPair, q_hat: Any) -> None:
    """The correction was shrunk in the pickle: the intervals promise 90 % and hold far less."""
    shrunk = changed(with_files_of(pair, pair_of(q_hat=q_hat - 0.4)), lambda d: d.pop("golden"))
    with pytest.raises(CoverageTooLow) as caught:
        load(shrunk)
    error = caught.value
    assert error.rows == 1000
    assert min(error.covered) < error.low < 900
    assert f"target 1: {error.covered[0]} (" in error.message
    assert f"at nominal 90.0% and 400 calibration points chance leaves at least {error.low}" in error.message


def test_one_target_too_low_is_enough_and_too_much_coverage_is_no_fault(pair: ArtifactPair, q_hat: Any) -> None:
    bare = changed(pair, lambda d: d.pop("golden"))
    with pytest.raises(CoverageTooLow, match="target 2: ") as caught:
        load(with_files_of(bare, pair_of(q_hat=q_hat - [0.0, 0.4])))
    assert "target 1: " not in caught.value.message
    assert load(with_files_of(bare, pair_of(q_hat=q_hat + 5)))


def test_the_false_alarm_probability_is_what_it_says(model: IntervalModel) -> None:
    """By the law itself: below the limit lies less than it, and including the limit at least it."""
    from scipy.stats import betabinom

    law = betabinom(1000, 361, 40)  # 400 points, alpha 0.1: l = floor(401 * 0.1)
    answer = model.predict(LABELLED.features, seed=1)
    limit = int(law.ppf(FALSE_ALARM))
    assert law.cdf(limit - 1) < FALSE_ALARM <= law.cdf(limit)
    for covered in (limit - 1, limit):
        targets = (answer.lower + answer.upper) / 2
        targets[covered:] = 1e6
        labelled = LabelledRows(features=LABELLED.features.tolist(), targets=targets.tolist(), seed=1)
        if covered == limit:
            check_coverage(labelled, answer, 0.1, 400)
        else:
            with pytest.raises(CoverageTooLow, match=f"chance leaves at least {limit}, "):
                check_coverage(labelled, answer, 0.1, 400)


def test_unknown_calibration_sizes_are_taken_to_be_small(pair: ArtifactPair, q_hat: Any) -> None:
    shrunk = with_files_of(pair, pair_of(q_hat=q_hat - 0.4))

    def forget(document: dict[str, Any]) -> None:
        del document["golden"], document["calibration"]["n_calibration"]

    with pytest.raises(CoverageTooLow, match=r"500 calibration points \(assumed\)"):
        load(changed(shrunk, forget))


def test_labelled_rows_that_cannot_be_judged(pair: ArtifactPair, q_hat: Any) -> None:
    bare = changed(pair, lambda d: d.pop("golden"))
    with pytest.raises(InvalidChecks, match="does not say its alpha"):
        load(with_files_of(bare, pair_of(q_hat=q_hat, alpha=None)))
    with pytest.raises(InvalidChecks, match="at least 9 are needed"):
        load(changed(bare, lambda d: d["calibration"].update(n_calibration=5)))
    huge = changed(bare, lambda d: d["calibration"].update(n_calibration=2**31 - 1))
    assert load(huge)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d["golden"].update(features=[[0.0] * 7] * 60), "features"),
        (lambda d: d["golden"].update(features=[[1e39] * 8] * 60), "do not fit the model"),
        (
            lambda d: d["golden"].update(lower=[[0.0]] * 60, upper=[[0.0]] * 60, pass_std=[[0.0]] * 60),
            "golden: expected 2 targets",
        ),
        (lambda d: d["labelled"].update(targets=[[0.0] * 3] * 1000), "labelled: expected 2 targets"),
    ],
)
def test_rows_that_do_not_fit(pair: ArtifactPair, change: Callable[[dict[str, Any]], Any], words: str) -> None:
    with pytest.raises(InvalidChecks, match=words):
        load(changed(pair, change))


def test_rows_that_take_too_long_are_given_up(monkeypatch: pytest.MonkeyPatch, q_hat: Any) -> None:
    """A stop rule that never ends would otherwise keep the worker from its jobs."""
    endless = pair_of(q_hat=q_hat, max_mc=2**31 - 1, patience=2**31 - 1, delta=0.0)
    checks = Checks(labelled=LabelledRows(features=[[0.5] * 8], targets=[[0.0, 0.0]], seed=1))
    monkeypatch.setattr(checks_module, "MAX_SECONDS", 0.2)
    for engine in ("numpy", "auto"):
        with pytest.raises(InvalidChecks, match=r"take more than 0\.2 s"):
            load(with_checks(endless, checks.to_json()), engine=engine)


def test_recording_keeps_what_the_pair_brought(pair: ArtifactPair, model: IntervalModel) -> None:
    again = record_checks(model, pair)
    assert again.to_json() == pair.checks
    other = record_checks(model, pair, golden=(ROWS.features[:2], 9), n_calibration=77)
    assert other.labelled == again.labelled
    assert other.golden is not None
    assert other.calibration is not None
    assert (len(other.golden.features), other.calibration.n_calibration) == (2, 77)


def test_every_refusal_is_an_invalid_model() -> None:
    """So the store keeps what serves, and says why."""
    for kind in (CalibrationMismatch, InvalidChecks, GoldenMismatch, CoverageTooLow):
        assert issubclass(kind, ModelInvalid)
    assert load(pair_of(MODEL))
