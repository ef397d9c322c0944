"""Recent localizations as a map without tiles: positions, their uncertainty, a graticule and a scale."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

from uqueue.gateway.page.geometry import Frame, Position, round_length, round_steps, wrapped
from uqueue.gateway.page.markup import Html, element, joined
from uqueue.localization import circle_feature, ellipse_feature

WIDTH, HEIGHT = 640.0, 400.0
_TICKS = 5
_LARGEST_M = 5_000_000.0
Ring = tuple[Position, ...]


def map_figure(recent: Sequence[Mapping[str, Any]]) -> Html:
    """Return the SVG of localizations, newest first, of which there is at least one."""
    shapes = [_rings(*_shape(one)) for one in recent]
    positions = [(float(one["longitude"]), float(one["latitude"])) for one in recent]
    frame = Frame.around([*positions, *(p for rings in shapes for ring in rings for p in ring)], WIDTH, HEIGHT)
    marks = list(reversed([_mark(frame, *each) for each in zip(positions, shapes, range(len(recent)), strict=True)]))
    newest = f"The newest at {degrees(positions[0][1], 'NS')}, {degrees(positions[0][0], 'EW')}"
    radius = f"within {metres(recent[0]['uncertainty_m'])}"
    return element(
        "svg",
        element("title", "Map of recent localizations", id="map-title"),
        element("desc", f"{len(recent)} positions with their uncertainty. {newest}, {radius}.", id="map-desc"),
        element("rect", class_="sea", width=WIDTH, height=HEIGHT),
        _graticule(frame),
        joined(marks),
        _scale(frame),
        viewBox=f"0 0 {WIDTH:g} {HEIGHT:g}",
        role="img",
        aria_labelledby="map-title map-desc",
    )


def degrees(value: float, letters: str, decimals: int = 4) -> str:
    """Return a latitude (letters NS) or longitude (EW) for people."""
    number = f"{abs(value):.{decimals}f}"
    return f"{number}°" if float(number) in (0, 180) else f"{number}° {letters[value < 0]}"


def metres(value: float) -> str:
    """Return a length for people."""
    return f"{value / 1000:,.3g} km" if value >= 1000 else f"{value:.3g} m"


def _shape(one: Mapping[str, Any]) -> tuple[float, float, float, float, float]:
    """Return position, semi-axes and rotation; the circle of the same area where the ellipse was not kept."""
    major, minor, turned = one.get("ellipse") or (one["uncertainty_m"], one["uncertainty_m"], 0.0)
    return float(one["latitude"]), float(one["longitude"]), float(major), float(minor), float(turned)


@lru_cache(maxsize=1024)
def _rings(latitude: float, longitude: float, major_m: float, minor_m: float, turned: float) -> tuple[Ring, ...]:
    """Return the outline, cut where it crosses 180 degrees; nothing for what is larger than a map can show, or where
    the gateway has no extra `localization` to draw it with."""
    if not 0 < minor_m <= major_m <= _LARGEST_M:
        return ()
    try:
        if major_m == minor_m:
            feature = circle_feature(latitude, longitude, major_m)
        else:
            feature = ellipse_feature(latitude, longitude, major_m, minor_m, turned, num_points=48)
    except (ModuleNotFoundError, ValueError):
        return ()
    shape = feature["geometry"]
    polygons = [shape["coordinates"]] if shape["type"] == "Polygon" else shape["coordinates"]
    return tuple(tuple((x, y) for x, y in polygon[0]) for polygon in polygons)


def _mark(frame: Frame, position: Position, rings: Iterable[Ring], age: int) -> Html:
    parts: list[Html] = []
    for ring in rings:
        edges = _edges(ring)
        is_whole = len(edges) == 1 and len(edges[0]) == len(ring)
        name = "area edge" if is_whole else "area"
        parts += [element("path", class_=name, d=path) for path in frame.paths(ring, closed=True)]
        for line in [] if is_whole else edges:
            parts += [element("path", class_="edge", d=path) for path in frame.paths(line, closed=False)]
    x, y = frame.place(position)
    parts.append(element("circle", class_="dot", cx=f"{x:.1f}", cy=f"{y:.1f}", r=3 if age else 5))
    return element("g", *parts, class_="mark" if age else "mark newest")


def _edges(ring: Ring) -> list[list[Position]]:
    """Return the outline without the lines along which it was cut: those at 180 degrees and at a pole."""
    lines: list[list[Position]] = [[ring[0]]]
    for here, there in pairwise(ring):
        if (abs(here[0]) == abs(there[0]) == 180) or (abs(here[1]) == abs(there[1]) == 90):
            lines.append([there])
        else:
            lines[-1].append(there)
    return [line for line in lines if len(line) > 1]


def _graticule(frame: Frame) -> Html:
    parts: list[Html] = []
    meridians = round_steps(frame.west, frame.east, _TICKS)
    for longitude in meridians:
        x = (longitude - frame.west) / (frame.east - frame.west) * WIDTH
        text = degrees(wrapped(longitude), "EW", _decimals(meridians))
        parts.append(element("path", class_="grid", d=f"M{x:.1f},0V{HEIGHT:g}"))
        if 60 < x < WIDTH - 60:
            parts.append(element("text", text, x=f"{x:.1f}", y=HEIGHT - 8, text_anchor="middle"))
    parallels = [at for at in round_steps(frame.south, frame.north, _TICKS) if abs(at) <= 90]
    for latitude in parallels:
        y = (frame.north - latitude) / (frame.north - frame.south) * HEIGHT
        parts.append(element("path", class_="grid", d=f"M0,{y:.1f}H{WIDTH:g}"))
        if 30 < y < HEIGHT - 40:
            parts.append(element("text", degrees(latitude, "NS", _decimals(parallels)), x=8, y=f"{y - 5:.1f}"))
    return element("g", *parts, class_="graticule")


def _decimals(steps: Sequence[float]) -> int:
    step = steps[1] - steps[0] if len(steps) > 1 else 1.0
    return next((places for places in range(7) if abs(round(step, places) - step) < step / 100), 7)


def _scale(frame: Frame) -> Html:
    per_unit = frame.metres_per_unit
    if per_unit is None:
        return Html("")
    length = round_length(per_unit * WIDTH / 4)
    right, units = WIDTH - 14, length / per_unit
    return element(
        "g",
        element("rect", x=f"{right - units - 8:.1f}", y=0, width=f"{units + 22:.1f}", height=44),
        element("path", d=f"M{right - units:.1f},28v8H{right:g}v-8"),
        element("text", metres(length), x=f"{right - units / 2:.1f}", y=26, text_anchor="middle"),
        class_="scale",
    )
