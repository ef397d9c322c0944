"""Recent intervals of one model: a band from lower to upper for each, its midpoint across."""

from __future__ import annotations

import math
from collections.abc import Sequence

from uqueue.gateway.page.geometry import round_steps
from uqueue.gateway.page.markup import Html, element
from uqueue.gateway.page.samples import Sample

WIDTH, HEIGHT = 640.0, 330.0
_LEFT, _TOP, _BOTTOM = 70.0, 22.0, 14.0
_RIGHT = 8.0
#: Of fewer, none is wider than it would be among these.
_FEWEST = 20


def plot_figure(model: str, samples: Sequence[Sample], number: int) -> Html:
    """Return the SVG of samples, oldest first, newest at the right. `number` tells the plots of a page apart."""
    scale = Scale.of(samples)
    slot = _slot(len(samples))
    shown = [_mark(sample, _x(index, len(samples)), slot, scale) for index, sample in enumerate(samples)]
    last = samples[-1]
    newest = "the newest row failed" if last.midpoint is None else f"the newest from {last.lower:g} to {last.upper:g}"
    return element(
        "svg",
        element("title", f"Recent intervals of {model}", id=f"plot-{number}-title"),
        element("desc", f"{len(samples)} intervals; {newest}.", id=f"plot-{number}-desc"),
        *_axis(scale),
        *_versions(samples),
        *shown,
        viewBox=f"0 0 {WIDTH:g} {HEIGHT:g}",
        role="img",
        aria_labelledby=f"plot-{number}-title plot-{number}-desc",
    )


class Scale:
    """From a model's unit to the height of the plot."""

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = low, high

    @classmethod
    def of(cls, samples: Sequence[Sample]) -> Scale:
        ends = [end for one in samples for end in (one.lower, one.upper) if end is not None and math.isfinite(end)]
        low, high = (min(ends), max(ends)) if ends else (0.0, 1.0)
        room = (high / 2 - low / 2) * 0.1 or abs(low) * 0.05 or 0.5
        low, high = low - room, high + room
        return cls(low, high) if math.isfinite(high - low) else cls(-1e308 / 2, 1e308 / 2)

    def y(self, value: float) -> float:
        share = min(1.0, max(0.0, (value - self.low) / (self.high - self.low)))
        return HEIGHT - _BOTTOM - share * (HEIGHT - _TOP - _BOTTOM)


def _slot(count: int) -> float:
    return (WIDTH - _LEFT - _RIGHT) / max(count, _FEWEST)


def _x(index: int, count: int) -> float:
    return WIDTH - _RIGHT - (count - index) * _slot(count)


def _mark(sample: Sample, x: float, slot: float, scale: Scale) -> Html:
    middle = sample.midpoint
    if middle is None or sample.lower is None or sample.upper is None:
        y = HEIGHT - _BOTTOM - 4
        return element("path", class_="failed", d=f"M{x + 2:.1f},{y - 6:.1f}l6,6m0,-6l-6,6")
    top, bottom = sorted((scale.y(sample.lower), scale.y(sample.upper)))
    name = "band crossed" if sample.is_crossed else "band"
    band = element(
        "rect", class_=name, x=f"{x:.1f}", y=f"{top:.1f}", width=f"{slot - 1.5:.1f}", height=f"{bottom - top + 1:.1f}"
    )
    across = element("path", class_="middle", d=f"M{x:.1f},{scale.y(middle) + 0.5:.1f}h{slot - 1.5:.1f}")
    return element("g", band, across)


def _axis(scale: Scale) -> list[Html]:
    parts = []
    steps = round_steps(scale.low, scale.high, 5)
    for value in steps:
        y = scale.y(value)
        parts.append(element("path", class_="grid", d=f"M{_LEFT:g},{y:.1f}H{WIDTH:g}"))
        parts.append(element("text", f"{value:.6g}", x=_LEFT - 8, y=f"{y + 4:.1f}", text_anchor="end"))
    return parts


def _versions(samples: Sequence[Sample]) -> list[Html]:
    """Return a line wherever the next interval is another version's."""
    parts = []
    for index in range(1, len(samples)):
        if samples[index].version != samples[index - 1].version:
            x = _x(index, len(samples)) - 0.75
            parts.append(element("path", class_="version", d=f"M{x:.1f},{_TOP - 6:g}V{HEIGHT - _BOTTOM:g}"))
    return parts
