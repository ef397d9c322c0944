"""Where positions lie on an equirectangular map around them, and round numbers for axes. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

#: (longitude, latitude) in degrees.
Position = tuple[float, float]
#: A degree of latitude, about.
DEGREE_M = 111_195.0
#: No map shows less than this, so that a single position without uncertainty has one.
LEAST_DEGREES = 0.001
_MARGIN = 0.06
_LEAST_COSINE = 0.02
_ROUNDING = 1e-9  # degrees


@dataclass(frozen=True)
class Frame:
    """A map of `width` x `height` units. `west` to `east` are degrees that do not jump: beyond 180 they go on."""

    west: float
    south: float
    east: float
    north: float
    width: float
    height: float

    @classmethod
    def around(cls, positions: Sequence[Position], width: float, height: float) -> Frame:
        """Return the smallest map, with a margin, that has them all: across 180 degrees where that is shorter."""
        west = _west_end([longitude for longitude, _ in positions])
        lefts = [_from(west, longitude) for longitude, _ in positions]
        latitudes = [latitude for _, latitude in positions]
        middle_x, middle_y = (min(lefts) + max(lefts)) / 2, (min(latitudes) + max(latitudes)) / 2
        cosine = _cosine(middle_y)
        wide, high = (max(lefts) - min(lefts)) * cosine, max(latitudes) - min(latitudes)
        # degrees of latitude per unit, the same along both axes
        unit = max(wide / width, high / height, LEAST_DEGREES / height) * (1 + 2 * _MARGIN)
        half_x, half_y = min(unit * width / 2 / cosine, 180.0), unit * height / 2
        return cls(middle_x - half_x, middle_y - half_y, middle_x + half_x, middle_y + half_y, width, height)

    def place(self, position: Position) -> tuple[float, float]:
        """Return where a position lies: x to the right, y down, in units."""
        longitude, latitude = position
        x = (_from(self.west, longitude) - self.west) / (self.east - self.west) * self.width
        return x, (self.north - latitude) / (self.north - self.south) * self.height

    def paths(self, line: Sequence[Position], *, closed: bool) -> list[str]:
        """Return the SVG paths of a line whose longitudes do not jump: one for each time that it comes onto the map."""
        west, east = min(x for x, _ in line), max(x for x, _ in line)
        turn = 360.0 * math.ceil((self.west - east) / 360)
        paths = []
        while west + turn <= self.east:
            paths.append(self._path(line, turn, closed))
            turn += 360.0
        return paths

    def _path(self, line: Sequence[Position], turn: float, closed: bool) -> str:
        scale_x, scale_y = self.width / (self.east - self.west), self.height / (self.north - self.south)
        shown = (f"{(x + turn - self.west) * scale_x:.1f},{(self.north - y) * scale_y:.1f}" for x, y in line)
        return f"M{'L'.join(shown)}{'Z' if closed else ''}"

    @property
    def metres_per_unit(self) -> float | None:
        """At the middle latitude; None where the map is stretched too much for one scale: near a pole, or very wide."""
        middle = (self.south + self.north) / 2
        if self.east - self.west > 60 or self.north - self.south > 40 or abs(middle) > 85:
            return None
        return (self.north - self.south) / self.height * DEGREE_M


def round_steps(low: float, high: float, most: int) -> list[float]:
    """Return round numbers between two, at most so many, in equal steps of 1, 2 or 5 times a power of ten."""
    span = high - low
    if not (math.isfinite(span) and span > 0):
        return [low]
    power = 10.0 ** math.floor(math.log10(span / most))
    step = next(power * factor for factor in (1, 2, 5, 10, 20) if span / (power * factor) <= most - 0.999)
    first = math.ceil(low / step - 1e-9)
    return [number * step for number in range(first, first + most) if number * step <= high + step * 1e-9]


def round_length(most: float) -> float:
    """Return the largest of 1, 2 and 5 times a power of ten that is not larger."""
    power = 10.0 ** math.floor(math.log10(most))
    return max(power * factor for factor in (1, 2, 5) if power * factor <= most * (1 + 1e-9))


def wrapped(longitude: float) -> float:
    """Return a longitude in [-180, 180)."""
    return (longitude + 180) % 360 - 180


def _west_end(longitudes: Sequence[float]) -> float:
    """Return where to begin so that all lie within the shortest stretch eastwards: after the widest gap."""
    ordered = sorted({wrapped(longitude) for longitude in longitudes})
    gaps = zip(ordered, [*ordered[1:], ordered[0] + 360], strict=True)
    return wrapped(max(gaps, key=lambda gap: gap[1] - gap[0])[1]) - _ROUNDING


def _from(west: float, longitude: float) -> float:
    """Return a longitude as it is reached going east from `west`."""
    return west + (longitude - west) % 360


def _cosine(latitude: float) -> float:
    return max(_LEAST_COSINE, math.cos(math.radians(latitude)))
