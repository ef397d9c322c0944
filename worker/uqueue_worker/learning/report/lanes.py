"""When the parts of a run were worked on: a lane for each cycle and kind of work, darker where more ran at once.

However many parts there are, a lane is so many bins; parts are not drawn one by one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import groupby

from uqueue_worker.learning.report import charts
from uqueue_worker.learning.report.busy_clock import BusyClock
from uqueue_worker.learning.report.charts import Axis
from uqueue_worker.learning.report.data import ReportData
from uqueue_worker.learning.report.markup import Html, element, folded, joined, table
from uqueue_worker.learning.report.work import KINDS, Work, totals, works_of

_WIDTH, _LEFT, _RIGHT, _ROW, _BAR, _GAP = 900.0, 190.0, 890.0, 22.0, 14.0, 8.0
_BINS, _LEVELS = 120, 4
_MOST_CYCLES = 12
_TITLE = "Parts of each cycle over time"
_UNITS = ((7200.0, 3600.0, "h"), (120.0, 60.0, "min"), (0.0, 1.0, "s"))
_HEAD = (
    "cycle", "kind", "parts", "failed", "open", "tries", "samples", "seconds of work", "seconds busy", "most at once",
)  # fmt: skip


def lanes(data: ReportData) -> list[Html]:
    """Return the picture of the parts with its legend, and the table that says the same."""
    works = works_of(data)
    if not works:
        return []
    shown = sorted({one.cycle for one in works if one.spans})[-_MOST_CYCLES:]
    parts = [folded("Parts as a table", _table(works))]
    if shown:
        drawn = [one for one in works if one.cycle in shown]
        parts = [
            element("figure", element("figcaption", _caption(works, shown)), _legend(), _picture(drawn), class_="wide"),
            *parts,
        ]
    return parts


def _caption(works: Sequence[Work], shown: Sequence[int]) -> str:
    cycles = len({one.cycle for one in works})
    which = f", the last {len(shown)} of {cycles} cycles" if cycles > len(shown) else ""
    return f"{_TITLE}{which}, from the beginning of each cycle's first part. Dashed: nothing ran for long, cut short."


def _picture(works: Sequence[Work]) -> Html:
    cycles = {number: list(of_cycle) for number, of_cycle in groupby(works, lambda one: one.cycle)}
    clocks = {n: BusyClock([span for one in of_cycle for span in one.spans]) for n, of_cycle in cycles.items()}
    longest = max(clock.end for clock in clocks.values()) or 1.0
    axis = Axis(0.0, longest, _LEFT, _RIGHT)
    densities = {(one.cycle, one.kind): _density(one, clocks[one.cycle], longest) for one in works}
    densest = max(max(density) for density in densities.values()) or 1.0
    bars: list[Html] = []
    y = 4.0
    for number, of_cycle in cycles.items():
        bars.append(charts.text(f"cycle {number + 1}", 0.0, y + 12))
        top = y
        for one in of_cycle:
            bars.append(charts.text(one.kind, _LEFT - 8, y + 12, "end"))
            bars.append(_lane(one, densities[one.cycle, one.kind], densest, y))
            y += _ROW
        bars += [_cut(axis.at(at), passed, top, y - (_ROW - _BAR)) for at, passed in clocks[number].cuts]
        y += _GAP
    bars += _scale(axis, longest, y + 12)
    return charts.drawing(_TITLE, "As a table below.", _WIDTH, y + 20, "parts", *bars)


def _density(work: Work, clock: BusyClock, longest: float) -> list[float]:
    """Return by bin how many parts ran in it on average; a bin that any part touches has some."""
    found = [0.0] * _BINS
    each = longest / _BINS
    for begin, end in work.spans:
        low, high = clock.at(begin), clock.at(end)
        first, last = (min(_BINS - 1, int(place / each)) for place in (low, high))
        for place in range(first, last + 1):
            within = min(high, (place + 1) * each) - max(low, place * each)
            found[place] += max(within / each, 1e-6)
    return found


def _lane(work: Work, density: Sequence[float], densest: float, y: float) -> Html:
    told = work.figures
    count = f"{told['parts']} part{'s' if told['parts'] != 1 else ''}"
    words = (
        f"cycle {work.cycle + 1}, {work.kind}: {count}, {told['work_seconds']:.1f} s of work, "
        f"at most {told['most_at_once']} at once"
    )
    levels = [math.ceil(_LEVELS * one / densest) for one in density]
    outlines: dict[int, str] = {}
    place = 0
    for level, run in groupby(levels):
        bins = len(list(run))
        if level:
            width = (_RIGHT - _LEFT) / _BINS
            box = f"M{_LEFT + place * width:.1f},{y:.1f}h{bins * width:.1f}v{_BAR:g}h-{bins * width:.1f}z"
            outlines[level] = outlines.get(level, "") + box
        place += bins
    style = f"step{KINDS.index(work.kind)}"
    shapes = (element("path", class_=f"{style} dense{level}", d=d) for level, d in sorted(outlines.items()))
    return element("g", element("title", words), *shapes)


def _cut(x: float, passed: float, top: float, bottom: float) -> Html:
    words = element("title", f"nothing ran for {_duration(passed)}")
    return element("path", words, class_="cut", d=f"M{x:.1f},{top:.1f}V{bottom:.1f}")


def _scale(axis: Axis, longest: float, y: float) -> Iterator[Html]:
    _, unit, name = next(one for one in _UNITS if longest >= one[0])
    for value in charts.round_steps(0, longest / unit, 6):
        yield charts.text(f"{value:g} {name}", axis.at(value * unit), y, "middle")


def _duration(passed: float) -> str:
    _, unit, name = next(one for one in _UNITS if passed >= one[0])
    return f"{passed / unit:.1f} {name}"


def _legend() -> Html:
    boxes = [
        element("rect", class_=f"step0 dense{level}", x=float(30 * (level - 1)), y=0.0, width=30.0, height=12.0)
        for level in range(1, _LEVELS + 1)
    ]
    sample = element("svg", joined(boxes), viewBox="0 0 120 12", aria_hidden="true", class_="wide")
    return element("ul", element("li", sample, "few to many parts at once"), class_="legend")


def _table(works: Sequence[Work]) -> Html:
    rows: list[list[object]] = [[one.cycle + 1, one.kind, *_cells(one.figures)] for one in works]
    summed = totals(works)
    counts = [summed["parts"], summed["parts_failed"], summed["parts_open"], summed["part_tries"]]
    samples = sum(one.figures["samples"] for one in works)
    rows.append(["all", "–", *counts, samples, f"{summed['work_seconds']:.2f}", "–", "–"])
    return table("Parts by cycle and kind of work", _HEAD, rows)


def _cells(figures: dict[str, object]) -> list[object]:
    return [f"{value:.2f}" if isinstance(value, float) else value for value in figures.values()]
