"""The third part: where the model errs, cycle by cycle, with the regions found and the samples made for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from uqueue_config.learning.runs import CycleRecord
from uqueue_worker.learning.report import charts
from uqueue_worker.learning.report.charts import Axis
from uqueue_worker.learning.report.data import ReportData
from uqueue_worker.learning.report.markup import Html, element
from uqueue_worker.learning.report.places import Position, independent, named, shown
from uqueue_worker.learning.report.spots import Pool, Told

_CLASSES = 3
_COLUMNS, _ROWS = 6, 5
_SIDE, _LEFT, _TOP, _BELOW = 200.0, 46.0, 8.0, 38.0
_SHADES = 5


@dataclass(frozen=True)
class Frame:
    """Two parameters that a class is drawn over, with their ends."""

    names: tuple[str, str]
    x: Axis
    y: Axis


def region_map(data: ReportData, positions: Mapping[str, Position], told: Sequence[Told]) -> Html:
    """Return the section of maps: a row for each of the classes with most errors, a step for each cycle."""
    parts: list[Html] = [element("h2", "Where it was weak", id="map")]
    first = Pool(data.read(data.done[0].evaluation_before), positions) if data.done else Pool(None, {})
    classes = _worst(first)
    if not classes:
        parts.append(element("p", "There is no feedback on the pool whose scenarios are known.", class_="empty"))
    else:
        parts += [element("p", _ABOUT, class_="note"), _legend()]
    for row, label in enumerate(classes):
        frame = _frame(first.by_class[label])
        if frame is not None:
            parts.append(_row(data, positions, told, label, frame, row))
    return element("section", *parts, aria_labelledby="map")


_ABOUT = (
    "Every picture is the feedback pool of one class before a cycle, over the two parameters that tell its errors "
    "best. The redder a field, the larger the share of wrong answers; fields without samples are empty."
)


def _worst(pool: Pool) -> list[str]:
    errors = {label: sum(not right for _, right in rows) for label, rows in pool.by_class.items()}
    ranked = sorted((label for label, count in errors.items() if count), key=lambda label: (-errors[label], label))
    return ranked[:_CLASSES]


def _frame(rows: Sequence[tuple[Position, bool]]) -> Frame | None:
    names = _separations(rows)[:2]
    if len(names) < 2:
        return None
    axes = []
    for name, start, end in ((names[0], _LEFT, _LEFT + _SIDE), (names[1], _TOP + _SIDE, _TOP)):
        values = [where[name] for where, _ in rows if name in where]
        axes.append(Axis(min(values), max(values), start, end))
    return Frame((names[0], names[1]), *axes)


def _separations(rows: Sequence[tuple[Position, bool]]) -> list[str]:
    """Return parameters by how far the means of errors and right answers are apart, in standard deviations.

    Of parameters that go together, only the first stays.
    """
    right = np.array([one for _, one in rows])
    gaps: dict[str, float] = {}
    for name in sorted({name for where, _ in rows for name in where}):
        values = np.array([where.get(name, np.nan) for where, _ in rows])
        if not np.isnan(values).any() and values.max() > values.min():
            both = 0 < right.sum() < len(right)
            gaps[name] = float(abs(values[~right].mean() - values[right].mean()) / values.std()) if both else 0.0
    return independent(sorted(gaps, key=lambda name: -gaps[name]), [where for where, _ in rows])


def _row(
    data: ReportData, positions: Mapping[str, Position], told: Sequence[Told], label: str, frame: Frame, row: int
) -> Html:
    across, up = (" ".join(filter(None, (name, f"({unit})" if unit else ""))) for name, unit in map(named, frame.names))
    steps = [
        _step(cycle, Pool(data.read(cycle.evaluation_before), positions), positions, told, label, frame, row)
        for cycle in data.done
    ]
    last = data.done[-1]
    after = Pool(data.read(last.evaluation_after if last.promoted else last.evaluation_before), positions)
    steps.append(
        _picture(f"at the end: {_wrong(after, label)}", f"{row}e", _cells(after.by_class.get(label, []), frame), frame)
    )
    caption = element("h3", f"{label}: {across} to the right, {up} upwards")
    return element("div", caption, element("div", *steps, class_="steps", tabindex="0", role="group", aria_label=label))


def _step(
    cycle: CycleRecord,
    pool: Pool,
    positions: Mapping[str, Position],
    told: Sequence[Told],
    label: str,
    frame: Frame,
    row: int,
) -> Html:
    spots = [one for one in told if one.cycle == cycle.cycle and one.label == label and one.samples]
    parts = _cells(pool.by_class.get(label, []), frame)
    parts += [_box(one, frame) for one in spots if one.box]
    made = [positions.get(name, {}) for one in spots for name in one.scenarios]
    parts += [_dot(where, frame) for where in made if all(name in where for name in frame.names)]
    words = f"before cycle {cycle.cycle + 1}: {_wrong(pool, label)}; {sum(one.samples for one in spots)} samples made"
    return _picture(words, f"{row}-{cycle.cycle}", parts, frame)


def _wrong(pool: Pool, label: str) -> str:
    rows = pool.by_class.get(label, [])
    return f"{sum(not right for _, right in rows)} of {len(rows)} wrong"


def _picture(words: str, number: str, parts: Sequence[Html], frame: Frame) -> Html:
    shown_parts = [*_edges(frame), *parts]
    width, height = _LEFT + _SIDE + 14, _TOP + _SIDE + _BELOW - 10
    picture = charts.drawing(
        words, "Errors by region, regions and new samples.", width, height, f"map{number}", *shown_parts
    )
    return element("figure", picture, element("figcaption", words))


def _edges(frame: Frame) -> list[Html]:
    x, y = frame.x, frame.y
    outline = element("rect", class_="sea", x=x.start, y=y.end, width=_SIDE, height=_SIDE)
    ends = [
        charts.text(_end(x.low, x), x.start, y.start + 18),
        charts.text(_end(x.high, x), x.end, y.start + 18, "end"),
        charts.text(_end(y.low, y), x.start - 5, y.start, "end"),
        charts.text(_end(y.high, y), x.start - 5, y.end + 11, "end"),
    ]
    return [outline, *ends]


def _end(value: float, axis: Axis) -> str:
    """Return an end of an axis in few characters: next to nothing, compared with the axis, is 0."""
    return "0" if abs(value) < 0.01 * (axis.high - axis.low) else shown(value)


def _cells(rows: Sequence[tuple[Position, bool]], frame: Frame) -> list[Html]:
    counts, wrong = np.zeros((_COLUMNS, _ROWS)), np.zeros((_COLUMNS, _ROWS))
    for where, right in rows:
        if all(name in where for name in frame.names):
            column = _bin(where[frame.names[0]], frame.x, _COLUMNS)
            row = _bin(where[frame.names[1]], frame.y, _ROWS)
            counts[column, row] += 1
            wrong[column, row] += not right
    width, height = _SIDE / _COLUMNS, _SIDE / _ROWS
    found = []
    for column, row in np.argwhere(counts > 0).tolist():
        share = wrong[column, row] / counts[column, row]
        about = element("title", f"{wrong[column, row]:.0f} of {counts[column, row]:.0f} wrong")
        x, y = frame.x.start + column * width, frame.y.start - (row + 1) * height
        style = f"cell shade{round(share * _SHADES)}"
        found.append(element("rect", about, class_=style, x=x, y=y, width=width, height=height))
    return found


def _bin(value: float, axis: Axis, number: int) -> int:
    return min(number - 1, max(0, int((value - axis.low) / (axis.high - axis.low) * number)))


def _box(told: Told, frame: Frame) -> Html:
    ends = []
    for name, axis in zip(frame.names, (frame.x, frame.y), strict=True):
        low, high = told.box.get(name, (axis.low, axis.high))
        ends.append(sorted((axis.at(low), axis.at(high))))
    (left, right), (top, bottom) = ends
    about = element("title", told.region)
    return element(
        "rect", about, class_="box", x=left, y=top, width=max(2.0, right - left), height=max(2.0, bottom - top)
    )


def _dot(where: Position, frame: Frame) -> Html:
    x, y = (axis.at(where[name]) for name, axis in zip(frame.names, (frame.x, frame.y), strict=True))
    return element("circle", class_="dot", cx=x, cy=y, r=3.2)


def _legend() -> Html:
    shades = [
        element("rect", class_=f"cell shade{shade}", x=float(shade * 20), y=0.0, width=20.0, height=12.0)
        for shade in range(_SHADES + 1)
    ]
    scale = element("svg", *shades, viewBox="0 0 120 12", aria_hidden="true", class_="wide")
    box = element(
        "svg",
        element("rect", class_="box", x=2.0, y=2.0, width=30.0, height=9.0),
        viewBox="0 0 34 13",
        aria_hidden="true",
    )
    dot = element(
        "svg", element("circle", class_="dot", cx=17.0, cy=6.0, r=3.2), viewBox="0 0 34 12", aria_hidden="true"
    )
    entries = [
        element("li", scale, "none to all wrong"),
        element("li", box, "weak spot that samples were made for"),
        element("li", dot, "scenario of a new sample"),
    ]
    return element("ul", *entries, class_="legend")
