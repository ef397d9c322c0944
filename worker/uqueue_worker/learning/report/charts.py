"""Small drawings in SVG: axes with round numbers, lines, bands, and bars."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from uqueue_worker.learning.report.markup import Html, element


@dataclass(frozen=True)
class Axis:
    """From values to units of the drawing: `low` is at `start`, `high` at `end`."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """Return where a value lies; values beyond the ends lie on them."""
        share = (value - self.low) / (self.high - self.low) if self.high > self.low else 0.5
        return self.start + min(1.0, max(0.0, share)) * (self.end - self.start)


def drawing(title: str, about: str, width: float, height: float, number: str, *parts: Html) -> Html:
    """Return a picture with a title and a description that screen readers tell; `number` is unique on the page."""
    return element(
        "svg",
        element("title", title, id=f"t{number}"),
        element("desc", about, id=f"d{number}"),
        *parts,
        viewBox=f"0 0 {width:g} {height:g}",
        role="img",
        aria_labelledby=f"t{number} d{number}",
    )


def text(words: object, x: float, y: float, anchor: str | None = None, class_: str | None = None) -> Html:
    return element("text", words, x=float(x), y=float(y), text_anchor=anchor, class_=class_)


def line(points: Sequence[tuple[float, float]], class_: str) -> Html:
    return element("path", class_=class_, d="M" + "L".join(f"{x:.1f},{y:.1f}" for x, y in points))


def area(points: Sequence[tuple[float, float, float]], class_: str) -> Html:
    """Return the area between two lines through (x, y of one, y of the other)."""
    there = [(x, low) for x, low, _ in points]
    back = [(x, high) for x, _, high in reversed(points)]
    return element("path", class_=class_, d="M" + "L".join(f"{x:.1f},{y:.1f}" for x, y in [*there, *back]) + "Z")


def y_grid(axis: Axis, left: float, right: float, digits: int = 2) -> list[Html]:
    """Return horizontal lines at round numbers, with the numbers at the left."""
    parts = []
    for value in round_steps(axis.low, axis.high, 6):
        y = axis.at(value)
        parts.append(element("path", class_="grid", d=f"M{left:.1f},{y:.1f}H{right:.1f}"))
        parts.append(text(f"{value:.{digits}f}", left - 6, y + 4, "end"))
    return parts


def around(values: Sequence[float], room: float = 0.08) -> tuple[float, float]:
    """Return ends of an axis that shows all values, with some room."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    more = (high - low) * room or 0.05
    return low - more, high + more


def round_steps(low: float, high: float, most: int) -> list[float]:
    """Return round numbers between two, at most so many, in equal steps of 1, 2 or 5 times a power of ten."""
    span = high - low
    if not (math.isfinite(span) and span > 0):
        return [low]
    power = 10.0 ** math.floor(math.log10(span / most))
    step = next(power * factor for factor in (1, 2, 5, 10, 20) if span / (power * factor) <= most - 0.999)
    first = math.ceil(low / step - 1e-9)
    return [number * step for number in range(first, first + most) if number * step <= high + step * 1e-9]
