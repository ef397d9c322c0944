"""How strength at a source becomes strength at the sensor unit. Pure functions; no claim beyond plausible shapes.

Every quantity falls with the distance and none rises again, wind dilutes what travels in air, and levels of sound add
as energies do. The constants were chosen so that a source of usual strength is plain at a few metres and lost in the
background at about twenty-five.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

_PLUME_METERS = 3.0
_FIELD_METERS = 2.0
_THERMAL_METERS = 2.0
_THERMAL_CELSIUS_PER_WATT = 0.08
_MOLAR_VOLUME_LITRES = 24.45  # of a gas at 25 degrees Celsius and 1 atm
_VOLTS_PER_METRE_PER_MICROTESLA = 299.792458  # of a wave: the speed of light
_MOLAR_GRAMS = {
    "CH2O": 30.03,
    "Formaldehyde": 30.03,
    "Acetaldehyde": 44.05,
    "Acrolein": 56.06,
    "Phenol": 94.11,
    "Cresol": 108.14,
    "Guaiacol": 124.14,
    "CO": 28.01,
    "NOx": 46.01,
    "Ozone": 48.0,
}
_OTHER_MOLAR_GRAMS = 90.0


def dilution(distance_meters: float, wind_speed_mps: float) -> float:
    """Return the share of an emission's strength that reaches the sensor unit, 0 to 1."""
    return math.pow(1 + distance_meters / _PLUME_METERS, -1.6) / (1 + 0.25 * wind_speed_mps)


def concentration_micrograms_m3(rate_g_s: float, distance_meters: float, wind_speed_mps: float) -> float:
    """Return what a steady emission adds to the air at the sensor unit."""
    return rate_g_s * 1e6 * dilution(distance_meters, wind_speed_mps)


def parts_per_billion(substance: str, micrograms_m3: float) -> float:
    """Return a concentration by volume; substances without a known molar mass count as one of 90 g."""
    return micrograms_m3 * _MOLAR_VOLUME_LITRES / _MOLAR_GRAMS.get(substance, _OTHER_MOLAR_GRAMS)


def ozone_left(relative_humidity_percent: float) -> float:
    """Return the share of a corona's ozone that humid air leaves: all of it to 60 %, a third at 98 %."""
    return 1 - 0.7 * max(0.0, relative_humidity_percent - 60) / 40


def humidity_gain(relative_humidity_percent: float) -> float:
    """Return by what humid air multiplies the signal of a VOC channel; 1 at 50 %."""
    return 1 + 0.006 * (relative_humidity_percent - 50)


def field_microteslas(emf_v_m: float, distance_meters: float) -> float:
    """Return the field at the sensor unit of a source that has `emf_v_m` beside it."""
    return emf_v_m / _VOLTS_PER_METRE_PER_MICROTESLA / (1 + (distance_meters / _FIELD_METERS) ** 2)


def level_at(acoustic_db: float, distance_meters: float) -> float:
    """Return the sound pressure level of a source; it is given at one metre."""
    return acoustic_db - 20 * math.log10(max(distance_meters, 1.0))


def summed_levels(levels_db: Iterable[float]) -> float:
    """Return the level of sounds together, at least 0 dB."""
    return max(0.0, 10 * math.log10(sum(10 ** (level / 10) for level in levels_db) or 1.0))


def thermal_rise_celsius(heat_w: float, distance_meters: float) -> float:
    """Return by how much a hot source stands out in a thermal image."""
    return _THERMAL_CELSIUS_PER_WATT * heat_w / (1 + (distance_meters / _THERMAL_METERS) ** 2)
