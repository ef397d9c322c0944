"""What a scenario is: a record that people search for, and the behaviour that drives the simulator."""

from __future__ import annotations

import json
import math
import os
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from uqueue_config.learning.scenario import (
    ScenarioComplexityLevel,
    ScenarioDefinition,
    epoch_ms,
    now_ms,
    parameters_text,
)
from uqueue_worker.learning.errors import ScenarioInvalid, ScenarioParameterError

if TYPE_CHECKING:
    from uqueue_worker.learning.simulator.orchestrator import EnvironmentOrchestrator, EnvironmentState

_FILE_BYTES = 2 << 20


class BaseScenario(ABC):
    """One scenario. Its clock, `current_time_seconds`, starts at 0 and is moved by `update`.

    Raises ValueError for an empty id or name, and for what is no difficulty level, TypeError for a difficulty of
    another type than text or ScenarioComplexityLevel.
    """

    def __init__(
        self,
        scenario_id: str,
        name: str,
        description: str = "",
        category: str = "general",
        difficulty_level: ScenarioComplexityLevel | str = ScenarioComplexityLevel.MEDIUM,
        expected_duration_seconds: float | None = None,
        tags: Sequence[str] | None = None,
        version: int = 1,
        creation_timestamp_utc: float | datetime | str | None = None,
        author: str | None = None,
        related_scenario_ids: Sequence[str] | None = None,
    ) -> None:
        if not scenario_id or not name:
            raise ValueError("a scenario needs a scenario_id and a name that are not empty")
        self.scenario_id = scenario_id
        self.name = name
        self.description = description
        self.category = category
        self.difficulty_level = _difficulty(difficulty_level)
        self.expected_duration_seconds = expected_duration_seconds
        self.tags = list(tags or [])
        self.version = version
        self.creation_timestamp_utc = _moment(creation_timestamp_utc)
        self.author = author
        self.related_scenario_ids = list(related_scenario_ids or [])
        self.current_time_seconds = 0.0

    @abstractmethod
    def _get_specific_params(self) -> dict[str, Any]:
        """Return what JSON can carry and what is enough to build this scenario again."""

    @abstractmethod
    def setup_environment(self, orchestrator: EnvironmentOrchestrator) -> None:
        """Put the surroundings and the sources at their start."""

    @abstractmethod
    def get_ground_truth_labels(self, state: EnvironmentState) -> dict[str, Any]:
        """Return what is true now: event_type, event_subtype, is_anomaly, anomaly_severity_score, …"""

    @abstractmethod
    def update(self, dt: float, orchestrator: EnvironmentOrchestrator) -> None:
        """Let `dt` seconds pass, and tell the orchestrator what has become of the sources."""

    @abstractmethod
    def is_completed(self, state: EnvironmentState) -> bool:
        """Say whether nothing more is to come."""

    def validate(self) -> list[str]:
        """Return what is wrong with this scenario, as sentences; [] if nothing is."""
        duration = self.expected_duration_seconds
        problems = []
        if duration is not None and not (math.isfinite(duration) and duration > 0):
            problems.append("expected_duration_seconds: expected a number above 0")
        if problems:
            return problems
        try:
            ScenarioDefinition.read(self.to_scenario_definition_dict())
        except (ScenarioInvalid, ValueError) as error:
            problems.append(str(error))
        return problems

    def get_metadata(self) -> dict[str, Any]:
        """Return what describes the scenario, without its parameters."""
        record = self.to_scenario_definition_dict()
        del record["specific_params_json"]
        return record

    def reset(self) -> None:
        """Put the clock back to 0."""
        self.current_time_seconds = 0.0

    def to_scenario_definition_dict(self, scenario_definition_id: str | None = None) -> dict[str, Any]:
        """Return the fifteen fields of a scenario definition; parameters as JSON text, the time of creation in
        milliseconds since 1970. Its id is the scenario's own unless given."""
        family = type(self)
        return {
            "scenario_definition_id": scenario_definition_id or self.scenario_id,
            "scenario_class_module": family.__module__,
            "scenario_class_name": family.__name__,
            "scenario_instance_id": self.scenario_id,
            "name": self.name,
            "description": self.description,
            "category": self.category,
            "tags": list(self.tags),
            "difficulty_level": self.difficulty_level.name,
            "expected_duration_seconds": self.expected_duration_seconds,
            "version": self.version,
            "creation_timestamp_utc": epoch_ms(self.creation_timestamp_utc),
            "specific_params_json": parameters_text(self._get_specific_params()),
            "author": self.author,
            "related_scenario_ids": list(self.related_scenario_ids),
        }

    def to_definition(self) -> ScenarioDefinition:
        return ScenarioDefinition.read(self.to_scenario_definition_dict())

    @classmethod
    def from_scenario_definition_dict(cls, d: Mapping[str, Any]) -> Self:
        """Build the scenario that a definition describes: one of the registered families, found by its pair of names.

        The definition may be a ScenarioDefinition, or a mapping; a time of creation may be a number, a datetime or
        ISO text. Raises UnknownScenarioClass for a pair that is not registered, ScenarioParameterError for
        parameters that the family refuses, ScenarioInvalid for other problems or a family that is not a `cls`.
        """
        from uqueue_worker.learning.scenarios.registry import REGISTRY  # the registry is of scenarios

        definition = d if isinstance(d, ScenarioDefinition) else ScenarioDefinition.read(d)
        family = REGISTRY.find(definition.scenario_class_module, definition.scenario_class_name)
        if not issubclass(family, cls):
            raise ScenarioInvalid(reason=f"{family.__name__} is no {cls.__name__}")
        return family._from_definition(definition)

    @classmethod
    def _from_definition(cls, definition: ScenarioDefinition) -> Self:
        if definition.difficulty_level == "CUSTOM":
            raise ScenarioInvalid(reason="difficulty_level: CUSTOM is for records, not for scenarios that run here")
        parameters = definition.specific_params
        if taken := sorted(parameters.keys() & {"scenario_id", *_SHARED}):
            raise ScenarioParameterError(family=cls.__name__, reason=f"{taken[0]} is a field of the definition")
        shared = {name: definition[name] for name in _SHARED}
        try:
            return cls(**parameters, scenario_id=definition.scenario_instance_id, **shared)
        except (TypeError, ValueError) as error:
            raise ScenarioParameterError(family=cls.__name__, reason=str(error)[:300]) from None

    def save_to_json_file(self, path: str | Path) -> None:
        """Write the definition as a JSON file, whole or not at all."""
        target = Path(path)
        text = json.dumps(self.to_scenario_definition_dict(), indent=2, ensure_ascii=False) + "\n"
        handle, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
            Path(temporary).replace(target)
        finally:
            Path(temporary).unlink(missing_ok=True)

    @classmethod
    def load_from_json_file(cls, path: str | Path) -> Self:
        """Build the scenario of a JSON file. Raises as `from_scenario_definition_dict`, and ScenarioInvalid for a
        file that is no JSON object or has more than 2 MiB."""
        with Path(path).open("rb") as file:
            data = file.read(_FILE_BYTES + 1)
        try:
            if len(data) > _FILE_BYTES:
                raise ValueError(f"it has more than {_FILE_BYTES} bytes")
            record = json.loads(data)
            if not isinstance(record, dict):
                raise ValueError("it is not a JSON object")  # noqa: TRY004 - reported below
        except (ValueError, RecursionError) as error:
            raise ScenarioInvalid(reason=f"the file {Path(path).name} cannot be read ({error})") from None
        return cls.from_scenario_definition_dict(record)


_SHARED = (
    "name",
    "description",
    "category",
    "difficulty_level",
    "expected_duration_seconds",
    "tags",
    "version",
    "creation_timestamp_utc",
    "author",
    "related_scenario_ids",
)


def _difficulty(value: Any) -> ScenarioComplexityLevel:
    if isinstance(value, ScenarioComplexityLevel):
        return value
    if not isinstance(value, str):
        raise TypeError("difficulty_level: expected a ScenarioComplexityLevel or its name")
    if value not in ScenarioComplexityLevel.__members__:
        names = ", ".join(ScenarioComplexityLevel.__members__)
        raise ValueError(f"difficulty_level: there is no {value!r}; there are {names}")
    return ScenarioComplexityLevel[value]


def _moment(value: Any) -> datetime:
    return datetime.fromtimestamp((now_ms() if value is None else epoch_ms(value)) / 1000, UTC)
