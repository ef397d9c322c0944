"""What lies at many paths of a sample, found in one walk: beginnings that paths share are gone once."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from operator import itemgetter
from typing import Any

import numpy as np

from uqueue_config.learning.feature_path import READINGS, FeaturePath

Sample = Mapping[str, Any]
_Step = str | int
_Prefix = tuple[_Step, ...]
_Picked = Callable[[Any], tuple[Any, ...]]


class PathWalk:
    """Called with a sample, returns what lies at each path, in their order; None where a path does not reach.

    Takes exported samples and raw ones. Reducers are not applied.
    """

    def __init__(self, paths: Sequence[FeaturePath]) -> None:
        # What was found so far is a list: the sample, its readings, then group by group what lies one step further.
        places: dict[_Prefix, int] = {(): 0, READINGS: 1}
        self._groups: list[tuple[int, tuple[_Step, ...], _Picked | None]] = []
        for parent, steps in _groups([path.segments for path in paths]).items():
            names = tuple(sys.intern(step) for step in steps if isinstance(step, str))  # as the names in samples are
            picked = _picking(names) if len(names) == len(steps) else None
            self._groups.append((places[parent], tuple(steps), picked))
            for step in steps:
                places[*parent, step] = len(places)
        self._picked = _picking(tuple(places[path.segments] for path in paths))

    def __call__(self, sample: Sample) -> tuple[Any, ...]:
        found = [sample, readings_of(sample)]
        for place, steps, picked in self._groups:
            holder = found[place]
            if picked is not None and type(holder) is dict:
                try:
                    found += picked(holder)
                    continue
                except KeyError:
                    pass
            found += [_step(holder, step) for step in steps] if holder is not None else [None] * len(steps)
        return self._picked(found)


def readings_of(sample: Sample) -> Any:
    """Return the readings by sensor id, of an exported sample or of a raw one."""
    container = sample.get("sensor_readings_map")
    return sample.get("sensor_readings") if container is None else _step(container, "readings")


def _groups(all_segments: Sequence[_Prefix]) -> dict[_Prefix, dict[_Step, None]]:
    """Return the steps that lead on from each beginning of a path, shorter beginnings first."""
    steps: dict[_Prefix, dict[_Step, None]] = {}
    for segments in all_segments:
        first = len(READINGS) if segments[: len(READINGS)] == READINGS else 0
        for length in range(first, len(segments)):
            steps.setdefault(segments[:length], {})[segments[length]] = None
    return dict(sorted(steps.items(), key=lambda one: len(one[0])))


def _step(holder: Any, step: _Step) -> Any:
    if isinstance(step, int):
        listed = isinstance(holder, list | tuple | np.ndarray) and step < len(holder)
        return holder[step] if listed else None
    is_object = type(holder) is dict or isinstance(holder, Mapping)  # a dict is told at once
    return holder.get(step) if is_object else None


def _picking(keys: tuple[_Step, ...]) -> _Picked:
    """Return what picks several items at once; a KeyError where one is not there."""
    return itemgetter(*keys) if len(keys) > 1 else partial(_picked_one_by_one, keys)


def _picked_one_by_one(keys: tuple[_Step, ...], holder: Any) -> tuple[Any, ...]:
    return tuple(holder[key] for key in keys)
