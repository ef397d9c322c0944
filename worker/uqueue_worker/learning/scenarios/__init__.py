"""Scenarios: the families, the list of those that may run, and how their parameters vary."""

from __future__ import annotations

from uqueue_worker.learning.scenarios.base import BaseScenario
from uqueue_worker.learning.scenarios.behaviour import behaviour_hash
from uqueue_worker.learning.scenarios.electrical import (
    ArcingEvent,
    CoronaDischarge,
    EquipmentOverheat,
    InsulationBreakdown,
)
from uqueue_worker.learning.scenarios.environmental import (
    BaselineOperation,
    DiurnalCycle,
    SeasonalVariation,
    WeatherEvent,
)
from uqueue_worker.learning.scenarios.family import FamilyScenario
from uqueue_worker.learning.scenarios.fire import (
    CellulosePyrolysis,
    EarlyCombustion,
    FirePrecursorCombo,
    LigninDecomposition,
)
from uqueue_worker.learning.scenarios.jitter import jitter_seed, jittered
from uqueue_worker.learning.scenarios.ranges import NumericParameter, numeric_parameters
from uqueue_worker.learning.scenarios.registry import REGISTRY, ScenarioRegistry, register

__all__ = [
    "REGISTRY",
    "ArcingEvent",
    "BaseScenario",
    "BaselineOperation",
    "CellulosePyrolysis",
    "CoronaDischarge",
    "DiurnalCycle",
    "EarlyCombustion",
    "EquipmentOverheat",
    "FamilyScenario",
    "FirePrecursorCombo",
    "InsulationBreakdown",
    "LigninDecomposition",
    "NumericParameter",
    "ScenarioRegistry",
    "SeasonalVariation",
    "WeatherEvent",
    "behaviour_hash",
    "jitter_seed",
    "jittered",
    "numeric_parameters",
    "register",
]
