"""Which levers move a feature in the scenarios of a family."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from uqueue_config.learning.feature_path import parse_feature_path
from uqueue_worker.learning.crafting.families import Family
from uqueue_worker.learning.crafting.lever_table import LEVERS, Lever
from uqueue_worker.learning.scenarios import FamilyScenario

#: Families that set this part of the weather themselves.
_OWN_WEATHER: Mapping[str, tuple[str, ...]] = {
    "DiurnalCycle": ("air_temperature_celsius", "relative_humidity_percent"),
    "SeasonalVariation": ("air_temperature_celsius", "relative_humidity_percent"),
    "BaselineOperation": ("air_temperature_celsius", "relative_humidity_percent", "wind_speed_mps"),
    "WeatherEvent": ("relative_humidity_percent",),
}


@dataclass(frozen=True)
class WeakFeature:
    """A feature of an explanation that has a number."""

    path: str
    value: float


def weak_features(summary: Mapping[str, Any]) -> list[WeakFeature]:
    """Return the features of a summary that have a path and a number, the most important first."""
    found = []
    for one in summary.get("top_n_features") or ():
        if not isinstance(one, Mapping):
            continue
        path, value = one.get("feature_path"), one.get("raw_value")
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
            continue
        if isinstance(path, str) and _last_name(path) is not None:
            found.append(WeakFeature(path, float(value)))
    return found


def levers_of(feature_path: str, family: Family) -> list[Lever]:
    """Return what moves a feature in scenarios of a family, in the order to try them; [] if nothing is known to."""
    name = _last_name(feature_path)
    found = [lever for pattern, levers in LEVERS if name and pattern.search(name) for lever in levers]
    return [lever for lever in found if _fits(lever, family)]


def focus_parameter(feature_path: str, scenario: FamilyScenario) -> str | None:
    """Return the dotted path of the parameter that moves a feature in a scenario first, None if none is known."""
    levers = levers_of(feature_path, type(scenario))
    return ".".join(levers[0].parameter) if levers else None


def _fits(lever: Lever, family: Family) -> bool:
    if lever.family is not None:
        return lever.family == family.__name__
    own = _OWN_WEATHER.get(family.__name__, ())
    return lever.parameter[-1] not in own


def _last_name(path: str) -> str | None:
    """Return the name of a feature within its sensor; None for what is no feature path."""
    try:
        names = [part for part in parse_feature_path(path).segments if isinstance(part, str)]
    except ValueError:
        return None
    return names[-1]
