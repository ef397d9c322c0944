"""Where samples are, in words that people use: the numbers of a scenario's parameters, with names and units."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Position = dict[str, float]
_UNITS = {
    "_percent": "%",
    "_celsius": "°C",
    "_mps": "m/s",
    "_v_m": "V/m",
    "_db": "dB",
    "_g_s": "g/s",
    "_w_m2": "W/m²",
    "_mm_hr": "mm/h",
    "_hz": "Hz",
    "_hours": "h",
    "_ppb": "ppb",
    "_microteslas": "µT",
    "_micrograms_per_m3": "µg/m³",
    "_degrees": "°",
    "_w": "W",
    "_s": "s",
}
_WORDS = {"relative humidity": "humidity", "air temperature": "temperature"}
_INNER = (0.05, 0.95)  # the middle nine tenths say where samples mostly are
_TELLING = 0.75  # share of the class's range below which a parameter says something about a region
_TOGETHER = 0.95
_MOST_NAMED = 3


@dataclass(frozen=True)
class Range:
    """Where most samples of a region are in one parameter; None for an end that is the class's own."""

    name: str
    low: float | None
    high: float | None
    share: float

    @property
    def words(self) -> str:
        label, unit = named(self.name)
        after = f" {unit}" if unit else ""
        if self.low is not None and self.high is not None:
            return f"{label} {shown(self.low)} to {shown(self.high)}{after}"
        return f"{label} > {shown(self.low)}{after}" if self.low is not None else f"{label} < {shown(self.high)}{after}"


def position(parameters: Mapping[str, Any]) -> Position:
    """Return the numbers of (nested) parameters by path; the three of a location become one: the distance."""
    return dict(_numbers(parameters, ""))


def named(path: str) -> tuple[str, str]:
    """Return a parameter's name for people, and its unit."""
    bare = path.removeprefix("environment.")
    _, found, substance = bare.partition("_g_s.")
    if found:
        return f"{substance} rate", "g/s"
    ending = next((ending for ending in _UNITS if bare.endswith(ending)), "")
    name = re.sub(r"[_.]+", " ", bare.removesuffix(ending)).strip()
    unit = "m" if bare.rpartition(".")[2] == "distance" else _UNITS.get(ending, "")
    return _WORDS.get(name, name), unit


def shown(value: float | None) -> str:
    """Return a number of three digits, as people write it."""
    if value is None:
        return "–"
    return f"{value:.0f}" if 10 <= abs(value) < 1e5 else f"{value:.3g}"


def telling(members: Sequence[Position], everyone: Sequence[Position]) -> list[Range]:
    """Return the parameters that tell members from everyone (of the same class), the most telling first.

    Of parameters that go together (|r| > 0.95), the first one speaks for all.
    """
    found = []
    for name in sorted({name for one in members for name in one}):
        inside = np.quantile([one[name] for one in members if name in one], _INNER)
        spread = [one[name] for one in everyone if name in one]
        low, high = np.quantile(spread or [0.0], _INNER)
        if not high > low:
            continue
        share = (inside[1] - inside[0]) / (high - low)
        if share < _TELLING:
            below, above = (inside[0] - low) / (high - low), (high - inside[1]) / (high - low)
            ends = float(inside[0]) if below > 0.1 else None, float(inside[1]) if above > 0.1 else None
            if ends != (None, None):
                found.append(Range(name, *ends, float(share)))
    ranked = sorted(found, key=lambda one: one.share)
    kept = independent([one.name for one in ranked], everyone)
    return [one for one in ranked if one.name in kept][:_MOST_NAMED]


def independent(names: Sequence[str], everyone: Sequence[Position]) -> list[str]:
    """Return the names in their order, without those that go together with an earlier one wherever both are."""
    kept: list[str] = []
    for name in names:
        if all(abs(_correlation(name, other, everyone)) <= _TOGETHER for other in kept):
            kept.append(name)
    return kept


def in_words(label: str, ranges: Sequence[Range]) -> str:
    """Return a region in words: `CORONA, humidity > 85 %`."""
    return ", ".join([label, *(one.words for one in ranges)]) if ranges else f"{label}, everywhere"


def inside(where: Position, box: Mapping[str, tuple[float, float]]) -> bool:
    """Say whether a place lies within all ranges; a parameter that it does not have keeps it out."""
    return all(name in where and low <= where[name] <= high for name, (low, high) in box.items())


def _correlation(name: str, other: str, everyone: Sequence[Position]) -> float:
    pairs = np.array([(one[name], one[other]) for one in everyone if name in one and other in one])
    if len(pairs) < 2 or not (np.ptp(pairs, axis=0) > 0).all():
        return 0.0
    return float(np.corrcoef(pairs, rowvar=False)[0, 1])


def _numbers(value: Any, path: str) -> Iterator[tuple[str, float]]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _numbers(inner, f"{path}.{name}" if path else str(name))
    elif isinstance(value, list | tuple) and len(value) == 3 and path.endswith("location"):
        yield f"{path.removesuffix('location')}distance", math.hypot(*map(float, value))
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from _numbers(inner, f"{path}[{index}]")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield path, float(value)
