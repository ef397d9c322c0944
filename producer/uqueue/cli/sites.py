"""Emitters whose true position is known, with what was recorded of them, and how answers compare with the truth."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uqueue.cli.recording import Opened
from uqueue.localization import ellipse_from_sigmas, scale_factor


@dataclass(frozen=True)
class Site:
    """One line of truth.json, and the recording it is about."""

    truth: dict[str, Any]
    opened: Opened

    @property
    def name(self) -> str:
        return str(self.truth["recording"])

    @property
    def latitude(self) -> float:
        return float(self.truth["latitude"])

    @property
    def longitude(self) -> float:
        return float(self.truth["longitude"])

    @property
    def samples(self) -> NDArray[np.complex64]:
        return self.opened.recording.samples

    @property
    def about(self) -> dict[str, float]:
        """Members of a request beside the samples."""
        recording = self.opened.recording
        return {
            "sample_rate_hz": recording.sample_rate_hz or 0.0,
            "frequency_mhz": (recording.frequency_hz or 0.0) / 1e6,
        }


def offset_m(site: Site, answer: dict[str, Any]) -> tuple[float, float]:
    """Return how far (east, north) the true position lies from the estimate, on the ellipsoid."""
    from pyproj import Geod

    at = answer["position"]
    azimuth, _, distance = Geod(ellps="WGS84").inv(at["longitude"], at["latitude"], site.longitude, site.latitude)
    return distance * math.sin(math.radians(azimuth)), distance * math.cos(math.radians(azimuth))


def distance_m(site: Site, answer: dict[str, Any]) -> float:
    """Return the distance between estimate and truth."""
    return math.hypot(*offset_m(site, answer))


def inside(site: Site, answer: dict[str, Any], level: float) -> bool:
    """Whether the true position lies in the joint ellipse of this level."""
    spread = answer["uncertainty"]
    axes = ellipse_from_sigmas(spread["sigma_x"], spread["sigma_y"], spread["theta"], level, "joint")
    east, north = offset_m(site, answer)
    turned = math.radians(axes["rotation_angle"])
    along, across = (
        east * math.cos(turned) + north * math.sin(turned),
        north * math.cos(turned) - east * math.sin(turned),
    )
    factor = scale_factor(level, "joint")
    return math.hypot(along / axes["semi_major_axis"], across / axes["semi_minor_axis"]) <= factor
