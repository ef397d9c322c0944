"""IQ samples as they come from outside: nested lists of [I, Q], arrays, or base64 of little-endian complex64.

All forms become one complex64 array (receivers, n), so that the same recording gives the same features whichever way it
came. MalformedSamples is about the form (HTTP 422), its parent InvalidSamples about the content (HTTP 400).
"""

from __future__ import annotations

import binascii
import math
import numbers
import sys
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uqueue_config.errors import InvalidSamples, MalformedSamples

MIN_SAMPLES, MAX_SAMPLES = 2048, 262_144
_FORM = "expected [I, Q] pairs as (n, 2) or (receivers, n, 2)"
_RATE_TOLERANCE = 0.01
_BYTES = 8  # of a complex64


def read_samples(
    value: Any, *, receivers: int, min_samples: int = MIN_SAMPLES, max_samples: int = MAX_SAMPLES
) -> NDArray[np.complex64]:
    """Return complex64 (r, n) in C order, r being 1 or `receivers`, from lists or arrays.

    `value` is (n, 2) or (r, n, 2) real numbers, I before Q, or a complex array (n,) or (r, n). MalformedSamples for
    another rank, ragged lists, and what is not a number (None, text, bool, objects); InvalidSamples for too few or too
    many samples, another number of receivers, and values that are not finite as float32.
    """
    wide = _from_array(value) if isinstance(value, np.ndarray) else _from_lists(value, min_samples, max_samples)
    return _check(wide, receivers, min_samples, max_samples)


def decode_samples(
    text: Any, shape: Any, *, receivers: int, min_samples: int = MIN_SAMPLES, max_samples: int = MAX_SAMPLES
) -> NDArray[np.complex64]:
    """Return complex64 (r, n) from standard padded base64 of little-endian complex64 in C order.

    `shape` is [n] or [r, n], counted in complex samples. MalformedSamples when text or shape are of the wrong type or
    rank; InvalidSamples when they do not fit together, and for what `read_samples` refuses in content.
    """
    if not isinstance(text, str):
        raise MalformedSamples(reason=f"expected base64 text, got {_describe(text)}")
    if not isinstance(shape, list | tuple) or not all(type(size) is int and 0 <= size < 2**63 for size in shape):
        raise MalformedSamples(reason="expected shape to be a list of whole numbers, [n] or [receivers, n]")
    if len(shape) not in (1, 2):
        raise MalformedSamples(reason=f"expected shape to be [n] or [receivers, n], got {len(shape)} numbers")
    _check_counts(1 if len(shape) == 1 else shape[0], shape[-1], receivers, min_samples, max_samples)
    raw = _from_base64(text)
    if len(raw) != _BYTES * math.prod(shape):
        raise InvalidSamples(
            reason=f"shape {list(shape)} needs {_BYTES * math.prod(shape)} bytes of complex64, got {len(raw)}"
        )
    return _check(np.frombuffer(raw, "<c8").reshape(shape), receivers, min_samples, max_samples)


def check_sample_rate(given_hz: Any, declared_hz: float) -> None:
    """Raise InvalidSamples when samples were taken at another rate than the model's, by more than 1 %.

    None stands for the model's own rate. Nothing is ever resampled. MalformedSamples for what is no number above 0.
    """
    if given_hz is None:
        return
    real = isinstance(given_hz, int | float) and not isinstance(given_hz, bool)
    if not real or not 0 < given_hz <= sys.float_info.max:
        shown = "one that is not" if real else _describe(given_hz)
        raise MalformedSamples(reason=f"expected sample_rate_hz to be a finite number above 0, got {shown}")
    if abs(given_hz - declared_hz) > _RATE_TOLERANCE * declared_hz:
        raise InvalidSamples(
            reason=f"the model reads {declared_hz:g} Hz, got {given_hz:g} Hz. Resample the recording first, or choose "
            "a model for its rate"
        )


def _from_base64(text: str) -> bytes:
    try:
        if len(text) % 4:
            raise ValueError("padding")
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError:  # binascii.Error is one
        raise InvalidSamples(reason="expected standard base64 with padding, and the text is not") from None


