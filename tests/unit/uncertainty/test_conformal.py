from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from uqueue_worker.uncertainty import conformal_interval, conformal_quantile, conformal_rank, cqr_scores


def test_the_interval_has_the_wider_type() -> None:
    lower = np.array([[0.1, 0.2]], np.float32)
    upper = np.array([[0.3, 0.4]], np.float32)
    for q_hat in (0.1, np.float64(0.1), [0.1], np.array([0.1, 0.1])):
        low, high = conformal_interval(lower, upper, q_hat)
        assert low.dtype == high.dtype == np.float64
        np.testing.assert_array_equal(low, lower.astype(np.float64) - 0.1)
        np.testing.assert_array_equal(high, upper.astype(np.float64) + 0.1)
    assert conformal_interval(lower, upper, np.float32(0.1))[0].dtype == np.float32


def test_a_negative_correction_narrows_and_may_cross() -> None:
    low, high = conformal_interval([[1.0]], [[2.0]], [-0.75])
    assert (low.item(), high.item()) == (1.75, 1.25)


def test_scores_are_positive_outside_and_negative_inside() -> None:
    scores = cqr_scores([[0.0], [1.5], [4.0]], [[1.0], [1.0], [1.0]], [[2.0], [2.0], [2.0]])
    np.testing.assert_array_equal(scores, [[1.0], [-0.5], [2.0]])
    with pytest.raises(ValueError, match="one shape"):
        cqr_scores([1.0], [1.0, 2.0], [3.0])


@pytest.mark.parametrize(
    ("n", "alpha", "rank"), [(9, 0.1, 9), (19, 0.1, 18), (99, 0.01, 99), (10, 0.1, 10), (999, 0.1, 900)]
)
def test_ranks_are_exact(n: int, alpha: float, rank: int) -> None:
    assert conformal_rank(n, alpha) == rank
    assert conformal_rank(n, np.float32(alpha)) == rank
    assert conformal_quantile(np.arange(1.0, n + 1), alpha) == rank


@given(n=st.integers(1, 5000), percent=st.integers(1, 99))
def test_ranks_follow_the_definition(n: int, percent: int) -> None:
    exact = math.ceil((n + 1) * (1 - Fraction(percent, 100)))
    if exact <= n:
        assert conformal_rank(n, percent / 100) == exact
    else:
        with pytest.raises(ValueError, match="no finite threshold"):
            conformal_rank(n, percent / 100)


@pytest.mark.parametrize(("alpha", "needed"), [(0.1, 9), (0.05, 19), (0.2, 4), (0.3, 3)])
def test_too_few_points_say_how_many_are_needed(alpha: float, needed: int) -> None:
    with pytest.raises(ValueError, match=f"{needed} are needed"):
        conformal_quantile(np.zeros(needed - 1), alpha)
    assert conformal_quantile(np.zeros(needed), alpha) == 0.0


def test_the_quantile_is_one_of_the_scores_per_target() -> None:
    scores = np.random.default_rng(0).normal(size=(50, 3))
    found = conformal_quantile(scores, 0.1)
    np.testing.assert_array_equal(found, [sorted(scores[:, target])[45] for target in range(3)])
    assert isinstance(conformal_quantile(scores[:, 0], 0.1), float)


@pytest.mark.parametrize("alpha", [0.0, 1.0, -0.1, float("nan"), float("inf")])
def test_alpha_outside_its_range_is_refused(alpha: float) -> None:
    with pytest.raises(ValueError, match="strictly between 0 and 1"):
        conformal_quantile(np.zeros(100), alpha)


def test_scores_that_are_nan_or_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="NaN"):
        conformal_quantile([0.0] * 20 + [float("nan")], 0.1)
    with pytest.raises(ValueError, match="shape"):
        conformal_quantile(np.zeros((2, 2, 2)), 0.1)
