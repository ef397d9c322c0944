"""Where samples are: the parameters of their scenarios, or else their features, and their true class."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uqueue_worker.learning.strategies.evidence import Fields
from uqueue_worker.learning.strategies.region_scores import Scored

_CLASS_DISTANCE = 1.5
_LARGEST = 1e100  # squares of distances stay finite
FloatArray = NDArray[np.float64]
Position = dict[str, float]
ParametersOf = Callable[[str], Mapping[str, Any] | None]


@dataclass(frozen=True, eq=False)
class Space:
    """`coordinates` float64 (samples, dimensions), scaled; `positions` the numbers behind them, as they are."""

    coordinates: FloatArray
    positions: list[Position]


def positions(
    kept: Sequence[Scored],
    everyone: Sequence[Scored],
    parameters_of: ParametersOf | None,
    limits: Mapping[str, tuple[float, float]] | None,
) -> Space:
    """Return where the kept samples are; scales come from all samples, so that the kept ones do not stretch them."""
    found = [_parameters(one.sample, parameters_of) for one in kept]
    if all(found):
        reference = [_parameters(one.sample, parameters_of) for one in everyone]
        coordinates = _normalised(found, reference, limits or {})
    else:
        found = [_features(one.sample) for one in kept]
        coordinates = _standardised(found, [_features(one.sample) for one in everyone])
    return Space(np.hstack([coordinates, _CLASS_DISTANCE * _one_hot(kept)]), found)


def _parameters(sample: Fields, parameters_of: ParametersOf | None) -> Position:
    given = sample.get("scenario_parameters")
    scenario = sample.get("original_scenario_id")
    if given is None and parameters_of is not None and scenario is not None:
        given = parameters_of(scenario)
    return dict(_numbers(given, "")) if isinstance(given, Mapping) else {}


def _features(sample: Fields) -> Position:
    summary = sample.get("sample_features_summary")
    if not isinstance(summary, Mapping):
        return {}
    given = summary.get("all_raw_values")
    if not isinstance(given, Mapping):
        top = summary.get("top_n_features") or ()
        given = {one.get("feature_path"): one.get("raw_value") for one in top if isinstance(one, Mapping)}
    return dict(_numbers(given, ""))


def _numbers(value: Any, path: str) -> Iterator[tuple[str, float]]:
    """Yield the numbers of nested parameters with their paths: `a.b`, `location[0]`."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _numbers(inner, f"{path}.{name}" if path else str(name))
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from _numbers(inner, f"{path}[{index}]")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        if not abs(value) <= _LARGEST:
            raise ValueError(f"{path}: expected a number of at most {_LARGEST:g}, got {value!r}")
        yield path, float(value)


def _normalised(
    found: list[Position], reference: list[Position], limits: Mapping[str, tuple[float, float]]
) -> FloatArray:
    names = _names(found)
    seen = _table(reference, names)
    low = np.array([limits[name][0] if name in limits else np.nanmin(seen[:, i]) for i, name in enumerate(names)])
    high = np.array([limits[name][1] if name in limits else np.nanmax(seen[:, i]) for i, name in enumerate(names)])
    return _filled((_table(found, names) - low) / np.where(high > low, high - low, 1))


def _standardised(found: list[Position], reference: list[Position]) -> FloatArray:
    names = _names(found)
    seen = _table(reference, names)
    spread = np.nanstd(seen, axis=0)
    return _filled((_table(found, names) - np.nanmean(seen, axis=0)) / np.where(spread > 0, spread, 1))


def _names(found: list[Position]) -> list[str]:
    return sorted({name for position in found for name in position})


def _table(found: list[Position], names: list[str]) -> FloatArray:
    table = [[position.get(name, math.nan) for name in names] for position in found]
    return np.array(table, dtype=np.float64).reshape(len(found), len(names))


def _filled(table: FloatArray) -> FloatArray:
    """Return the table with the mean of its column where a sample lacks a number: neither near nor far."""
    if table.shape[1] == 0:
        return table
    return np.where(np.isnan(table), np.nanmean(table, axis=0), table)


def _one_hot(kept: Sequence[Scored]) -> FloatArray:
    labels = [str(one.sample.get("true_label")) for one in kept]
    classes = sorted(set(labels))
    return np.array([[float(label == name) for name in classes] for label in labels])
