"""Levers: which parameter of which family moves what a sensor reads, in which direction, and how far.

`gain` is how much the reading changes, in its own unit, when the parameter goes over its usual range (a distance: from
1 to 25 metres) in an ordinary scenario of the family: its defaults, the source eight metres away. It makes the first
guess of where to look. The figures were measured on the simulator of this package, and a test measures them again.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from uqueue_worker.learning.crafting.placing import Path

Direction = Literal[1, -1]
#: The range of distances met in service, in metres.
DISTANCES = (1.0, 25.0)


@dataclass(frozen=True)
class Lever:
    """`parameter` is the path of a number, or of a location: then the distance is what is moved."""

    family: str | None
    parameter: Path
    direction: Direction
    gain: float

    @property
    def is_distance(self) -> bool:
        return self.parameter[-1] == "location"


def _levers(pattern: str, *levers: tuple[str | None, str, float]) -> tuple[re.Pattern[str], tuple[Lever, ...]]:
    made = (
        Lever(family, tuple(parameter.split("/")), 1 if gain > 0 else -1, abs(gain))
        for family, parameter, gain in levers
    )
    return re.compile(pattern), tuple(made)


_CELLULOSE, _LIGNIN, _FLAME = "CellulosePyrolysis", "LigninDecomposition", "EarlyCombustion"
_COMBO, _CORONA, _ARC = "FirePrecursorCombo", "CoronaDischarge", "ArcingEvent"
_INSULATION, _OVERHEAT = "InsulationBreakdown", "EquipmentOverheat"
_DIURNAL, _SEASONAL, _BASELINE = "DiurnalCycle", "SeasonalVariation", "BaselineOperation"
_RATES, _FLAME_RATES, _OFFGAS = "base_emission_rates_g_s", "chemical_emission_rates_g_s", "offgas_profile_g_s"
_STAGE = "stage_signatures/1"
_AIR, _HUMIDITY, _WIND = (
    "environment/air_temperature_celsius",
    "environment/relative_humidity_percent",
    "environment/wind_speed_mps",
)
_TRAFFIC, _MACHINERY = "environment/traffic", "environment/machinery"
_WARMTH = (
    (None, _AIR, 43),
    (_BASELINE, "target_temperature_celsius", 43),
    (_DIURNAL, "max_temp_celsius", 42.9),
    (_SEASONAL, "end_avg_temp_c", 25.8),
)
LEVERS: tuple[tuple[re.Pattern[str], tuple[Lever, ...]], ...] = (
    _levers(
        r"_phenol_ppb$",
        (_LIGNIN, f"{_RATES}/Phenol", 41.2),
        (_LIGNIN, "location", -49.6),
        (_CELLULOSE, f"{_RATES}/Phenol", 47.3),
        (_CELLULOSE, "location", -57),
        (_OVERHEAT, f"{_OFFGAS}/Phenol", 23.6),
        (_OVERHEAT, "location", -34.2),
        (None, _TRAFFIC, 0.477),
    ),
    _levers(
        r"_guaiacol_ppb$",
        (_LIGNIN, f"{_RATES}/Guaiacol", 31.2),
        (_LIGNIN, "location", -37.6),
        (_CELLULOSE, f"{_RATES}/Guaiacol", 35.8),
        (_CELLULOSE, "location", -43.2),
    ),
    _levers(
        r"_formaldehyde_ppb$",
        (_CELLULOSE, f"{_RATES}/CH2O", 148),
        (_CELLULOSE, "peak_intensity", 25.9),
        (_CELLULOSE, "location", -179),
        (_LIGNIN, f"{_RATES}/CH2O", 129),
        (_LIGNIN, "location", -156),
        (None, _TRAFFIC, 4.48),
    ),
    _levers(
        r"_acetaldehyde_ppb$",
        (_CELLULOSE, f"{_RATES}/Acetaldehyde", 101),
        (_CELLULOSE, "peak_intensity", 17.7),
        (_CELLULOSE, "location", -122),
        (_LIGNIN, f"{_RATES}/Acetaldehyde", 88),
        (_LIGNIN, "location", -106),
        (None, _TRAFFIC, 2.55),
    ),
    _levers(
        r"_7_general_ppb$",
        (_CORONA, "nox_emission_g_s", 24.2),
        (_CORONA, "location", -11.7),
        (_OVERHEAT, f"{_OFFGAS}/VOC", 24.7),
        (_OVERHEAT, "location", -59.6),
        (_INSULATION, f"{_STAGE}/voc_g_s", 24.7),
        (_FLAME, f"{_FLAME_RATES}/CO", 50.8),
        (_FLAME, "location", -123),
        (None, _TRAFFIC, 79.9),
        (None, _HUMIDITY, 38.1),
    ),
    _levers(
        r"_8_general_ppb$",
        (_CORONA, "ozone_emission_g_s", 23.2),
        (_CORONA, "location", -22.3),
        (None, _HUMIDITY, 34.3),
        (None, _TRAFFIC, 14.4),
    ),
    _levers(
        r"^mass_concentration_pm2_5_",
        (_FLAME, f"{_FLAME_RATES}/PM2.5", 1160),
        (_FLAME, "location", -1400),
        (_CELLULOSE, f"{_RATES}/PM2.5", 182),
        (_CELLULOSE, "location", -219),
        (_LIGNIN, f"{_RATES}/PM2.5", 159),
        (_LIGNIN, "location", -191),
        (None, _TRAFFIC, 25.7),
    ),
    _levers(
        r"^mass_concentration_pm10_0_",
        (_FLAME, f"{_FLAME_RATES}/PM2.5", 1570),
        (_FLAME, "location", -1890),
        (_CELLULOSE, f"{_RATES}/PM2.5", 246),
        (_CELLULOSE, "location", -296),
        (_LIGNIN, f"{_RATES}/PM2.5", 214),
        (_LIGNIN, "location", -258),
        (None, _TRAFFIC, 53),
    ),
    _levers(
        r"^(thermal_image_celsius|derived_max_temp_celsius)$",
        (_FLAME, "max_heat_w", 27.4),
        (_OVERHEAT, "max_heat_w", 4.04),
        (_ARC, "base_intensity_thermal_w", 45.3),
        (_COMBO, "heat_source/max_heat_w", 40.6),
        (_INSULATION, f"{_STAGE}/thermal_w", 7.61),
        *_WARMTH,
        (_FLAME, "location", -203),
        (_OVERHEAT, "location", -39.2),
        (_ARC, "location", -317),
        (_COMBO, "heat_source/location", -56.4),
    ),
    _levers(
        r"^derived_delta_temp_celsius_baseline$",
        (_FLAME, "max_heat_w", 27.4),
        (_FLAME, "location", -203),
        (_OVERHEAT, "max_heat_w", 4.04),
        (_OVERHEAT, "location", -39.2),
        (_ARC, "base_intensity_thermal_w", 45.3),
        (_ARC, "location", -317),
        (_COMBO, "heat_source/max_heat_w", 40.6),
        (_COMBO, "heat_source/location", -56.4),
        (_INSULATION, f"{_STAGE}/thermal_w", 7.61),
        (None, _MACHINERY, 9),
    ),
    _levers(
        r"^ac_field_strength_microteslas$",
        (_ARC, "base_intensity_emf_v_m", 0.29),
        (_ARC, "location", -2.55),
        (_CORONA, "emf_strength_v_m", 0.00625),
        (_CORONA, "location", -0.0594),
        (_INSULATION, f"{_STAGE}/emf_v_m", 0.035),
        (None, _MACHINERY, 0.349),
    ),
    _levers(
        r"^sound_pressure_level_db$",
        (_ARC, "base_intensity_acoustic_db", 55.9),
        (_ARC, "location", -27.9),
        (_CORONA, "acoustic_level_db", 55.9),
        (_INSULATION, f"{_STAGE}/acoustic_db", 55.9),
        (None, _MACHINERY, 30.9),
        (None, _WIND, 19.1),
        (_BASELINE, "wind_speed_mps", 19.3),
    ),
    _levers(
        r"(^|__)(relative_humidity_percent|humidity_on_voc_sensor_percent|ambient_humidity_at_sensor_percent)$",
        (None, _HUMIDITY, 83),
        (_BASELINE, "target_relative_humidity_percent", 83),
        (_DIURNAL, "max_humidity_percent", 25.2),
        (_SEASONAL, "end_avg_humidity_percent", 49.8),
    ),
    _levers(r"(^|__)wind_speed_mps$", (None, _WIND, 12), (_BASELINE, "wind_speed_mps", 12)),
    _levers(
        r"(^|__)(air_temperature_celsius|temperature_on_voc_sensor_celsius|ambient_temperature_at_sensor_celsius)$",
        *_WARMTH,
    ),
)
