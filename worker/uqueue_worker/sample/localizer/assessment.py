"""How far answers are off, and how many true positions lie inside the ellipses that should hold them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from uqueue_worker.sample.localizer.scene import Floats

LEVELS = (0.68, 0.95)
_BAND = 0.99


@dataclass(frozen=True)
class Coverage:
    """How many true positions the joint ellipses of a level held.

    binomial  where the count lies 99 times of 100 when the ellipses hold exactly their level
    band      … when they were calibrated with a finite sample, whose own chance widens it
    """

    level: float
    inside: int
    of: int
    binomial: tuple[int, int]
    band: tuple[int, int]

    @property
    def share(self) -> float:
        return self.inside / self.of

    @property
    def inside_band(self) -> bool:
        return self.band[0] <= self.inside <= self.band[1]


def squared_distances(errors_m: Floats, uncertainties: Floats) -> Floats:
    """Return the squared Mahalanobis distances (n,) of errors (n, 2) for sigma, sigma, theta in degrees (n, 3)."""
    theta = np.radians(uncertainties[:, 2])
    cosine, sine = np.cos(theta), np.sin(theta)
    along = (cosine * errors_m[:, 0] + sine * errors_m[:, 1]) / uncertainties[:, 0]
    across = (cosine * errors_m[:, 1] - sine * errors_m[:, 0]) / uncertainties[:, 1]
    return np.asarray(along**2 + across**2)


def best_temperature(squared: Floats) -> float:
    """Return the factor on all sigmas that makes the errors most likely (Guo et al., 2017; here in two dimensions)."""
    return float(np.sqrt(squared.mean() / 2))


def coverages(squared: Floats, *, n_calibration: int) -> list[Coverage]:
    """Return, per level, how many errors lie inside: their squared distance is at most -2 ln(1 - level)."""
    from scipy.stats import betabinom, binom

    found = []
    for level in LEVELS:
        inside = int((squared <= -2 * np.log(1 - level)).sum())
        bands = [
            binom.interval(_BAND, len(squared), level),
            betabinom.interval(_BAND, len(squared), *_calibrated_share(level, n_calibration)),
        ]
        binomial, band = ((int(low), int(high)) for low, high in bands)
        found.append(Coverage(level, inside, len(squared), binomial, band))
    return found


def _calibrated_share(level: float, n: int) -> tuple[float, float]:
    """Return the beta distribution of the share that ellipses hold whose temperature was estimated from n errors.

    The mean of n squared distances, chi-squared with two degrees of freedom, is off by 1 / sqrt(n) of itself (one
    sigma); the share changes by -(1 - level) ln(1 - level) times that.
    """
    deviation = -(1 - level) * np.log(1 - level) / np.sqrt(n)
    total = level * (1 - level) / deviation**2 - 1
    return level * total, (1 - level) * total


def error_quantiles_m(errors_m: Floats) -> dict[str, float]:
    """Return median, 68 % and 95 % quantile of the distances, metres."""
    distances = np.hypot(errors_m[:, 0], errors_m[:, 1])
    return {name: float(np.quantile(distances, q)) for name, q in (("median", 0.5), ("p68", 0.68), ("p95", 0.95))}
