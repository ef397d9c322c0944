"""Samples as columns of values, some thousand rows at a time."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uqueue_worker.learning.exports.layout import Array, Column, Layout
from uqueue_worker.learning.exports.leaves import Anatomy
from uqueue_worker.learning.models.reduction import reduced

Values = dict[str, Any]
_ROWS = 512


def batches(samples: Iterable[Mapping[str, Any]], anatomy: Anatomy) -> Iterator[list[Values]]:
    """Yield the values of the samples by path, 512 samples at a time."""
    rows = ({leaf.path: leaf.value for leaf in anatomy.leaves(sample)} for sample in samples)
    while held := list(islice(rows, _ROWS)):
        yield held


def cells(rows: list[Values], column: Column) -> list[Any]:
    """Return the values of a column, None where a sample has none; moments are datetime, JSON is text."""
    return [_cell(row.get(column.source), column) for row in rows]


def numbers(rows: list[Values], array: Array) -> list[NDArray[Any] | None]:
    """Return the numbers of each sample, flat; an image row by row."""
    return [_numbers(row.get(array.source), array) for row in rows]


def iso(moment: datetime) -> str:
    """Return a moment as `2026-03-02T09:14:07.123Z`."""
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"


def layout_facts(layout: Layout) -> dict[str, Any]:
    """Return what a file says of its own columns, as JSON has it."""
    return {
        "columns": [{"name": column.name, "type": column.type} for column in layout.columns],
        "left_out": layout.left_out,
    }


def _cell(value: Any, column: Column) -> Any:
    if value is None:
        return None
    if column.reducer is not None:
        number = reduced(value, column.reducer)
        return None if np.isnan(number) else number
    if column.type == "json":
        return json.dumps(value, ensure_ascii=False, sort_keys=True, default=_text)
    return float(value) if column.type == "float64" else value


def _numbers(value: Any, array: Array) -> NDArray[Any] | None:
    if value is None:
        return None
    listed = value if array.field is None else [one[array.field] for one in value]
    return np.asarray(listed, dtype=array.type).ravel()


def _text(value: Any) -> str:
    return iso(value) if isinstance(value, datetime) else str(value)
