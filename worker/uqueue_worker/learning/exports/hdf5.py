"""Samples as an HDF5 file, by h5py.

/columns/<name>          (n,) values; where there is none: NaN, 0, false or the empty text
/valid/<name>            (n,) whether there is one
/arrays/<name>/values    (total,) the numbers of all samples one after another, compressed
/arrays/<name>/offsets   (n + 1,) int64: sample i has values[offsets[i]:offsets[i + 1]], an image row by row
/arrays/<name>/valid     (n,) whether the sample has a list or image, of any length
/metadata                JSON text

Texts are UTF-8, moments ISO 8601 in UTC.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from uqueue_worker.learning.errors import GenerationFailed
from uqueue_worker.learning.exports.layout import Array, Column, Layout
from uqueue_worker.learning.exports.table import Values, cells, iso, layout_facts, numbers

_CHUNK_ROWS, _CHUNK_NUMBERS = 512, 65_536
_PACKED = {"compression": "gzip", "compression_opts": 4, "shuffle": True}
_MISSING = {"text": "", "json": "", "time": "", "bool": False, "int64": 0, "float32": np.nan, "float64": np.nan}


def write_hdf5(path: Path, layout: Layout, rows: Iterable[list[Values]], facts: dict[str, Any]) -> None:
    """Write the file. Raises GenerationFailed for a text with a NUL character, which HDF5 has none of."""
    import h5py

    kept = {array.source for array in layout.arrays}
    left_out = {name: why for name, why in layout.left_out.items() if name not in kept}
    arrays = [{"name": array.name, "type": array.type} for array in layout.arrays]
    told = {**facts, **layout_facts(layout), "left_out": left_out, "arrays": arrays}
    with h5py.File(path, "x", track_order=True) as file:
        file["metadata"] = json.dumps(told, sort_keys=True)
        for group in ("columns", "valid", "arrays"):
            file.create_group(group, track_order=True)
        for column in layout.columns:
            text = column.type in ("text", "json", "time")
            dtype = h5py.string_dtype() if text else column.type
            _growing(file["columns"], column.name, dtype)
            _growing(file["valid"], column.name, "bool")
        for array in layout.arrays:
            group = file["arrays"].create_group(array.name)
            _growing(group, "values", array.type, _CHUNK_NUMBERS)
            _growing(group, "valid", "bool")
            _append(_growing(group, "offsets", "int64"), [0])
        for held in rows:
            for column in layout.columns:
                _add_column(file, column, held)
            for array in layout.arrays:
                _add_array(file["arrays"][array.name], array, held)


def _add_column(file: Any, column: Column, rows: list[Values]) -> None:
    values = cells(rows, column)
    if column.type == "time":
        values = [None if one is None else iso(one) for one in values]
    if column.type in ("text", "json") and any(one is not None and "\0" in one for one in values):
        raise GenerationFailed(reason=f"{column.name}: HDF5 has no texts with NUL characters; write another format")
    filled = [_MISSING[column.type] if one is None else one for one in values]
    _append(file["columns"][column.name], filled)
    _append(file["valid"][column.name], [one is not None for one in values])


def _add_array(group: Any, array: Array, rows: list[Values]) -> None:
    found = numbers(rows, array)
    lengths = [0 if one is None else len(one) for one in found]
    start = int(group["offsets"][-1])
    _append(group["values"], np.concatenate([one for one in found if one is not None] or [np.zeros(0, array.type)]))
    _append(group["offsets"], start + np.cumsum(lengths))
    _append(group["valid"], [one is not None for one in found])


def _growing(group: Any, name: str, dtype: Any, chunk: int = _CHUNK_ROWS) -> Any:
    return group.create_dataset(name, (0,), dtype=dtype, maxshape=(None,), chunks=(chunk,), **_PACKED)


def _append(dataset: Any, values: Any) -> None:
    there = len(dataset)
    dataset.resize((there + len(values),))
    if len(values):
        dataset[there:] = values
