"""How often intervals hold the truth, and how often they should.

The coverage of a split-conformal interval on fresh points is random, because the calibration points are. Given n of
them and l = floor((n + 1) alpha), the number of covered points among m follows BetaBinomial(m, n + 1 - l, l) for scores
without ties: Vovk, "Conditional validity of inductive conformal predictors", ACML 2012; Angelopoulos and Bates,
"A gentle introduction to conformal prediction", 2021, appendix C.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike, NDArray

from uqueue_worker.uncertainty.conformal import conformal_rank, exact_share


@dataclass(frozen=True, eq=False)
class CoverageReport:
    """Measured coverage beside what calibration promises for it, per target and not jointly.

    covered  int (targets,), points inside their interval
    n_test   points looked at
    low, high  the inclusive band of counts that holds `covered` with probability `level`, if points are exchangeable
    """

    covered: NDArray[np.int64]
    n_test: int
    low: int
    high: int
    level: float
    nominal: float

    @property
    def fraction(self) -> NDArray[np.float64]:
        """(targets,), covered / n_test."""
        return np.asarray(self.covered / self.n_test)

    @property
    def plausible(self) -> NDArray[np.bool_]:
        """(targets,), True where the count lies inside the band."""
        return np.asarray((self.low <= self.covered) & (self.covered <= self.high))


def coverage_band(n_calibration: int, n_test: int, alpha: float | Fraction, level: float = 0.99) -> tuple[int, int]:
    """Return (low, high): inclusive counts that hold the covered points among `n_test` with probability >= level.

    Raises ValueError when n_calibration is too small for alpha, n_test < 1, or level is outside (0, 1).
    """
    from scipy.stats import betabinom

    if n_test < 1 or not 0 < level < 1:
        raise ValueError(f"a band needs n_test >= 1 and a level in (0, 1), got {n_test} and {level}")
    conformal_rank(n_calibration, alpha)
    outside = math.floor((n_calibration + 1) * exact_share(alpha))
    law = betabinom(n_test, n_calibration + 1 - outside, outside)
    tail = (1 - level) / 2
    return int(law.ppf(tail)), int(law.ppf(1 - tail))


def empirical_coverage(y: ArrayLike, lower: ArrayLike, upper: ArrayLike) -> NDArray[np.int64]:
    """Return int (targets,): how many of y (rows, targets) lie in [lower, upper], borders included; NaN never does."""
    truth, low, high = np.asarray(y), np.asarray(lower), np.asarray(upper)
    if not truth.shape == low.shape == high.shape or truth.ndim != 2:
        raise ValueError(
            f"y, lower and upper must all be (rows, targets), got {truth.shape}, {low.shape} and {high.shape}"
        )
    return np.asarray(((low <= truth) & (truth <= high)).sum(axis=0), dtype=np.int64)


def coverage_report(
    y: ArrayLike,
    lower: ArrayLike,
    upper: ArrayLike,
    *,
    n_calibration: int,
    alpha: float | Fraction,
    level: float = 0.99,
) -> CoverageReport:
    """Return measured coverage of intervals (rows, targets) that `n_calibration` points calibrated."""
    covered = empirical_coverage(y, lower, upper)
    n_test = len(np.asarray(y))
    low, high = coverage_band(n_calibration, n_test, alpha, level)
    return CoverageReport(covered, n_test, low, high, level, float(1 - exact_share(alpha)))
