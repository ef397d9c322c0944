"""Weak spots as people read them: where they are in words, and how the model does there before and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from uqueue_config.learning.feedback import ModelPerformanceData
from uqueue_config.learning.runs import CycleRecord
from uqueue_config.learning.samples import ProblematicSampleInfo
from uqueue_config.learning.spots import LOW_RECALL, WeakSpot
from uqueue_worker.learning.report.data import ReportData
from uqueue_worker.learning.report.places import Position, in_words, inside, position, telling


@dataclass(frozen=True)
class Told:
    """A weak spot with what the report says of it. Recalls are those of the pool's samples of the class inside the
    region, before and after the cycle's training; `n_inside` counts them."""

    cycle: int
    rank: int
    spot: WeakSpot
    region: str
    box: Mapping[str, tuple[float, float]]
    samples: int
    scenarios: tuple[str, ...]
    recall_before: float | None
    recall_after: float | None
    n_inside: int

    @property
    def label(self) -> str:
        details = self.spot.details
        return str(details.get("class_name") or details.get("true_label") or details.get("predicted_label") or "")


class Pool:
    """The samples of one evaluation of the pool: where they are, and which the model got right."""

    def __init__(self, feedback: ModelPerformanceData | None, positions: Mapping[str, Position]) -> None:
        listed = () if feedback is None else (*feedback.uncertain_samples, *feedback.misclassified_samples)
        self.samples = {one.raw_sample_id: one for one in listed}
        self._positions = positions

    def position(self, sample: ProblematicSampleInfo | None) -> Position:
        return {} if sample is None else self._positions.get(sample.original_scenario_id or "", {})

    @cached_property
    def by_class(self) -> dict[str, list[tuple[Position, bool]]]:
        """Per true class: where each sample is, and whether the model was right."""
        found: dict[str, list[tuple[Position, bool]]] = {}
        for one in self.samples.values():
            if one.true_label is not None and one.predicted_label is not None:
                right = one.true_label == one.predicted_label
                found.setdefault(one.true_label, []).append((self.position(one), right))
        return found

    def recall(self, label: str, box: Mapping[str, tuple[float, float]]) -> tuple[float | None, int]:
        """Return the share of right answers among the samples of a class inside a box, and how many these are."""
        found = [right for where, right in self.by_class.get(label, []) if inside(where, box)]
        return (sum(found) / len(found) if found else None), len(found)


def positions_of(data: ReportData) -> dict[str, Position]:
    """Return where every scenario is that the report knows."""
    return {name: position(one.specific_params) for name, one in data.scenarios.items()}


def told_spots(data: ReportData, positions: Mapping[str, Position]) -> list[Told]:
    """Return the weak spots of all completed cycles, by cycle and rank."""
    found = []
    for cycle in data.done:
        before = Pool(data.read(cycle.evaluation_before), positions)
        after = Pool(data.read(cycle.evaluation_after if cycle.promoted else cycle.evaluation_before), positions)
        for rank, spot in enumerate(data.spots.get(cycle.cycle, ()), start=1):
            found.append(_told(cycle, rank, spot, before, after))
    return found


def _told(cycle: CycleRecord, rank: int, spot: WeakSpot, before: Pool, after: Pool) -> Told:
    details = spot.details
    label = str(details.get("class_name") or details.get("true_label") or "")
    box: dict[str, tuple[float, float]] = {}
    words = f"{label}, all of it" if spot.type == LOW_RECALL else label
    if details.get("members"):
        box, words = _region(label, details["members"], before)
    recall, count = before.recall(label, box)
    plan = [one for one in cycle.plan if one.weakness_id == spot.weakness_id]
    return Told(
        cycle=cycle.cycle,
        rank=rank,
        spot=spot,
        region=words,
        box=box,
        samples=sum(one.samples for one in plan),
        scenarios=tuple(dict.fromkeys(one.scenario.id for one in plan)),
        recall_before=recall,
        recall_after=after.recall(label, box)[0],
        n_inside=count,
    )


def _region(label: str, members: Sequence[Mapping[str, Any]], pool: Pool) -> tuple[dict[str, tuple[float, float]], str]:
    """Return the box of the parameters that tell the members from their class, and the region in words."""
    places = [pool.position(pool.samples.get(str(one.get("raw_sample_id")))) for one in members]
    places = [where for where in places if where]
    ranges = telling(places, [where for where, _ in pool.by_class.get(label, [])]) if places else []
    box = {
        one.name: (one.low if one.low is not None else -1e300, one.high if one.high is not None else 1e300)
        for one in ranges
    }
    return box, in_words(label, ranges)
