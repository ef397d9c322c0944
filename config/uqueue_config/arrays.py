"""Arrays as JSON: nested lists for people, base64 of little-endian bytes for bulk.

{"dtype": "<f4", "shape": [10000, 8], "data": "AACAPw..."}
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Encoding = Literal["lists", "base64"]


def encode_array(array: NDArray[Any], encoding: Encoding, *, blank_rows: NDArray[np.bool_] | None = None) -> Any:
    """Return the JSON form of an array. Float values in `blank_rows` do not travel: null in lists, 0 in base64."""
    blanks: list[int] = []
    if blank_rows is not None and array.dtype.kind == "f":
        blanks = np.flatnonzero(blank_rows).tolist()
    if encoding == "lists":
        rows: list[Any] = array.tolist()
        for row in blanks:
            rows[row] = np.full(array.shape[1:], None, dtype=object).tolist()
        return rows
    if len(blanks):
        array = array.copy()
        array[blanks] = 0
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    data = base64.b64encode(little.tobytes()).decode("ascii")
    return {"dtype": little.dtype.str, "shape": list(array.shape), "data": data}


def decode_array(value: Any, dtype: str, *, blank_rows: NDArray[np.bool_] | None = None) -> NDArray[Any]:
    """Read what `encode_array` wrote, as `dtype` in native byte order; `blank_rows` become NaN.

    Raises ValueError when dtype, shape and bytes do not fit together. Nothing is allocated beyond the bytes that came.
    """
    # null becomes NaN in np.array
    array = _from_base64(value, np.dtype(dtype)) if isinstance(value, Mapping) else np.array(value, dtype=dtype)
    if blank_rows is not None:
        if len(blank_rows) != len(array):
            raise ValueError(f"{len(array)} rows, expected {len(blank_rows)}")
        array[blank_rows] = np.nan
    return array


def _from_base64(value: Mapping[str, Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    if set(value) != {"dtype", "shape", "data"}:
        raise ValueError(f"expected an object with dtype, shape and data, got {sorted(map(str, value))[:6]}")
    if value["dtype"] != dtype.str:
        raise ValueError(f"expected dtype {dtype.str!r}, got {str(value['dtype'])[:20]!r}")
    shape = value["shape"]
    if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape) or len(shape) > 4:
        raise ValueError("expected shape to be a short list of whole numbers")
    try:
        raw = base64.b64decode(value["data"], validate=True)
    except (binascii.Error, TypeError, ValueError):
        raise ValueError("expected data to be standard base64") from None
    if len(raw) != math.prod(shape) * dtype.itemsize:
        raise ValueError(
            f"shape {shape} of {dtype.str!r} needs {math.prod(shape) * dtype.itemsize} bytes, got {len(raw)}"
        )
    return np.frombuffer(raw, dtype=dtype).reshape(shape).astype(dtype.newbyteorder("="))