def _from_array(array: NDArray[Any]) -> NDArray[Any]:
    if np.ma.isMaskedArray(array):  # type: ignore[no-untyped-call]
        raise MalformedSamples(reason="expected an array without a mask, got a masked one")
    if array.dtype.kind == "c" and array.ndim in (1, 2):
        return array
    if array.dtype.kind not in "fiu" or array.ndim not in (2, 3) or array.shape[-1] != 2:
        raise MalformedSamples(reason=f"{_FORM}, got an array of {array.dtype} and shape {array.shape}")
    wide = np.ascontiguousarray(array, dtype=np.float64)
    return wide.view(np.complex128)[..., 0]


def _from_lists(value: Any, min_samples: int, max_samples: int) -> NDArray[np.complex128]:
    if not _is_list(value):
        raise MalformedSamples(reason=f"{_FORM}, got {_describe(value)}")
    nested = len(value) > 0 and _is_list(value[0]) and len(value[0]) > 0 and _is_list(value[0][0])
    rows = value if nested else [value]
    _check_row_lists(rows)
    if len(rows[0]) > max_samples:  # before the list is walked through
        raise InvalidSamples(reason=_wrong_count(len(rows[0]), min_samples, max_samples))
    pairs = list(chain.from_iterable(rows))
    _check_pairs(pairs, len(rows[0]))
    try:
        flat = np.fromiter(chain.from_iterable(pairs), np.float64, 2 * len(pairs))
    except OverflowError:
        raise InvalidSamples(reason="expected finite values that float32 can hold, got a huge whole number") from None
    return flat.view(np.complex128).reshape(len(rows), -1)


def _check_row_lists(rows: Any) -> None:
    for index, row in enumerate(rows):
        if not _is_list(row):
            raise MalformedSamples(reason=f"{_FORM}, receiver {index} is {_describe(row)}")
        if len(row) != len(rows[0]):
            raise MalformedSamples(
                reason=f"expected as many samples from every receiver: {len(rows[0])} from receiver 0, {len(row)} "
                f"from receiver {index}"
            )


def _check_pairs(pairs: list[Any], per_receiver: int) -> None:
    if not {list, tuple}.issuperset(map(type, pairs)) or not {2}.issuperset(map(len, pairs)):
        bad = next(index for index, pair in enumerate(pairs) if not _is_list(pair) or len(pair) != 2)
        found = f"{len(pairs[bad])} values" if _is_list(pairs[bad]) else _describe(pairs[bad])
        raise MalformedSamples(reason=f"{_FORM}, {_place(bad, per_receiver)} is {found}")
    if not all(map(_is_real, set(map(type, chain.from_iterable(pairs))))):
        bad, cell = next((i, c) for i, pair in enumerate(pairs) for c in pair if not _is_real(type(c)))
        raise MalformedSamples(reason=f"expected numbers, {_place(bad, per_receiver)} holds {_describe(cell)}")


def _check(samples: NDArray[Any], receivers: int, min_samples: int, max_samples: int) -> NDArray[np.complex64]:
    rows = samples[None] if samples.ndim == 1 else samples
    _check_counts(len(rows), rows.shape[1], receivers, min_samples, max_samples)
    with np.errstate(over="ignore", invalid="ignore"):
        narrow = np.array(rows, dtype=np.complex64, order="C")
    finite = np.isfinite(narrow.view(np.float32))
    if not finite.all():
        bad = int(np.argmin(finite.ravel())) // 2
        raise InvalidSamples(
            reason=f"expected finite values that float32 can hold, {_place(bad, narrow.shape[1])} holds "
            f"{complex(rows.ravel()[bad])}"
        )
    return narrow


def _check_counts(given: int, n: int, receivers: int, min_samples: int, max_samples: int) -> None:
    if given not in (1, receivers):
        raise InvalidSamples(reason=f"expected 1 or {receivers} receivers, got {given}")
    if not min_samples <= n <= max_samples:
        raise InvalidSamples(reason=_wrong_count(n, min_samples, max_samples))


def _wrong_count(n: int, low: int, high: int) -> str:
    return f"expected {low} to {high} samples per receiver, got {n or 'none'}"


def _place(index: int, per_receiver: int) -> str:
    receiver, sample = divmod(index, per_receiver)
    return f"sample {sample} of receiver {receiver}"


def _is_real(kind: type) -> bool:
    return issubclass(kind, numbers.Real) and not issubclass(kind, bool)


def _is_list(value: Any) -> bool:
    return type(value) in (list, tuple)


def _describe(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return repr(value)
    return f"an object of type {type(value).__name__}"
