"""The scenario that is run where nothing better is known: one template for each type of sensor."""

from __future__ import annotations

from typing import Any

from uqueue_config.learning.scenario import ScenarioDefinition
from uqueue_worker.learning.repository import tags
from uqueue_worker.learning.scenarios import (
    ArcingEvent,
    BaselineOperation,
    CoronaDischarge,
    DiurnalCycle,
    EarlyCombustion,
    EquipmentOverheat,
    FamilyScenario,
    LigninDecomposition,
    WeatherEvent,
)

CATEGORY = "EXPLORATION"
#: Counted up when a template changes: scenarios of the old one stay, and new ones are made beside them.
TEMPLATE_VERSION = 1
_FAMILIES: dict[str, tuple[type[FamilyScenario], dict[str, Any]]] = {
    "VOCSensorArray": (LigninDecomposition, {}),
    "ParticulateMatterSensor": (EarlyCombustion, {}),
    "TempHumiditySensor": (DiurnalCycle, {}),
    "Anemometer": (WeatherEvent, {"weather_event_type": "high_wind"}),
    "ThermalCamera": (EquipmentOverheat, {}),
    "AcousticSensor": (ArcingEvent, {}),
    "EMFSensor": (CoronaDischarge, {}),
}


def template(scenario_id: str, sensor_type: str | None) -> ScenarioDefinition:
    """Return the exploration scenario for a type of sensor: a family that it reacts to, or ordinary operation."""
    family, parameters = _FAMILIES.get(sensor_type or "", (BaselineOperation, {}))
    kind = [tags.sensor_tag(sensor_type)] if sensor_type else []
    scenario = family(
        scenario_id,
        f"Exploration for {sensor_type or 'any sensor'}"[:500],
        f"{family.__name__} with default parameters, run where no better scenario is known",
        category=CATEGORY,
        tags=[tags.GENERATED, *kind, tags.class_tag(family.event_type)],
        author="ActiveLearningManager",
        **parameters,
    )
    return scenario.to_definition()


def marker(sensor_type: str | None) -> dict[str, Any]:
    """Return what the origin of the scenario for a type of sensor holds, and no other one's."""
    return {"exploration": {"sensor_type": sensor_type, "template_version": TEMPLATE_VERSION}}
