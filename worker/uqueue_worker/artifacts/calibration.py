"""The calibration state of a model, read from its pickle once and frozen."""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from uqueue_config.errors import InvalidCalibration
from uqueue_worker.artifacts.pickled_arrays import MAX_ELEMENTS, PickledArray
from uqueue_worker.artifacts.safe_pickle import read_pickled_state

MODES: Final = ("regression", "cqr")
MAX_COUNT: Final = 2**31 - 1  # pass counts travel as 32-bit integers
_MISSING = object()


@dataclass(frozen=True, eq=False)
class CalibrationState:
    """How the Monte Carlo passes stop and how far the interval is moved.

    q_hat     float64 (T,), read-only: the conformal correction per target, in target units; may be negative. Length 1
              where the file holds a scalar, which then goes for every target
    patience  passes in a row whose standard deviation did not move by more than `delta` before a row stops
    max_mc    most passes of a row
    alpha     miscoverage the calibration aimed at; None where the file does not say
    mode      "regression", "cqr" or None
    """

    q_hat: NDArray[np.float64]
    patience: int
    delta: float
    max_mc: int
    alpha: float | None
    mode: str | None


def read_calibration_state(data: bytes, *, file: str = "mccp_state.pkl") -> CalibrationState:
    """Return the calibration in a pickled MCCP object or dict, without running any of it.

    Raises InvalidCalibration for a field that is missing or out of range, and ModelInvalid, UnsafeArtifact or
    IncompleteArtifact as `read_pickled_state` does. `file` is what the error calls it.
    """
    return _Fields(read_pickled_state(data, file=file), file).read()


class _Fields:
    """The attributes of the pickle, each converted under its rule."""

    def __init__(self, attributes: dict[str, Any], file: str) -> None:
        self.attributes = attributes
        self.file = file

    def read(self) -> CalibrationState:
        return CalibrationState(
            q_hat=self.q_hat(),
            patience=self.count("patience", at_least=0),
            delta=self.delta(),
            max_mc=self.count("max_mc", at_least=1),
            alpha=self.alpha(),
            mode=self.mode(),
        )

    def refuse(self, field: str, reason: str) -> InvalidCalibration:
        return InvalidCalibration(file=self.file, field=field, reason=reason)

    def get(self, field: str, default: Any = _MISSING) -> Any:
        value = self.attributes.get(field, default)
        if value is _MISSING:
            raise self.refuse(field, "is missing")
        if isinstance(value, PickledArray) and value.value is not None:
            value = value.value
        return value[()] if isinstance(value, np.ndarray) and value.ndim == 0 else value

    def number(self, field: str) -> float:
        value = self.get(field)
        if not _is_number(value):
            raise self.refuse(field, f"must be a number, it is of type {_type_name(value)}")
        try:
            result = float(value)
        except OverflowError:
            result = math.inf
        if not math.isfinite(result):
            raise self.refuse(field, "must be finite")
        return result

    def count(self, field: str, *, at_least: int) -> int:
        value = self.number(field)
        if value != int(value) or not at_least <= value <= MAX_COUNT:
            raise self.refuse(field, f"must be a whole number of at least {at_least}, it is {value:g}")
        return int(value)

    def delta(self) -> float:
        value = self.number("delta")
        if value < 0:
            raise self.refuse("delta", f"must be at least 0, it is {value:g}")
        return value

    def alpha(self) -> float | None:
        if self.get("alpha", None) is None:
            return None
        value = self.number("alpha")
        if not 0 < value < 1:
            raise self.refuse("alpha", f"must be between 0 and 1, it is {value:g}")
        return value

    def mode(self) -> str | None:
        value = self.get("mode", None)
        if value is None:
            return None
        if type(value) is not str or value not in MODES:
            shown = repr(value[:40]) if type(value) is str else f"of type {_type_name(value)}"
            raise self.refuse("mode", f'must be "regression" or "cqr", it is {shown}')
        return value

    def q_hat(self) -> NDArray[np.float64]:
        value = self.get("q_hat")
        array = self.numbers(value) if type(value) in (list, tuple) else value
        if not isinstance(array, np.ndarray):
            array = np.array(self.number("q_hat"))
        if array.dtype.kind not in "fiu":
            raise self.refuse("q_hat", "must hold numbers")
        if array.ndim > 2 or (array.ndim == 2 and array.shape[0] != 1) or array.size == 0:
            raise self.refuse("q_hat", f"must be a scalar or one number per target, its shape is {array.shape}")
        result = np.array(array, dtype=np.float64).reshape(-1)
        if not np.isfinite(result).all():
            raise self.refuse("q_hat", "must be finite; an infinite one means too few calibration points")
        result.setflags(write=False)
        return result

    def numbers(self, items: list[Any] | tuple[Any, ...]) -> NDArray[np.float64]:
        """Return a list of numbers, or a list of one such list, as float64 (T,) or (1, T)."""
        rows = [_plain(item) for item in items[: MAX_ELEMENTS + 1]]
        nested = len(rows) == 1 and type(rows[0]) in (list, tuple)
        row = rows[0] if nested else rows
        if len(row) > MAX_ELEMENTS or not all(_is_number(_plain(item)) for item in row):
            raise self.refuse("q_hat", "must be a scalar or one number per target")
        try:
            array = np.array([float(_plain(item)) for item in row])
        except OverflowError as error:
            raise self.refuse("q_hat", "must be finite") from error
        return array[np.newaxis] if nested else array


def _plain(value: Any) -> Any:
    """Return a 1-D array as a list and a 0-D one as its scalar; anything else as it is."""
    if isinstance(value, PickledArray) and value.value is not None:
        return value.value.tolist() if value.value.ndim == 1 else value.value[()]
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real | np.floating | np.integer) and not isinstance(value, bool | np.bool_)


def _type_name(value: Any) -> str:
    return "an unknown object" if value is not None and type(value).__module__ != "builtins" else type(value).__name__
