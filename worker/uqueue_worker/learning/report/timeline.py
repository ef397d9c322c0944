"""The seventh part: how long the steps took, when their parts ran, and what they cost."""

from __future__ import annotations

from typing import get_args

from uqueue_config.learning.runs import CycleState
from uqueue_worker.learning.report import charts
from uqueue_worker.learning.report.charts import Axis
from uqueue_worker.learning.report.data import ReportData
from uqueue_worker.learning.report.lanes import lanes
from uqueue_worker.learning.report.markup import Html, element, folded, table
from uqueue_worker.learning.report.work import cost_of

_ORDER = get_args(CycleState)
_WIDTH, _LEFT, _RIGHT, _ROW = 900.0, 80.0, 880.0, 30.0


def timeline(data: ReportData) -> Html:
    """Return the section of steps: a row for each cycle, a bar for each state, as long as its work took; and of parts:
    when they ran, and what they cost."""
    parts: list[Html | None] = [element("h2", "Time and cost", id="timeline")]
    states = _states(data)
    if not states:
        parts += [element("p", "No step has been timed.", class_="empty"), *lanes(data)]
        return element("section", *parts, aria_labelledby="timeline")
    longest = max(sum(cycle.seconds.values()) for cycle in data.cycles)
    axis = Axis(0, longest or 1.0, _LEFT, _RIGHT)
    bars: list[Html] = []
    for row, cycle in enumerate(data.cycles):
        y, passed = row * _ROW + 4, 0.0
        bars.append(charts.text(f"cycle {cycle.cycle + 1}", _LEFT - 8, y + 16, "end"))
        for state in states:
            seconds = cycle.seconds.get(state, 0.0)
            about = element("title", f"{state}: {seconds:.1f} s")
            x, width = axis.at(passed), axis.at(passed + seconds) - axis.at(passed)
            bars.append(
                element("rect", about, class_=f"step{states.index(state) % 8}", x=x, y=y, width=width, height=22.0)
            )
            passed += seconds
    height = len(data.cycles) * _ROW + 26
    bars += [
        charts.text(f"{value:g} s", axis.at(value), height - 6, "middle") for value in charts.round_steps(0, longest, 6)
    ]
    picture = charts.drawing("Steps of each cycle, in seconds", "As a table below.", _WIDTH, height, "steps", *bars)
    entries = [element("li", _swatch(index), state) for index, state in enumerate(states)]
    parts += [
        element("ul", *entries, class_="legend"),
        picture,
        element("p", _cost(data), class_="note"),
        _table(data, states),
        *lanes(data),
    ]
    return element("section", *parts, aria_labelledby="timeline")


def _states(data: ReportData) -> list[str]:
    """Return the states that took time, in the order in which a cycle goes through them."""
    timed = dict.fromkeys(state for cycle in data.cycles for state in cycle.seconds)
    return sorted(timed, key=lambda state: _ORDER.index(state) if state in _ORDER else len(_ORDER))


def _swatch(index: int) -> Html:
    bar = element("rect", class_=f"step{index % 8}", x=0.0, y=0.0, width=34.0, height=12.0)
    return element("svg", bar, viewBox="0 0 34 12", aria_hidden="true")


def _cost(data: ReportData) -> str:
    total, cost = sum(sum(cycle.seconds.values()) for cycle in data.cycles), cost_of(data)
    parts = (
        f" {cost['parts']} parts in {cost['part_tries']} tries took {cost['work_seconds']:.0f} s of work, some of it "
        f"at the same time; {cost['parts_failed']} of them failed."
    )
    return (
        f"{cost['elapsed_seconds']:.0f} s from the run's creation to its last change; its steps took {total:.0f} s. "
        f"{cost['samples_made']} samples made, {cost['samples_rejected']} rejected.{parts if cost['parts'] else ''}"
    )


def _table(data: ReportData, states: list[str]) -> Html:
    head = ["cycle", *(f"{state} (s)" for state in states), "samples requested", "generated", "rejected"]
    rows = [
        [
            cycle.cycle + 1,
            *(f"{cycle.seconds.get(state, 0.0):.2f}" for state in states),
            cycle.samples_requested,
            cycle.samples_generated,
            cycle.samples_rejected,
        ]
        for cycle in data.cycles
    ]
    return folded("Steps as a table", table("Seconds by cycle and step", head, rows))
