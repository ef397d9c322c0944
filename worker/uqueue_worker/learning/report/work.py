"""What the parts of a run took: by cycle and kind of work, and altogether."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from uqueue_worker.learning.report.data import ReportData

if TYPE_CHECKING:
    from uqueue_worker.learning.engine.store import PartTime

Span = tuple[datetime, datetime]
#: Kinds of work in the order in which a cycle begins with them.
KINDS = ("drawing", "evaluating", "crafting", "simulating", "training")
_KIND_OF = {
    "draw": "drawing",
    "start_model": "training",
    "evaluate": "evaluating",
    "craft": "crafting",
    "generate": "simulating",
    "train": "training",
}


@dataclass(frozen=True)
class Work:
    """The parts of one kind of a cycle; the first cycle is 0."""

    cycle: int
    kind: str
    parts: tuple[PartTime, ...]

    @cached_property
    def spans(self) -> tuple[Span, ...]:
        """From the beginning of the last try to the result, for all parts of which both are known, in order."""
        times = [(one.started_at_utc, one.finished_at_utc) for one in self.parts]
        return tuple(sorted((begun, max(begun, ended)) for begun, ended in times if begun and ended))

    @cached_property
    def figures(self) -> dict[str, Any]:
        """Counts of parts, tries and samples; seconds of work, and in which any part was worked on."""
        return {
            "parts": len(self.parts),
            "failed": sum(one.ok is False for one in self.parts),
            "open": sum(one.ok is None for one in self.parts),
            "tries": sum(one.tries for one in self.parts),
            "samples": sum(one.samples for one in self.parts),
            "work_seconds": seconds(self.spans),
            "busy_seconds": seconds(united(self.spans)),
            "most_at_once": most_at_once(self.spans),
        }


def works_of(data: ReportData) -> list[Work]:
    """Return the work of a run by cycle and kind."""
    found: dict[tuple[int, str], list[PartTime]] = {}
    for one in data.parts:
        found.setdefault((one.cycle, _KIND_OF[one.kind]), []).append(one)
    order = sorted(found, key=lambda key: (key[0], KINDS.index(key[1])))
    return [Work(cycle, kind, tuple(found[cycle, kind])) for cycle, kind in order]


def cost_of(data: ReportData) -> dict[str, Any]:
    """Return what a run has cost so far, in numbers that JSON can carry."""
    works = works_of(data)
    passed = (data.run.updated_at_utc - data.run.created_at_utc).total_seconds()
    told = {
        "samples_made": data.run.samples_spent,
        "samples_rejected": sum(one.samples_rejected for one in data.cycles),
    }
    return {**told, **totals(works), "elapsed_seconds": round(passed, 3)}


def totals(works: Iterable[Work]) -> dict[str, Any]:
    """Return the sums over some work."""
    figures = [one.figures for one in works]
    names = {"parts": "parts", "parts_failed": "failed", "parts_open": "open", "part_tries": "tries"}
    summed = {name: sum(one[own] for one in figures) for name, own in names.items()}
    return {**summed, "work_seconds": round(sum(one["work_seconds"] for one in figures), 3)}


def work_json(data: ReportData) -> list[dict[str, Any]]:
    """Return the work as JSON can carry it; cycles count from 1 there, as everywhere in the report."""
    return [
        {
            "cycle": one.cycle + 1,
            "kind": one.kind,
            **one.figures,
            "first_started_at_utc": one.spans[0][0].isoformat() if one.spans else None,
            "last_finished_at_utc": max(end for _, end in one.spans).isoformat() if one.spans else None,
        }
        for one in works_of(data)
    ]


def seconds(spans: Iterable[Span]) -> float:
    return round(sum((end - begin).total_seconds() for begin, end in spans), 3)


def united(spans: Sequence[Span]) -> list[Span]:
    """Return the times in which any of the spans is, in order."""
    found: list[Span] = []
    for begin, end in sorted(spans):
        if found and begin <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((begin, end))
    return found


def most_at_once(spans: Sequence[Span]) -> int:
    """Return how many spans share a moment, at most; one that ends when another begins shares none with it."""
    moments = sorted([(begin, 1) for begin, _ in spans] + [(end, -1) for begin, end in spans if end > begin])
    most = now = 0
    for _, change in moments:
        now += change
        most = max(most, now)
    return most
