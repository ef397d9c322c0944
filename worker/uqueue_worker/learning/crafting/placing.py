"""Parameters with some of their numbers put elsewhere."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any, TypeVar

from uqueue_worker.learning.errors import ScenarioParameterError
from uqueue_worker.learning.scenarios import FamilyScenario
from uqueue_worker.learning.scenarios.parameters import Ambient, FamilyParameters, Parameters
from uqueue_worker.learning.scenarios.ranges import places

Path = tuple[str, ...]
ORDINARY_METRES = 8.0
_NEEDED: Mapping[str, dict[str, Any]] = {"FirePrecursorCombo": {"heat_source": {}, "chemical_source": {}}}
Model = TypeVar("Model", bound=Parameters)


def placed(parameters: Model, changes: Mapping[Path, Any]) -> Model:
    """Return the parameters with the changes, by path; levels that are missing are made.

    Pairs that have to be in order yield where only one of them was changed. Raises ScenarioParameterError for what
    the family refuses.
    """
    values = parameters.model_dump(mode="json", exclude_none=True)
    for path, value in changes.items():
        try:
            _put(values, path, value)
        except (IndexError, TypeError, ValueError, AttributeError):
            name = ".".join(path)
            raise ScenarioParameterError(family=type(parameters).__name__, reason=f"there is no {name}") from None
    _settle(parameters, values, changes)
    return type(parameters).read(type(parameters).__name__, values)


def with_surroundings(family: type[FamilyScenario], values: Mapping[str, Any]) -> FamilyParameters:
    """Return parameters of a family whose surroundings are written down, the usual ones where none are given."""
    return family.read_parameters(
        {**values, "environment": {**Ambient().to_dict(), **(values.get("environment") or {})}}
    )


def ordinary_parameters(family: type[FamilyScenario]) -> FamilyParameters:
    """Return the defaults of a family, with every source eight metres away."""
    parameters = with_surroundings(family, _NEEDED.get(family.__name__, {}))
    locations = [tuple(map(str, place.path)) for place in places(parameters) if place.kind == "location"]
    return placed(parameters, {path: location_at(ORDINARY_METRES, 0.0, 0.5) for path in locations})


def number_paths(parameters: Parameters) -> dict[str, Path]:
    """Return the paths behind the names of `numeric_parameters`; substances may have dots in theirs."""
    found: dict[str, Path] = {}
    for place in places(parameters):
        path = tuple(map(str, place.path))
        if place.kind == "location":
            found |= {f"{place.name}.{axis}": (*path, str(axis)) for axis in range(len(place.numbers))}
        else:
            found[place.name] = path
    return found


def location_at(distance_meters: float, angle_radians: float, height_meters: float) -> list[float]:
    """Return a location at that distance from the sensor unit; the height gives way where it is more than that."""
    height = min(height_meters, distance_meters)
    level = math.sqrt(distance_meters**2 - height**2)
    return [level * math.sin(angle_radians), level * math.cos(angle_radians), height]


def _put(values: dict[str, Any], path: Path, value: Any) -> None:
    holder: Any = values
    for part in path[:-1]:
        holder = holder[int(part)] if isinstance(holder, list) else holder.setdefault(part, {})
    if isinstance(holder, list):
        holder[int(path[-1])] = value
    else:
        holder[path[-1]] = value


def _settle(parameters: Parameters, values: dict[str, Any], changed: Collection[Path], above: Path = ()) -> None:
    for name, value in parameters:
        if isinstance(value, Parameters) and isinstance(values.get(name), dict):
            _settle(value, values[name], changed, (*above, name))
    kept = {path[len(above)] for path in changed if path[: len(above)] == above and len(path) > len(above)}
    type(parameters).settle(values, kept)
