"""Where the classifier works: how often each class is met, under which conditions, and as which scenarios."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from uqueue_config.learning.scenario import ScenarioDefinition
from uqueue_worker.learning.demo.story import CLASSES, unseen
from uqueue_worker.learning.scenarios import (
    ArcingEvent,
    BaselineOperation,
    CellulosePyrolysis,
    CoronaDischarge,
    EarlyCombustion,
    EquipmentOverheat,
    FamilyScenario,
)

Conditions = dict[str, float]
Distribution = Literal["deployment", "start", "box"]
#: How often each class is met in service, in the order of CLASSES.
CLASS_SHARES = (0.45, 0.13, 0.10, 0.10, 0.11, 0.11)
#: Ranges of what varies in service; metres, m/s, percent, degrees Celsius, and shares.
RANGES: Mapping[str, tuple[float, float]] = {
    "strength": (0.3, 1.0),
    "distance": (1.0, 25.0),
    "wind": (0.0, 12.0),
    "humidity": (15.0, 98.0),
    "temperature": (-5.0, 38.0),
    "traffic": (0.0, 1.0),
    "machinery": (0.0, 1.0),
}


@dataclass(frozen=True)
class Variant:
    """How hard the classes are to tell apart: a factor on the sensors' noise, and the strength of the weakest event."""

    noise_scale: float = 1.0
    weakest: float = RANGES["strength"][0]


CLEAN = Variant()
#: Twice the noise, and events that are hardly there, so that classes overlap.
NOISY = Variant(noise_scale=2.0, weakest=0.05)
_CREATED_MS = 1_767_225_600_000  # the same seed gives the same records, creation time included


def conditions(distribution: Distribution, seed: int, n: int, variant: Variant = CLEAN) -> list[tuple[str, Conditions]]:
    """Return `n` pairs of a class and conditions.

    deployment  classes by their shares, conditions even over their ranges
    start       the same without what the start model never saw
    box         all classes equally often
    """
    random = np.random.Generator(np.random.PCG64(seed))
    ranges = {**RANGES, "strength": (variant.weakest, RANGES["strength"][1])}
    shares = None if distribution == "box" else CLASS_SHARES
    found: list[tuple[str, Conditions]] = []
    while len(found) < n:
        label = CLASSES[int(random.choice(len(CLASSES), p=shares))]
        drawn = {name: round(float(random.uniform(*limits)), 4) for name, limits in ranges.items()}
        if distribution != "start" or not unseen(label, drawn):
            found.append((label, drawn))
    return found


def definitions(distribution: Distribution, seed: int, n: int, variant: Variant = CLEAN) -> list[ScenarioDefinition]:
    """Return `n` scenarios of a distribution, a function of the arguments alone; ids differ between seeds."""
    drawn = conditions(distribution, seed, n, variant)
    named = f"{distribution}-{seed}"
    return [definition(f"{named}-{number:05}", label, given) for number, (label, given) in enumerate(drawn)]


def definition(scenario_id: str, label: str, given: Conditions) -> ScenarioDefinition:
    """Return the scenario in which a class is met under these conditions."""
    family, parameters = _FAMILIES[label]
    scenario = family(
        scenario_id,
        f"{label.lower().replace('_', ' ')} {scenario_id}",
        tags=[f"class_{label}"],
        creation_timestamp_utc=_CREATED_MS,
        author="uqueue demo",
        environment=_environment(given),
        **parameters(given),
    )
    return scenario.to_definition()


def _environment(given: Conditions) -> dict[str, float]:
    return {
        "air_temperature_celsius": given["temperature"],
        "relative_humidity_percent": given["humidity"],
        "wind_speed_mps": given["wind"],
        "traffic": given["traffic"],
        "machinery": given["machinery"],
    }


def _place(given: Conditions) -> list[float]:
    return [0.0, given["distance"], 0.5]  # straight ahead of the camera, so that the second number is the distance


def _normal(given: Conditions) -> dict[str, Any]:
    return {
        "target_temperature_celsius": given["temperature"],
        "target_relative_humidity_percent": given["humidity"],
        "wind_speed_mps": given["wind"],
    }


def _smouldering(given: Conditions) -> dict[str, Any]:
    strength = given["strength"]
    return {
        "location": _place(given),
        "base_emission_rates_g_s": {"CH2O": 0.0006, "Acetaldehyde": 0.0005, "Phenol": 0.0004, "PM2.5": 0.0008},
        "initial_intensity": strength,
        "peak_intensity": strength,
    }


def _combustion(given: Conditions) -> dict[str, Any]:
    strength = given["strength"]
    return {
        "location": _place(given),
        "initial_heat_w": 4000.0 * strength,
        "max_heat_w": 4000.0 * strength,
        "chemical_emission_rates_g_s": {"CO": 0.015 * strength, "PM2.5": 0.003 * strength},
    }


def _arcing(given: Conditions) -> dict[str, Any]:
    strength = given["strength"]
    return {
        "location": _place(given),
        "base_intensity_emf_v_m": 5000.0 * strength,
        "base_intensity_acoustic_db": 85.0 + 25.0 * strength,
        "base_intensity_thermal_w": 6000.0 * strength,
    }


def _corona(given: Conditions) -> dict[str, Any]:
    strength = given["strength"]
    return {
        "location": _place(given),
        "emf_strength_v_m": 200.0 * strength,
        "acoustic_level_db": 60.0 + 30.0 * strength,
        "ozone_emission_g_s": 0.008 * strength,
        "nox_emission_g_s": 0.002 * strength,
    }


def _overheating(given: Conditions) -> dict[str, Any]:
    strength = given["strength"]
    return {
        "location": _place(given),
        "start_heat_w": 1800.0 * strength,
        "max_heat_w": 1800.0 * strength,
        "offgas_profile_g_s": {"Phenol": 0.0003 * strength, "VOC": 0.0005 * strength},
    }


_FAMILIES: Mapping[str, tuple[type[FamilyScenario], Callable[[Conditions], dict[str, Any]]]] = {
    "NORMAL_OPERATION": (BaselineOperation, _normal),
    "SMOULDERING": (CellulosePyrolysis, _smouldering),
    "EARLY_COMBUSTION": (EarlyCombustion, _combustion),
    "ARCING": (ArcingEvent, _arcing),
    "CORONA": (CoronaDischarge, _corona),
    "EQUIPMENT_OVERHEATING": (EquipmentOverheat, _overheating),
}
