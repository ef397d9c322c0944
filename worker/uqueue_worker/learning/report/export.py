"""The report as JSON and as CSV, for programs and spreadsheets."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from uqueue_config.learning.runs import Evaluation
from uqueue_worker.learning.report.data import Comparison, ReportData
from uqueue_worker.learning.report.headline import sentences
from uqueue_worker.learning.report.paired import gains, mean_curve, needed
from uqueue_worker.learning.report.spots import Told, positions_of, told_spots
from uqueue_worker.learning.report.work import cost_of, totals, work_json, works_of

_CELLS_THAT_RUN = ("=", "+", "-", "@", "\t", "\r")


def report_json(data: ReportData) -> dict[str, Any]:
    """Return what JSON can carry: the records of the run, its weak spots in words, its cost and the comparison."""
    told = told_spots(data, positions_of(data))
    return {
        "findings": sentences(data),
        "run": data.run.model_dump(mode="json"),
        "cycles": [cycle.model_dump(mode="json") for cycle in data.cycles],
        "weak_spots": [_spot(one) for one in told],
        "cost": cost_of(data),
        "work": work_json(data),
        "comparison": None if data.comparison is None else comparison_json(data.comparison),
        "commands": list(data.commands),
        "machine": dict(data.machine),
    }


def comparison_json(comparison: Comparison) -> dict[str, Any]:
    """Return the curves of all policies, differences with their intervals, and samples needed."""
    return {
        "metric": comparison.metric,
        "seeds": list(comparison.seeds),
        "samples_per_cycle": comparison.samples_per_cycle,
        "reference": list(comparison.reference),
        "arms": {
            arm.name: {
                "title": arm.title,
                "curves": [list(curve) for curve in arm.curves],
                "mean": mean_curve(arm.curves),
            }
            for arm in comparison.arms
        },
        "gains": {
            name: {"mean": one.mean, "low": _finite(one.low), "high": _finite(one.high), "pairs": one.pairs}
            for name, one in gains(comparison).items()
        },
        "samples_to_reach": needed(comparison),
    }


def report_csv(data: ReportData) -> str:
    """Return one line per cycle and weak spot, with the metrics and the cost of the cycle. Cells that a spreadsheet
    would run as a formula begin with an apostrophe."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*_HEAD, *_COST])
    told, works = told_spots(data, positions_of(data)), works_of(data)
    for cycle in data.done:
        cost = totals(one for one in works if one.cycle == cycle.cycle)
        metrics = [_metric(one, data.metric) for one in (cycle.test_before, cycle.test_after)]
        shared = [cycle.cycle + 1, cycle.promoted, cycle.samples_generated, *metrics]
        own: Sequence[Told | None] = [one for one in told if one.cycle == cycle.cycle] or [None]
        for one in own:
            writer.writerow([*shared, *map(_cell, _columns(one)), *(cost[name] for name in _COST)])
    return out.getvalue()


_HEAD = (
    "cycle", "promoted", "samples_generated", "test_before", "test_after", "rank", "weakness_id", "type", "class",
    "sensor_id", "region", "priority", "samples", "recall_before", "recall_after", "pool_samples_in_region",
)  # fmt: skip


_COST = ("parts", "parts_failed", "part_tries", "work_seconds")


def _columns(told: Told | None) -> list[Any]:
    if told is None:
        return [None] * (len(_HEAD) - 5)
    spot = told.spot
    named = [told.rank, spot.weakness_id, spot.type, told.label, spot.sensor_id, told.region]
    return [*named, spot.priority, told.samples, told.recall_before, told.recall_after, told.n_inside]


def _spot(told: Told) -> dict[str, Any]:
    found = dict(zip(_HEAD[5:], _columns(told), strict=True))
    return {"cycle": told.cycle + 1, **found, "scenarios": list(told.scenarios)}


def _cell(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(_CELLS_THAT_RUN) else value


def _metric(evaluation: Evaluation | None, metric: str) -> float | None:
    return None if evaluation is None else evaluation.metrics.get(metric)


def _finite(value: float) -> float | None:
    return value if abs(value) != float("inf") else None
