"""What TorchScript code computes with plain numbers, text and lists, beside what it does with values of rows."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from uqueue_worker.artifacts.torch_shapes import ROWS

MAX_TEXT: Final = 4096
_LARGEST = 1 << 63


@dataclass(frozen=True)
class TrainingFlag:
    """`self.training`, or its opposite: a model is followed in evaluation mode, but the flag stays known as such."""

    value: bool = False

    def __bool__(self) -> bool:
        return self.value


def is_scalar(value: Any) -> bool:
    """Tell whether this is a plain value of bounded size."""
    if value is None or value is ROWS or type(value) in (bool, float, TrainingFlag):
        return True
    if type(value) is int:
        return -_LARGEST <= value < _LARGEST
    return type(value) is str and len(value) <= MAX_TEXT


def _numbers(function: Callable[..., Any]) -> Callable[..., Any]:
    def checked(*values: Any) -> Any:
        if not all(type(value) in (int, float, bool) for value in values):
            raise TypeError("numbers are expected")
        return function(*values)

    return checked


def _equal(left: Any, right: Any) -> bool:
    if not is_scalar(left) or not is_scalar(right) or ROWS in (left, right):
        raise TypeError("plain values are expected")
    return bool(left == right)


def _negated(value: Any) -> Any:
    if isinstance(value, TrainingFlag):
        return TrainingFlag(not value.value)
    if type(value) is not bool:
        raise TypeError("a truth value is expected")
    return not value


def _item(values: Any, index: Any) -> Any:
    if not isinstance(values, list | tuple) or type(index) is not int:
        raise TypeError("a list and a position are expected")
    return values[index]


def _length(values: Any) -> int:
    if not isinstance(values, list | tuple | str):
        raise TypeError("a list is expected")
    return len(values)


def _formatted(text: str, *_: Any) -> str:
    return str(text)[:MAX_TEXT]  # of an error's text; what it is about does not matter


SCALARS: Final[Mapping[str, Callable[..., Any]]] = {
    "__getitem__": _item,
    "__is__": lambda left, right: left is right,
    "__isnot__": lambda left, right: left is not right,
    "__not__": _negated,
    "add": _numbers(operator.add),
    "div": _numbers(operator.truediv),
    "eq": _equal,
    "floordiv": _numbers(operator.floordiv),
    "format": _formatted,
    "ge": _numbers(operator.ge),
    "gt": _numbers(operator.gt),
    "le": _numbers(operator.le),
    "len": _length,
    "lt": _numbers(operator.lt),
    "mul": _numbers(operator.mul),
    "ne": lambda left, right: not _equal(left, right),
    "neg": _numbers(operator.neg),
    "sqrt": _numbers(math.sqrt),
    "sub": _numbers(operator.sub),
    "warn": lambda *_: None,
}
# By "space.name"; the space of a plain function is empty. None: `_Follower.language` knows it.
LANGUAGE: Final[Mapping[str, Callable[[Any], Any] | None]] = {
    ".annotate": None,
    ".bool": bool,
    ".float": float,
    ".getattr": None,
    ".int": int,
    ".unchecked_cast": None,
    ".uninitialized": None,
    "ops.prim.NumToTensor": lambda value: value,
    "ops.prim.RaiseException": None,
    "ops.prim.unchecked_cast": None,
    "ops.prim.unchecked_unwrap_optional": lambda value: value,
}
