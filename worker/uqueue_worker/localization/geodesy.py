"""Degrees and metres on the WGS-84 ellipsoid. Pure: arrays in, arrays out."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

EQUATOR_M: Final = 6_378_137.0
FLATTENING: Final = 1 / 298.257223563
POLE_M: Final = EQUATOR_M * (1 - FLATTENING)
ECCENTRICITY2: Final = FLATTENING * (2 - FLATTENING)
#: From one pole to the other: no two places are further apart.
LONGEST_M: Final = 20_003_931.5
_ROUNDS: Final = 50


def metres_per_degree(latitude: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return how many metres one degree of latitude (northward) and one of longitude (eastward) have there."""
    sine, cosine = np.sin(np.radians(latitude)), np.cos(np.radians(latitude))
    w = 1 - ECCENTRICITY2 * sine**2
    meridian, transverse = EQUATOR_M * (1 - ECCENTRICITY2) / w**1.5, EQUATOR_M / np.sqrt(w)
    return np.radians(meridian), np.radians(transverse * np.maximum(cosine, 0.0))


def wrapped(degrees: FloatArray) -> FloatArray:
    """Return angles as they are within [-180, 180], others as the same direction in there."""
    return np.where(np.abs(degrees) <= 180, degrees, (degrees + 180) % 360 - 180)


def moved(latitude: float, longitude: float, east: FloatArray, north: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return latitude and longitude (n,) of what lies hypot(east, north) metres from a place, in the direction of
    atan2(east, north): Vincenty's direct solution of the geodesic, good to a millimetre.

    T. Vincenty, Survey Review 23 (1975), 88-93.
    """
    distance, azimuth = np.hypot(east, north), np.arctan2(east, north)
    sin_a1, cos_a1 = np.sin(azimuth), np.cos(azimuth)
    tan_u1 = (1 - FLATTENING) * np.tan(np.radians(latitude))
    cos_u1 = 1 / np.sqrt(1 + tan_u1**2)
    sin_u1 = tan_u1 * cos_u1
    sigma1 = np.arctan2(tan_u1, cos_a1)
    sin_a = cos_u1 * sin_a1
    cos2_a = 1 - sin_a**2
    u2 = cos2_a * (EQUATOR_M**2 - POLE_M**2) / POLE_M**2
    a = 1 + u2 / 16384 * (4096 + u2 * (-768 + u2 * (320 - 175 * u2)))
    b = u2 / 1024 * (256 + u2 * (-128 + u2 * (74 - 47 * u2)))
    sigma = distance / (POLE_M * a)
    for _ in range(_ROUNDS):
        mid, sin_s, cos_s = np.cos(2 * sigma1 + sigma), np.sin(sigma), np.cos(sigma)
        last = b / 6 * mid * (-3 + 4 * sin_s**2) * (-3 + 4 * mid**2)
        change = b * sin_s * (mid + b / 4 * (cos_s * (-1 + 2 * mid**2) - last))
        before, sigma = sigma, distance / (POLE_M * a) + change
        if np.all(np.abs(sigma - before) < 1e-13):
            break
    mid, sin_s, cos_s = np.cos(2 * sigma1 + sigma), np.sin(sigma), np.cos(sigma)
    t = sin_u1 * sin_s - cos_u1 * cos_s * cos_a1
    there = np.arctan2(sin_u1 * cos_s + cos_u1 * sin_s * cos_a1, (1 - FLATTENING) * np.hypot(sin_a, t))
    turn = np.arctan2(sin_s * sin_a1, cos_u1 * cos_s - sin_u1 * sin_s * cos_a1)
    c = FLATTENING / 16 * cos2_a * (4 + FLATTENING * (4 - 3 * cos2_a))
    arc = sigma + c * sin_s * (mid + c * cos_s * (-1 + 2 * mid**2))
    return np.degrees(there), wrapped(longitude + np.degrees(turn - (1 - c) * FLATTENING * sin_a * arc))
