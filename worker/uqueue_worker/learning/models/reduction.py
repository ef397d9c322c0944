"""One number of a value in a sample: of a number itself, or of a list or an image by a reducer."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from uqueue_config.learning.feature_path import Reducer
from uqueue_worker.learning.metrics import FloatArray

_MAX_DEPTH = 8


class NotNumeric(Exception):
    """The message says what the value is instead, as the end of a sentence."""


def as_number(value: Any) -> float:
    """Return a number as float; NaN for None and for what is beyond float64. Raises NotNumeric."""
    if value is None:
        return math.nan
    if isinstance(value, int | float | np.number | np.bool_):
        try:
            return float(value)
        except OverflowError:
            return math.nan
    if isinstance(value, list | tuple | np.ndarray):
        raise NotNumeric("is a list; name an index or a reducer (|max, |mean, |std, |p95)")
    raise NotNumeric(f"is {_kind(value)} and no number")


def reduced(value: Any, reducer: Reducer) -> float:
    """Return the maximum, mean, population deviation or 95th percentile (linear) of the finite numbers of a value.

    NaN where it has none. Raises NotNumeric.
    """
    if value is None:
        return math.nan
    numbers = _array(value)
    if not np.isfinite(numbers).all():
        numbers = numbers[np.isfinite(numbers)]
    if numbers.size == 0:
        return math.nan
    if reducer == "p95":
        return float(np.percentile(numbers, 95))
    if reducer == "max":
        return float(numbers.max())
    return float(numbers.mean() if reducer == "mean" else numbers.std())


def _array(value: Any) -> FloatArray:
    """Return the numbers of a value, flat; at once where NumPy can, and one by one where rows differ in length."""
    try:
        found = np.asarray(value)
    except ValueError:
        found = np.asarray(None)
    if found.dtype.kind in "biuf":
        return found.astype(np.float64).ravel()
    return np.array(list(_flat(value, 0)), dtype=np.float64)


def _flat(value: Any, depth: int) -> Iterator[float]:
    if isinstance(value, list | tuple | np.ndarray):
        if depth == _MAX_DEPTH:
            raise NotNumeric(f"is nested more than {_MAX_DEPTH} levels deep")
        for one in value:
            yield from _flat(one, depth + 1)
    else:
        yield as_number(value)


def _kind(value: Any) -> str:
    return {"str": "text", "dict": "an object"}.get(type(value).__name__, f"a {type(value).__name__}")
