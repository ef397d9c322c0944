"""Which scenario family makes samples of a class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from uqueue_worker.learning.errors import UnknownScenarioClass
from uqueue_worker.learning.scenarios import REGISTRY, FamilyScenario, ScenarioRegistry

Family = type[FamilyScenario]
#: What is told apart by each type of sensor, where nothing names a class.
FAMILY_OF_SENSOR_TYPE: Mapping[str, str] = {
    "VOCSensorArray": "LigninDecomposition",
    "ParticulateMatterSensor": "EarlyCombustion",
    "ThermalCamera": "EquipmentOverheat",
    "EMFSensor": "CoronaDischarge",
    "AcousticSensor": "ArcingEvent",
    "TempHumiditySensor": "BaselineOperation",
    "BarometricPressureSensor": "BaselineOperation",
    "Anemometer": "BaselineOperation",
}


class ClassFamilies:
    """A table from class labels to families.

    classes       label -> class name of a registered family; labels that it lacks are looked up as event types
    sensor_types  the same for types of sensor, in place of FAMILY_OF_SENSOR_TYPE
    """

    def __init__(
        self,
        classes: Mapping[str, str] | None = None,
        sensor_types: Mapping[str, str] | None = None,
        registry: ScenarioRegistry = REGISTRY,
    ) -> None:
        self._classes = dict(classes or {})
        self._sensor_types = dict(FAMILY_OF_SENSOR_TYPE if sensor_types is None else sensor_types)
        self._registry = registry

    @classmethod
    def of_events(cls, class_of_event: Mapping[str, str], registry: ScenarioRegistry = REGISTRY) -> ClassFamilies:
        """Return the table of a classifier that names event types in its own way: {event type: class}.

        Where several events are one class, the family of the first one stands for it. Raises ValueError for an event
        type that no registered family has.
        """
        names = {family.event_type: family.__name__ for family in reversed(_families(registry))}
        if unknown := sorted(class_of_event.keys() - names.keys()):
            raise ValueError(f"no registered scenario family has the event type {unknown[0]!r}")
        classes: dict[str, str] = {}
        for event, label in class_of_event.items():
            classes.setdefault(label, names[event])
        return cls(classes, registry=registry)

    def of_class(self, label: str | None) -> Family | None:
        """Return the family of a class label, None if there is none."""
        if label in self._classes:
            return self._named(self._classes[label])
        return next((family for family in _families(self._registry) if family.event_type == label), None)

    def of_sensor_type(self, sensor_type: str | None) -> Family | None:
        """Return the family that a type of sensor is there for, None if there is none."""
        return self._named(self._sensor_types[sensor_type]) if sensor_type in self._sensor_types else None

    def of_definition(self, definition: Mapping[str, Any]) -> Family | None:
        """Return the family that a scenario definition names, None if it is not registered."""
        module, name = definition.get("scenario_class_module"), definition.get("scenario_class_name")
        if not isinstance(module, str) or not isinstance(name, str):
            return None
        try:
            family = self._registry.find(module, name)
        except UnknownScenarioClass:
            return None
        return family if issubclass(family, FamilyScenario) else None

    def label_of(self, family: Family) -> str:
        """Return the class of a family's samples: that of the table, or its event type."""
        return next((label for label, name in self._classes.items() if name == family.__name__), family.event_type)

    def _named(self, name: str) -> Family:
        family = self._registry.named(name)
        if not issubclass(family, FamilyScenario):
            raise UnknownScenarioClass(module=family.__module__, name=name)
        return family


def _families(registry: ScenarioRegistry) -> list[Family]:
    return [family for family in registry if issubclass(family, FamilyScenario)]
