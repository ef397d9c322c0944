"""Feature paths: where in a sample a feature is, as `sensor_readings_map.readings.U20_SPS30.mass_…|max`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, cast

Reducer = Literal["max", "mean", "std", "p95"]
READINGS = ("sensor_readings_map", "readings")
_REDUCERS = ("max", "mean", "std", "p95")
_SEGMENT = re.compile(r"([^.\[\]|\s]+)((?:\[\d{1,9}\])*)")
_MAX_CHARACTERS = 500


@dataclass(frozen=True)
class FeaturePath:
    """`segments` are names and list indices from the sample down; `reducer` makes one number of a list or image."""

    segments: tuple[str | int, ...]
    reducer: Reducer | None = None

    def __str__(self) -> str:
        parts = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in self.segments]
        return "".join(parts).removeprefix(".") + (f"|{self.reducer}" if self.reducer else "")

    @property
    def sensor_id(self) -> str | None:
        """The sensor whose reading this is; None for anything else."""
        if self.segments[:2] == READINGS and len(self.segments) > 2:
            return str(self.segments[2])
        return None


def parse_feature_path(text: str) -> FeaturePath:
    """Read a path in its canonical form, or with `readings.` left out. Raises ValueError."""
    body, bar, reducer = text.partition("|")
    if bar and reducer not in _REDUCERS:
        raise ValueError(f"expected one of the reducers {', '.join(_REDUCERS)}")
    matches = [_SEGMENT.fullmatch(part) for part in body.split(".")]
    if len(text) > _MAX_CHARACTERS or not all(matches):
        raise ValueError("expected names joined by dots, with list indices as [0]")
    segments: list[str | int] = []
    for match in matches:
        if match is not None:
            segments += [match[1], *(int(index) for index in re.findall(r"\d+", match[2]))]
    if segments[0] == READINGS[0] and segments[1:2] != [READINGS[1]]:
        segments.insert(1, READINGS[1])
    return FeaturePath(tuple(segments), cast(Reducer, reducer) if bar else None)


def canonical_feature_path(text: str) -> str:
    """Return the path in its canonical form. Raises ValueError."""
    return str(parse_feature_path(text))
