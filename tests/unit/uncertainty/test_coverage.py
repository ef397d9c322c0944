from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from uqueue_worker.uncertainty import (
    conformal_interval,
    conformal_quantile,
    conformal_rank,
    coverage_band,
    coverage_report,
    cqr_scores,
    empirical_coverage,
)


def test_the_band_is_the_beta_binomial_one() -> None:
    """By the rank of a test score among the calibration scores, summed over its uniform law with exact fractions."""
    n, m, alpha = 19, 7, 0.1
    k = conformal_rank(n, alpha)
    weights = [_exact_probability(count, m, n, k) for count in range(m + 1)]
    assert sum(weights) == 1
    low, high = coverage_band(n, m, alpha, level=0.9)
    assert sum(weights[low : high + 1]) >= Fraction(9, 10)
    assert sum(weights[:low]) <= Fraction(1, 20)
    assert sum(weights[high + 1 :]) <= Fraction(1, 20)


def _exact_probability(count: int, m: int, n: int, k: int) -> Fraction:
    """Return P(count of m new points rank below the k-th of n), all orders of n + m points being alike."""
    from math import comb

    return Fraction(comb(count + k - 1, count) * comb(m - count + n - k, m - count), comb(n + m, m))


def test_split_conformal_coverage_stays_in_its_band() -> None:
    """2,000 fresh calibrations; at a level of 99 % fewer than 97.5 % inside has a probability below 1e-9."""
    rng = np.random.default_rng(5)
    n, m, alpha = 100, 200, 0.1
    low, high = coverage_band(n, m, alpha)
    inside = 0
    for _ in range(2000):
        y = rng.normal(size=n + m)
        q_hat = conformal_quantile(cqr_scores(y[:n], np.full(n, -1.0), np.full(n, 1.0)), alpha)
        lower, upper = conformal_interval(np.full((m, 1), -1.0), np.full((m, 1), 1.0), q_hat)
        inside += int(low <= empirical_coverage(y[n:, None], lower, upper)[0] <= high)
    assert inside >= 0.975 * 2000


def test_coverage_counts_borders_and_never_nan() -> None:
    y = np.array([[1.0, 5.0], [2.0, np.nan], [3.0, 7.0]])
    counts = empirical_coverage(y, np.ones((3, 2)), np.full((3, 2), 2.0))
    assert counts.tolist() == [2, 0]
    with pytest.raises(ValueError, match="rows, targets"):
        empirical_coverage(y, np.ones(3), np.ones(3))


def test_a_report_compares_with_the_band() -> None:
    y = np.column_stack([np.linspace(0, 0.99, 100), np.full(100, 9.0)])
    report = coverage_report(y, np.zeros((100, 2)), np.ones((100, 2)), n_calibration=50, alpha=0.1)
    assert report.fraction.tolist() == [1.0, 0.0]
    assert report.plausible.tolist() == [report.high == 100, False]
    assert report.nominal == 0.9


@pytest.mark.parametrize(
    ("n", "m", "level", "message"), [(8, 10, 0.99, "needed"), (9, 0, 0.99, "n_test"), (9, 5, 1.0, "level")]
)
def test_a_band_that_cannot_be_is_refused(n: int, m: int, level: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        coverage_band(n, m, 0.1, level)
