"""The sixth part: which scenario came of which, and in what they differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from uqueue_config.learning.scenario import ScenarioDefinition
from uqueue_worker.learning.report.data import ReportData
from uqueue_worker.learning.report.markup import Html, element, folded
from uqueue_worker.learning.report.places import Position, named, shown
from uqueue_worker.learning.report.spots import Told

_MOST_DIFFERENCES = 4


def anchors_of(data: ReportData) -> dict[str, str]:
    """Return where on the page each scenario is told that the run made samples of."""
    made = dict.fromkeys(one.scenario.id for cycle in data.done for one in cycle.plan)
    return {name: f"s{number}" for number, name in enumerate(made, start=1)}


def lineage(
    data: ReportData, positions: Mapping[str, Position], told: Sequence[Told], anchors: Mapping[str, str]
) -> Html:
    """Return the section of scenarios, by cycle: the weak spot, the scenario that it stems from, the differences."""
    regions = {(one.cycle, one.spot.weakness_id): one.region for one in told}
    parts: list[Html] = [element("h2", "Scenarios and where they come from", id="lineage")]
    seen: set[str] = set()
    for cycle in data.done:
        entries = []
        for one in cycle.plan:
            why = regions.get((cycle.cycle, one.weakness_id or ""), "exploration of the deployment ranges")
            name = one.scenario.id
            entries.append(
                _entry(data, positions, name, one.scenario.version, why, None if name in seen else anchors[name])
            )
            seen.add(name)
        parts.append(
            folded(f"Cycle {cycle.cycle + 1}: {len(entries)} scenarios", element("ul", *entries, class_="lineage"))
        )
    return element("section", *parts, aria_labelledby="lineage")


def _entry(
    data: ReportData, positions: Mapping[str, Position], name: str, version: int, why: str, anchor: str | None
) -> Html:
    parent = data.parents.get(name)
    parts: list[object] = [element("code", name), f" version {version}: {why}"]
    if parent is not None:
        differences = _differences(positions.get(parent, {}), positions.get(name, {}))
        told = ", ".join(differences[:_MOST_DIFFERENCES]) or "no parameter that is a number"
        more = f" and {len(differences) - _MOST_DIFFERENCES} more" if len(differences) > _MOST_DIFFERENCES else ""
        parts += [element("small", "from ", element("code", parent), f": {told}{more}")]
    elif (definition := data.scenarios.get(name)) is not None:
        parts.append(element("small", _described(definition)))
    return element("li", *parts, id=anchor)


def _differences(before: Position, after: Position) -> list[str]:
    """Return what changed, the largest relative change first."""
    found = []
    for path in sorted(before.keys() & after.keys()):
        gap = after[path] - before[path]
        if abs(gap) > 1e-9:
            name, unit = named(path)
            words = f"{name} {shown(before[path])} → {shown(after[path])}{' ' + unit if unit else ''}"
            found.append((abs(gap) / max(abs(before[path]), abs(after[path])), words))
    return [words for _, words in sorted(found, key=lambda one: -one[0])]


def _described(definition: ScenarioDefinition) -> str:
    return definition.description or f"{definition.scenario_class_name}, drawn without a base"
