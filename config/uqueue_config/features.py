"""The check of a table of features, the same on both sides of the queue.

It is the only guard against NaN: in Keras relu(NaN) = 0, so a NaN feature would yield a finite, plausible interval.
"""

from __future__ import annotations

import math
import numbers
import struct
from collections.abc import Sequence
from itertools import chain
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from uqueue_config.errors import InvalidFeatures

_EXPECTED = "expected a table of numbers (rows, columns)"
_SHOWN_CHARACTERS = 40
_FEW_ROWS = 16
_ANY_NUMBER_OF_ROWS = 1 << 31


def validate_features(
    features: Any, *, columns: int | None, max_rows: int = _ANY_NUMBER_OF_ROWS
) -> NDArray[np.float32]:
    """Return features as a new float32 (rows, columns) array in C order.

    `features` is a 2-D array, or a sequence of rows of real numbers. `columns` is the width of the model, or None where
    that is not known yet. How many rows a job may hold is decided where it is submitted. Raises InvalidFeatures, saying
    what was expected and what came, and where the first bad cell is: wrong shape or size, anything that is not a real
    number (None, text, bool, complex, dates, objects), and values that are not finite as float64 or as float32.
    """
    if type(features) is list and (quick := _from_few_rows(features, max_rows, columns)) is not None:
        return quick
    if _is_row(features) and not 1 <= len(features) <= max_rows:
        raise InvalidFeatures(reason=f"expected 1 to {max_rows} rows, got {len(features) or 'none'}")
    wide = _from_array(features) if _is_array(features) else _from_rows(features)
    rows, width = wide.shape
    if not 1 <= rows <= max_rows:  # of what is neither a list nor a NumPy array
        raise InvalidFeatures(reason=f"expected 1 to {max_rows} rows, got {rows or 'none'}")
    if columns is not None and width != columns:
        raise InvalidFeatures(reason=f"expected {columns} columns, got {width}")
    if width < 1:
        raise InvalidFeatures(reason="expected at least 1 column, got none")
    return _to_float32(wide)


def _from_few_rows(rows: list[Any], max_rows: int, columns: int | None) -> NDArray[np.float32] | None:
    """Return the usual small job, a good list of a few lists, in a fraction of the time; None for all else."""
    if not 1 <= len(rows) <= min(_FEW_ROWS, max_rows) or not all(type(row) is list for row in rows):
        return None
    width = len(rows[0])
    cells = rows[0] if len(rows) == 1 else list(chain.from_iterable(rows))
    if width == 0 or (columns or width) != width or any(len(row) != width for row in rows):
        return None
    if not {float, int}.issuperset(map(type, cells)):
        return None
    try:
        packed = struct.pack(f"<{len(cells)}f", *cells)  # OverflowError where float32 cannot hold a cell
    except (OverflowError, struct.error):
        return None
    return np.frombuffer(packed, "<f4").reshape(-1, width).astype(np.float32) if math.isfinite(sum(cells)) else None


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray) or (hasattr(value, "__array__") and not isinstance(value, np.generic))


def _from_array(value: Any) -> NDArray[Any]:
    masked: Any = np.ma  # its functions carry no types
    array = masked.filled(value.astype(np.float64), np.nan) if masked.isMaskedArray(value) else np.asarray(value)
    if array.ndim != 2:
        raise InvalidFeatures(reason=f"{_EXPECTED}, got an array of shape {array.shape}")
    if array.dtype.kind == "O":
        return _from_rows(array.tolist())
    if array.dtype.kind not in "fiu":
        raise InvalidFeatures(reason=f"{_EXPECTED}, got an array of {array.dtype}")
    return array


def _from_rows(value: Any) -> NDArray[np.float64]:
    if not _is_row(value):
        raise InvalidFeatures(reason=f"{_EXPECTED}, got {_describe(value)}")
    width = None
    for index, row in enumerate(value):
        if not _is_row(row):
            raise InvalidFeatures(reason=f"{_EXPECTED}, row {index} is {_describe(row)}")
        width = len(row) if width is None else width
        if len(row) != width:
            raise InvalidFeatures(reason=f"expected {width} columns in every row, row {index} has {len(row)}")
    cells = list(chain.from_iterable(value))
    for kind in set(map(type, cells)):
        if not _is_real(kind):
            _refuse_cell(cells, width or 1)
    return np.array([_as_float(cell) for cell in cells], dtype=np.float64).reshape(len(value), width or 0)


def _is_row(value: Any) -> bool:
    return isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.ndim > 0)


def _is_real(kind: type) -> bool:
    return issubclass(kind, numbers.Real) and not issubclass(kind, bool | np.bool_)


def _refuse_cell(cells: Sequence[Any], width: int) -> NoReturn:
    first = next(index for index, cell in enumerate(cells) if not _is_real(type(cell)))
    row, column = divmod(first, width)
    raise InvalidFeatures(reason=f"expected a number at row {row}, column {column}, got {_describe(cells[first])}")


def _as_float(cell: Any) -> float:
    try:
        return float(cell)
    except OverflowError:
        return math.inf  # a whole number beyond float64 is refused with the values that are not finite


def _to_float32(wide: NDArray[Any]) -> NDArray[np.float32]:
    with np.errstate(all="ignore"):
        narrow = np.array(wide, dtype=np.float32, order="C")
    finite = np.isfinite(narrow)
    if not finite.all():
        row, column = (int(index) for index in np.argwhere(~finite)[0])
        cell = float(wide[row, column])
        reason = "got" if not math.isfinite(cell) else "which float32 cannot hold: got"
        raise InvalidFeatures(reason=f"expected a finite number at row {row}, column {column}, {reason} {cell}")
    return narrow


def _describe(value: Any) -> str:
    if value is None or isinstance(value, bool | np.bool_ | str | complex):
        text = repr(value)
        return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "..."
    return f"an object of type {type(value).__name__}"
