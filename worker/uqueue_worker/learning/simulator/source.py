"""A source: something at a place that gives off heat, substances, a field or sound."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Source:
    """What a source gives off at one moment.

    location       metres east, north and up of the sensor unit
    emissions_g_s  grams per second by substance; PM2.5 and PM10 are particles
    emf_v_m        the field at one metre; `emf_frequency_hz` is its frequency
    acoustic_db    the sound pressure level at one metre, 0 for none
    """

    location: tuple[float, float, float]
    heat_w: float = 0.0
    emissions_g_s: Mapping[str, float] = field(default_factory=dict)
    emf_v_m: float = 0.0
    emf_frequency_hz: float = 60.0
    acoustic_db: float = 0.0

    @property
    def distance_meters(self) -> float:
        return math.hypot(*self.location)
