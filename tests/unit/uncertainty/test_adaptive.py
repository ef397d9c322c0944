"""The vectorised stop rule against the row-by-row loop of the specification, bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from uqueue_worker.uncertainty import PassSummary, adaptive_passes, rule_without_spread

Float32 = NDArray[np.float32]


def stop_row(history: Float32, patience: int, delta: float, max_passes: int) -> tuple[Float32, Float32, int, bool]:
    """Return mean, deviation, passes and convergence of one row (passes, heads, targets), the slow way."""
    counter = 0
    previous: Any = None
    for passes in range(1, max_passes + 1):
        current = np.std(history[:passes], axis=0)
        if passes > 1:
            counter = counter + 1 if np.all(np.abs(previous - current) <= delta) else 0
        previous = current
        if counter >= patience:
            break
    return np.mean(history[:passes], axis=0), current, passes, counter >= patience


def run(history: Float32, **rule: Any) -> PassSummary:
    return adaptive_passes(lambda rows, start, count: history[start : start + count, rows], history.shape[1], **rule)


def assert_same_bits(history: Float32, **rule: Any) -> None:
    summary = run(history, **rule)
    for row in range(history.shape[1]):
        mean, std, passes, converged = stop_row(history[:, row], **rule)
        assert (summary.passes_used[row], summary.converged[row]) == (passes, converged)
        assert summary.mean[row].tobytes() == mean.tobytes()
        assert summary.std[row].tobytes() == std.tobytes()


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.integers(1, 40), st.integers(1, 3), st.integers(1, 3)),
    patience=st.integers(0, 5),
    max_passes=st.integers(1, 60),
    delta=st.sampled_from([0.0, 5e-4, 0.01, 0.05, 0.125, 1e30]),
    quantum=st.sampled_from([0.0, 0.25, 1.0]),
)
def test_every_row_stops_where_the_loop_stops(
    seed: int, shape: tuple[int, ...], patience: int, max_passes: int, delta: float, quantum: float
) -> None:
    history = np.random.default_rng(seed).normal(20, 1, (max_passes, *shape)).astype(np.float32)
    if quantum:
        history = (np.round(history / quantum) * quantum).astype(np.float32)
    assert_same_bits(history, patience=patience, delta=delta, max_passes=max_passes)


@pytest.mark.parametrize("shape", [(3, 2, 2), (1, 1, 1), (5, 1, 1)])
def test_a_change_of_exactly_delta_counts_as_still(shape: tuple[int, ...]) -> None:
    history = np.zeros((4, *shape), np.float32)
    history[1] = 1.0  # deviations 0, 0.5, sqrt(2)/3, ...
    rule = {"patience": 1, "max_passes": 4}
    assert run(history, delta=0.5, **rule).passes_used.tolist() == [2] * shape[0]
    assert (run(history, delta=np.nextafter(0.5, 0), **rule).passes_used == 2).all()  # 0.5 as float32, too
    assert (run(history, delta=0.4999, **rule).passes_used > 2).all()
    assert_same_bits(history, delta=0.5, **rule)


def test_many_rows_in_several_blocks_give_the_same_bits() -> None:
    history = np.random.default_rng(1).normal(size=(60, 5000, 2, 2)).astype(np.float32)
    rule = {"patience": 2, "delta": 0.01, "max_passes": 60}
    whole, tail = run(history, **rule), run(history[:, 4990:], **rule)
    np.testing.assert_array_equal(whole.mean[4990:], tail.mean)
    np.testing.assert_array_equal(whole.passes_used[4990:], tail.passes_used)
    for row in range(0, 5000, 499):
        assert whole.passes_used[row] == stop_row(history[:, row], **rule)[2]


def test_a_long_run_splits_rows_so_that_memory_stays_bounded() -> None:
    largest = 0

    def draw(rows: NDArray[np.intp], start: int, count: int) -> Float32:
        nonlocal largest
        largest = max(largest, len(rows))
        return np.random.default_rng(start).normal(size=(count, len(rows), 2, 1)).astype(np.float32)

    adaptive_passes(draw, 3000, patience=1, delta=0.5, max_passes=1000)
    assert largest == (1 << 21) // 1000


@pytest.mark.parametrize(
    ("patience", "max_passes", "passes", "converged"),
    [(0, 50, 1, True), (2, 1, 1, False), (0, 1, 1, True), (2, 50, 3, True), (2, 3, 3, True), (2, 2, 2, False)],
)
def test_equal_passes_stop_at_the_earliest_pass(patience: int, max_passes: int, passes: int, converged: bool) -> None:
    history = np.ones((max_passes, 4, 2, 2), np.float32)
    summary = run(history, patience=patience, delta=0.0, max_passes=max_passes)
    assert (summary.passes_used == passes).all()
    assert (summary.converged == converged).all()
    assert rule_without_spread(patience=patience, max_passes=max_passes) == (passes, converged)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("values", [(1, 1), (2, 2)])
def test_a_row_that_is_not_finite_ends_and_shows(bad: float, values: tuple[int, int]) -> None:
    history = np.ones((50, 3, *values), np.float32)
    history[1:, 1] = bad
    summary = run(history, patience=2, delta=5e-4, max_passes=50)
    assert summary.passes_used.tolist() == [3, 50, 3]
    assert summary.converged.tolist() == [True, False, True]
    assert np.isfinite(summary.mean).all(axis=(1, 2)).tolist() == [True, False, True]


def test_only_rows_that_have_not_stopped_are_drawn_again() -> None:
    history = np.random.default_rng(0).normal(size=(50, 6, 2, 2)).astype(np.float32)
    history[:, ::2] = 1
    asked = []

    def draw(rows: NDArray[np.intp], start: int, count: int) -> Float32:
        asked.append((rows.tolist(), start, count))
        return history[start : start + count, rows]

    adaptive_passes(draw, 6, patience=2, delta=0.0, max_passes=50)
    assert asked == [([0, 1, 2, 3, 4, 5], 0, 16), ([1, 3, 5], 16, 16), ([1, 3, 5], 32, 18)]


def test_progress_reports_finished_rows_and_may_cancel() -> None:
    history = np.random.default_rng(0).normal(size=(50, 6, 2, 2)).astype(np.float32)
    history[:, ::2] = 1
    seen: list[int] = []
    run(history, patience=2, delta=0.0, max_passes=50, on_progress=seen.append)
    assert seen == [3, 4, 6]

    def cancel(rows_done: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(history, patience=2, delta=0.0, max_passes=50, on_progress=cancel)


@pytest.mark.parametrize(
    "wrong", [{"n_rows": 0}, {"patience": -1}, {"delta": -1.0}, {"delta": float("nan")}, {"max_passes": 0}]
)
def test_a_rule_without_sense_is_refused(wrong: dict[str, Any]) -> None:
    arguments = {"n_rows": 1, "patience": 2, "delta": 5e-4, "max_passes": 50, **wrong}
    with pytest.raises(ValueError, match="needs n_rows >= 1"):
        adaptive_passes(lambda rows, start, count: np.zeros((count, 1, 2, 1), np.float32), **arguments)
