"""The scene: where receivers and emitters are, and how strongly each receiver hears an emitter.

An emergency beacon of 50 mW at 121.5 MHz floats in a square of 2 km. Three masts of 15 m on the shore listen.
Power decays as over a plane conducting earth (two rays, reflection coefficient -1; far away with the fourth power of
the distance), noise is thermal plus man-made (ITU-R P.372, residential). Two things keep the distances from being read
off exactly: the radiated power is off by 1 dB, and every path fades by 1 dB of its own (log-normal, one sigma).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

#: Degrees latitude, longitude on the Markermeer; all metres below are (east, north) of it.
ORIGIN: Final = (52.58, 5.22)
RECEIVERS_M: Final = ((-1500.0, -900.0), (1500.0, -1100.0), (100.0, 1600.0))
HALF_SIDE_M: Final = 1000.0
FREQUENCY_HZ: Final = 121.5e6
SAMPLE_RATE_HZ: Final = 192_000.0
EIRP_DBM: Final = 17.0
POWER_SIGMA_DB: Final = 1.0
FADING_SIGMA_DB: Final = 1.0
RECEIVER_HEIGHT_M: Final = 15.0
EMITTER_HEIGHT_M: Final = 1.0
NOISE_FIGURE_DB: Final = 16.0
_THERMAL_DBM_PER_HZ: Final = -174.0
_LIGHT_M_PER_S: Final = 299_792_458.0


@dataclass(frozen=True)
class Emitter:
    """An emitter at (east, north) metres, and the signal-to-noise ratios, dB (receivers,), at which it is heard."""

    position_m: Floats
    snr_db: Floats


def draw_emitter(rng: np.random.Generator) -> Emitter:
    """Return an emitter somewhere in the square, with its power error and fading drawn."""
    position = rng.uniform(-HALF_SIDE_M, HALF_SIDE_M, 2)
    error = rng.normal(0, POWER_SIGMA_DB) + rng.normal(0, FADING_SIGMA_DB, len(RECEIVERS_M))
    return Emitter(position, expected_snr_db(position) + error)


def expected_snr_db(positions_m: Floats) -> Floats:
    """Return the ratios (..., receivers) in dB over the whole band, without errors, for positions (..., 2)."""
    apart = positions_m[..., None, :] - np.asarray(RECEIVERS_M)
    ground = np.sqrt(np.square(apart).sum(axis=-1))
    distance = np.hypot(ground, RECEIVER_HEIGHT_M - EMITTER_HEIGHT_M)
    wavelength = _LIGHT_M_PER_S / FREQUENCY_HZ
    two_rays = 2 * np.abs(np.sin(2 * np.pi * RECEIVER_HEIGHT_M * EMITTER_HEIGHT_M / (wavelength * distance)))
    gain_db = 20 * np.log10(wavelength / (4 * np.pi * distance) * two_rays)
    noise_dbm = _THERMAL_DBM_PER_HZ + 10 * np.log10(SAMPLE_RATE_HZ) + NOISE_FIGURE_DB
    return np.asarray(EIRP_DBM + gain_db - noise_dbm)


def best_guess_m(snr_db: Floats, *, steps: int = 101) -> Floats:
    """Return positions (n, 2): the posterior means for exactly known ratios (n, receivers).

    No estimator that reads these ratios has a smaller mean squared error: what is left comes from power error and
    fading alone. The posterior is summed over a grid of steps x steps.
    """
    axis = np.linspace(-HALF_SIDE_M, HALF_SIDE_M, steps)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    count = len(RECEIVERS_M)
    covariance = POWER_SIGMA_DB**2 * np.ones((count, count)) + FADING_SIGMA_DB**2 * np.eye(count)
    whiten = np.linalg.cholesky(np.linalg.inv(covariance))
    expected = expected_snr_db(grid) @ whiten
    found = []
    for seen in snr_db @ whiten:
        score = -np.square(seen - expected).sum(axis=1) / 2
        weight = np.exp(score - score.max())
        found.append(weight @ grid / weight.sum())
    return np.array(found)
