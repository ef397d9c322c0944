"""What the numbers of a localization model mean: degrees and metres out of whatever it declares. Pure.

Nothing is clamped: what cannot be is named, row by row, and is for the caller to refuse.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uqueue_config.localization import Declaration
from uqueue_worker.localization.geodesy import LONGEST_M, FloatArray, metres_per_degree, moved, wrapped


@dataclass(frozen=True, eq=False)
class Raw:
    """What a model gave for n rows: position (n, 2), sigma (n, 2) or (n, 3) with theta last, confidence (n,)."""

    position: NDArray[np.floating[Any]]
    sigma: NDArray[np.floating[Any]] | None
    confidence: NDArray[np.floating[Any]] | None


@dataclass(frozen=True, eq=False)
class Decoded:
    """Positions in degrees and sigmas in metres, each float64 (n,); see `uqueue_config.localization.Localization`.

    problems  what cannot be, one entry for each of the n rows; "" for a good row
    """

    latitude: FloatArray
    longitude: FloatArray
    sigma_x: FloatArray
    sigma_y: FloatArray
    theta: FloatArray
    confidence: FloatArray | None
    problems: Sequence[str]


def decode(raw: Raw, declaration: Declaration) -> Decoded:
    """Return what the numbers mean under this declaration."""
    with np.errstate(all="ignore"):  # NaN and infinities are found below
        position = raw.position.astype(np.float64)
        problems = _Problems(len(position))
        problems.note(~np.isfinite(position).all(axis=1), "a position that is not finite")
        latitude, longitude = _place(position, declaration, problems)
        problems.note(np.abs(latitude) > 90, "a latitude outside [-90, 90]")
        sigma_x, sigma_y, theta = _sigmas(raw.sigma, latitude, declaration, problems)
        confidence = None if raw.confidence is None else raw.confidence.astype(np.float64).reshape(len(position))
        if confidence is not None:
            problems.note(~((confidence >= 0) & (confidence <= 1)), "a confidence outside [0, 1]")
        # What is finite may still overflow on its way to metres.
        known = np.isfinite(latitude) & np.isfinite(longitude) & np.isfinite(sigma_x) & np.isfinite(sigma_y)
        problems.note(~known, "a position or sigma that is not finite in degrees and metres")
        return Decoded(latitude, wrapped(longitude), sigma_x, sigma_y, wrapped(theta), confidence, problems.said)


class _Problems:
    """The first problem of each row."""

    def __init__(self, rows: int) -> None:
        self.said = [""] * rows

    def note(self, bad: NDArray[np.bool_], what: str) -> None:
        for row in np.flatnonzero(bad).tolist():
            self.said[row] = self.said[row] or what


def _place(position: FloatArray, declaration: Declaration, problems: _Problems) -> tuple[FloatArray, FloatArray]:
    if declaration.position_encoding == "degrees" or declaration.origin is None:
        return position[:, 0], position[:, 1]
    metres = position
    if declaration.mean is not None and declaration.std is not None and declaration.position_encoding != "offset_m":
        metres = position * np.array(declaration.std) + np.array(declaration.mean)
    east, north = metres[:, 0], metres[:, 1]
    problems.note(np.hypot(east, north) > LONGEST_M, "an offset that leads around the Earth")
    latitude, longitude = declaration.origin
    return moved(latitude, longitude, east, north)


def _sigmas(
    sigma: NDArray[np.floating[Any]] | None, latitude: FloatArray, declaration: Declaration, problems: _Problems
) -> tuple[FloatArray, FloatArray, FloatArray]:
    if sigma is None:
        zeros = np.zeros(len(latitude))
        return zeros, zeros.copy(), zeros.copy()
    wide = sigma.astype(np.float64)
    problems.note(~np.isfinite(wide).all(axis=1), "an uncertainty that is not finite")
    problems.note((wide[:, :2] < 0).any(axis=1), "a sigma below 0")
    theta = wide[:, 2] if wide.shape[1] == 3 else np.zeros(len(wide))
    units, order = declaration.sigma_layout
    x, y = (wide[:, 1], wide[:, 0]) if order == "lat_lon" else (wide[:, 0], wide[:, 1])
    if units == "degrees":
        north_m, east_m = metres_per_degree(latitude)
        x, y = x * east_m, y * north_m
    return x.copy(), y.copy(), theta
