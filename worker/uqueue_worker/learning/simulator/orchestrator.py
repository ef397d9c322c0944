"""The environment of a sensor unit: surroundings that fluctuate, and the sources of the scenario that runs in it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from uqueue_worker.learning.simulator import physics
from uqueue_worker.learning.simulator.source import Source

_MEMORY_SECONDS = 120.0  # how long a fluctuation lasts
#: Micrograms per cubic metre in clean air, and what full traffic and full machinery add to them.
_CLEAN = {"CH2O": 2.5, "Acetaldehyde": 3.0, "Phenol": 1.0, "CO": 200.0, "NOx": 15.0, "Ozone": 50.0, "PM2.5": 6.0}
_TRAFFIC = {"CH2O": 6.0, "Acetaldehyde": 5.0, "Phenol": 2.0, "CO": 900.0, "NOx": 90.0, "PM2.5": 28.0, "PM10": 20.0}
_MACHINERY = {"VOC": 40.0, "PM10": 8.0}
_QUIET_DB, _TRAFFIC_DB, _MACHINERY_DB, _RAIN_DB = 28.0, 68.0, 66.0, 50.0
_BACKGROUND_MICROTESLAS, _MACHINERY_MICROTESLAS = 0.05, 0.35
_MACHINERY_RISE_CELSIUS = 9.0


@dataclass(frozen=True)
class Surroundings:
    """Weather and confounders; traffic and machinery go from 0 to 1."""

    air_temperature_celsius: float = 18.0
    relative_humidity_percent: float = 50.0
    wind_speed_mps: float = 1.5
    wind_direction_degrees: float = 270.0
    traffic: float = 0.2
    machinery: float = 0.2
    solar_intensity_w_m2: float = 0.0
    precipitation_mm_hr: float = 0.0
    pressure_hpa: float = 1013.0


@dataclass(frozen=True)
class HotSpot:
    """A source in the thermal image: where it is seen from the sensor unit, and how much it stands out."""

    location: tuple[float, float, float]
    rise_celsius: float


@dataclass(frozen=True)
class EnvironmentState:
    """What holds at the sensor unit at one moment, before any sensor has looked at it."""

    time_seconds: float
    surroundings: Surroundings
    concentrations_micrograms_m3: Mapping[str, float]
    field_microteslas: float
    field_frequency_hz: float
    sound_level_db: float
    hot_spots: tuple[HotSpot, ...]


class EnvironmentOrchestrator:
    """Holds surroundings and sources, and lets time pass. Everything random comes from the seed given to `reset`."""

    def __init__(self, seed: int = 0) -> None:
        self.reset(seed)

    def reset(self, seed: int) -> None:
        """Go back to the start: usual surroundings, no sources, the clock at 0 and the random stream of that seed."""
        self.random = np.random.Generator(np.random.PCG64(seed))
        self.time_seconds = 0.0
        self.surroundings = Surroundings()
        self._current = self.surroundings
        self._sources: dict[str, Source] = {}
        self._fluctuation = self.random.standard_normal(5)

    def surround(self, **conditions: Any) -> None:
        """Set the surroundings that are usual in this scenario; what is not named has its default."""
        self.surroundings = self._current = Surroundings(**conditions)

    def adjust(self, **conditions: Any) -> None:
        """Set how the surroundings differ from the usual ones now."""
        self._current = replace(self.surroundings, **conditions)

    def place(self, name: str, source: Source) -> None:
        """Put a source there, in place of an earlier one of that name."""
        self._sources[name] = source

    def remove(self, name: str) -> None:
        self._sources.pop(name, None)

    def update(self, dt: float) -> None:
        """Let `dt` seconds pass. Fluctuations fade and renew; one long step is distributed as many short ones."""
        self.time_seconds += dt
        kept = math.exp(-dt / _MEMORY_SECONDS)
        drawn = self.random.standard_normal(5)
        self._fluctuation = kept * self._fluctuation + math.sqrt(1 - kept * kept) * drawn

    def get_state(self) -> EnvironmentState:
        """Return what holds at the sensor unit now."""
        now = self._fluctuating()
        sources = list(self._sources.values())
        strongest = max(
            sources, key=lambda source: physics.field_microteslas(source.emf_v_m, source.distance_meters), default=None
        )
        fields = [physics.field_microteslas(source.emf_v_m, source.distance_meters) for source in sources]
        background = _BACKGROUND_MICROTESLAS + _MACHINERY_MICROTESLAS * now.machinery
        shown = strongest is not None and strongest.emf_v_m > 0
        return EnvironmentState(
            time_seconds=self.time_seconds,
            surroundings=now,
            concentrations_micrograms_m3=_concentrations(now, sources),
            field_microteslas=math.hypot(background, *fields),
            field_frequency_hz=strongest.emf_frequency_hz if shown and strongest is not None else 50.0,
            sound_level_db=_sound(now, sources),
            hot_spots=tuple(_hot_spots(now, sources)),
        )

    def _fluctuating(self) -> Surroundings:
        warmth, moisture, wind, traffic, machinery = self._fluctuation.tolist()
        usual = self._current
        return replace(
            usual,
            air_temperature_celsius=min(max(usual.air_temperature_celsius + 0.4 * warmth, -50.0), 100.0),
            relative_humidity_percent=min(max(usual.relative_humidity_percent + 1.5 * moisture, 1.0), 100.0),
            wind_speed_mps=usual.wind_speed_mps * math.exp(0.2 * wind),
            traffic=min(max(usual.traffic * math.exp(0.15 * traffic), 0.0), 1.2),
            machinery=min(max(usual.machinery * math.exp(0.15 * machinery), 0.0), 1.2),
        )


def _concentrations(now: Surroundings, sources: list[Source]) -> dict[str, float]:
    found = dict(_CLEAN)
    washed = 1 / (1 + 0.05 * now.precipitation_mm_hr)
    aired = 1 / (1 + 0.06 * now.wind_speed_mps)
    for added, share in ((_TRAFFIC, now.traffic * aired * washed), (_MACHINERY, now.machinery * aired)):
        for name, amount in added.items():
            found[name] = found.get(name, 0.0) + amount * share
    for source in sources:
        for name, rate in source.emissions_g_s.items():
            left = physics.ozone_left(now.relative_humidity_percent) if name == "Ozone" else 1.0
            amount = physics.concentration_micrograms_m3(rate * left, source.distance_meters, now.wind_speed_mps)
            found[name] = found.get(name, 0.0) + amount
    return found


def _sound(now: Surroundings, sources: list[Source]) -> float:
    levels = [_QUIET_DB, _QUIET_DB + 2.2 * now.wind_speed_mps]
    levels += [level * share**0.5 for level, share in ((_TRAFFIC_DB, now.traffic), (_MACHINERY_DB, now.machinery))]
    levels += [_RAIN_DB + now.precipitation_mm_hr / 4] if now.precipitation_mm_hr > 0 else []
    levels += [physics.level_at(source.acoustic_db, source.distance_meters) for source in sources if source.acoustic_db]
    return min(physics.summed_levels(levels), 194.0)


def _hot_spots(now: Surroundings, sources: list[Source]) -> list[HotSpot]:
    found = [
        HotSpot(source.location, physics.thermal_rise_celsius(source.heat_w, source.distance_meters))
        for source in sources
        if source.heat_w > 0
    ]
    return [*found, HotSpot((4.0, 3.0, 1.0), _MACHINERY_RISE_CELSIUS * now.machinery)]
