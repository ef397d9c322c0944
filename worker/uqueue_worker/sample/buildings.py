"""Made-up buildings with the columns and ranges of the UCI "Energy Efficiency" data set (Tsanas and Xifara, 2012).

Every building has the same volume, 771.75 m3; compactness and storeys decide its surfaces. The loads follow a smooth
formula whose noise grows with the load and with the glazing, so intervals must have different widths.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

FEATURES: Final = {
    "X1": "relative compactness",
    "X2": "surface area, m2",
    "X3": "wall area, m2",
    "X4": "roof area, m2",
    "X5": "overall height, m",
    "X6": "orientation, 2 to 5",
    "X7": "glazing area, share of the floor area",
    "X8": "glazing area distribution, 0 to 5",
}
TARGETS: Final = {"Y1": "heating load, kWh/m2", "Y2": "cooling load, kWh/m2"}
VOLUME: Final = 771.75


@dataclass(frozen=True)
class Buildings:
    """features float64 (rows, 8), targets float64 (rows, 2): the columns of FEATURES and TARGETS."""

    features: Floats
    targets: Floats


def draw_buildings(rows: int, rng: np.random.Generator) -> Buildings:
    """Return buildings that are drawn independently of each other."""
    compactness = rng.uniform(0.62, 0.98, rows)
    surface = np.clip(6 * VOLUME ** (2 / 3) / compactness, 514.5, 808.5)
    height = np.where(compactness > 0.79, 7.0, 3.5)
    roof = VOLUME / height
    wall = np.clip(surface - 2 * roof, 245.0, 416.5)
    orientation = rng.integers(2, 6, rows).astype(float)
    glazing = rng.choice([0.0, 0.1, 0.25, 0.4], rows)
    distribution = np.where(glazing > 0, rng.integers(1, 6, rows), 0).astype(float)
    features = np.stack([compactness, surface, wall, roof, height, orientation, glazing, distribution], axis=1)
    loads = mean_loads(features)
    deviation = 0.3 + loads * (0.02 + 0.15 * glazing[:, np.newaxis])
    return Buildings(features, loads + deviation * rng.normal(size=loads.shape))


def mean_loads(features: Floats) -> Floats:
    """Return the loads (rows, 2) without noise."""
    compactness, _, wall, _, height, orientation, glazing, distribution = features.T
    tall, sun = height / 3.5 - 1, np.pi / 2 * (orientation - 2)
    heating = 9 + 15 * tall + 0.02 * (wall - 300) - 8 * (compactness - 0.8)
    heating += glazing * (24 + 3 * np.cos(sun) + np.sin(distribution))
    cooling = 12 + 14 * tall + 0.018 * (wall - 300) - 6 * (compactness - 0.8)
    cooling += glazing * (19 + 5 * np.sin(sun) + np.cos(distribution))
    return np.stack([heating, cooling], axis=1)
