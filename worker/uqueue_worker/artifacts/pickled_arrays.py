"""NumPy arrays and scalars inside a pickle, decoded from their bytes without asking NumPy to rebuild them.

Pickles describe an array as a call of a NumPy function with a dtype, a shape and raw bytes. Here those arguments are
checked (numbers of 1 to 8 bytes, at most 3 dimensions and 4096 elements, exactly as many bytes as the shape needs) and
only then read with `numpy.frombuffer`. Every function raises ValueError with a reason.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_DIMENSIONS = 3
MAX_ELEMENTS = 4096
_DTYPE = re.compile(r"(?P<order>[<>|=]?)(?:(?P<kind>f(?=[248])|[iu](?=[1248])|b(?=1))(?P<size>[1248]))", re.ASCII)


@dataclass(eq=False)
class PickledDtype:
    """A dtype under construction: kind and item size at once, the byte order when its state arrives."""

    kind: str
    item_size: int
    order: str = "="

    def set_state(self, state: Any) -> None:
        """Take the byte order from `(version, order, subarray, names, fields, size, alignment, flags)`."""
        if type(state) is not tuple or len(state) != 8 or not _one_of(state[1], "<>|="):
            raise ValueError("a dtype state of an unknown form")
        if any(part is not None for part in state[2:5]):
            raise ValueError("a structured dtype; only plain numbers are read")
        self.order = state[1]

    def to_numpy(self) -> np.dtype[Any]:
        order = "=" if self.order == "|" else self.order
        return np.dtype(f"{order}{self.kind}{self.item_size}" if self.kind != "b" else "bool")


@dataclass(eq=False)
class PickledArray:
    """An array under construction; `value` is None until its state was read."""

    value: NDArray[Any] | None = None

    def set_state(self, state: Any) -> None:
        """Read `(version, shape, dtype, fortran_order, data)`."""
        if self.value is not None:
            raise ValueError("an array whose state is given twice")
        if type(state) is not tuple or len(state) != 5 or type(state[3]) is not bool:
            raise ValueError("an array state of an unknown form")
        _, shape, dtype, fortran_order, data = state
        self.value = decode_array(data, dtype, shape, "F" if fortran_order else "C")


def read_dtype(arguments: tuple[Any, ...]) -> PickledDtype:
    """Return the dtype that `numpy.dtype(code, align, copy)` names."""
    code = arguments[0] if arguments else None
    match = _DTYPE.fullmatch(code) if type(code) is str and len(code) <= 4 else None
    if match is None:
        raise ValueError("a dtype that is not one of the numbers of kinds f, i, u and b with 1 to 8 bytes")
    return PickledDtype(match["kind"], int(match["size"]), match["order"] or "=")


def decode_array(data: Any, dtype: Any, shape: Any, order: Any) -> NDArray[Any]:
    """Return the array that these bytes hold, in native byte order."""
    if type(dtype) is not PickledDtype:
        raise ValueError("an array without a plain dtype")
    if type(shape) is not tuple or len(shape) > MAX_DIMENSIONS or not _one_of(order, "CF"):
        raise ValueError(f"an array that is not of at most {MAX_DIMENSIONS} dimensions")
    if any(type(length) is not int or not 0 <= length <= MAX_ELEMENTS for length in shape):
        raise ValueError(f"an array with a length that is not in 0..{MAX_ELEMENTS}")
    elements = math.prod(shape)
    if elements > MAX_ELEMENTS:
        raise ValueError(f"an array of {elements} elements; at most {MAX_ELEMENTS} are read")
    raw = raw_bytes(data)
    if len(raw) != elements * dtype.item_size:
        raise ValueError(f"an array of {elements} elements with {len(raw)} bytes")
    flat = np.frombuffer(raw, dtype=np.uint8) != 0 if dtype.kind == "b" else np.frombuffer(raw, dtype=dtype.to_numpy())
    return flat.reshape(shape, order=order).astype(flat.dtype.newbyteorder("="))


def decode_scalar(arguments: tuple[Any, ...]) -> Any:
    """Return the NumPy scalar that `scalar(dtype, data)` describes."""
    if len(arguments) != 2:
        raise ValueError("a NumPy scalar of an unknown form")
    return decode_array(arguments[1], arguments[0], (), "C")[()]


def _one_of(value: Any, letters: str) -> bool:
    return type(value) is str and len(value) == 1 and value in letters


def raw_bytes(data: Any) -> bytes:
    """Return the bytes that a pickle carries as bytes, as a bytearray, or (Python 2) as latin-1 text."""
    if type(data) is str:
        return data.encode("latin-1")
    if type(data) not in (bytes, bytearray):
        raise ValueError("an array whose data are not bytes")
    return bytes(data)
