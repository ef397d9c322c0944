"""The names a calibration pickle may mention, and what each of them means here. None of them is ever looked up.

Functions of this module raise ValueError with a reason.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from uqueue_worker.artifacts.pickled_arrays import PickledArray, decode_array, decode_scalar, raw_bytes, read_dtype

CALIBRATION_CLASS: Final = ("mccp_lib.mccp.mccp", "MCCP")
_MULTIARRAY = ("numpy.core.multiarray", "numpy._core.multiarray")
_NUMERIC = ("numpy.core.numeric", "numpy._core.numeric")
_COPYREG = ("copyreg", "copy_reg")
_BUILTINS = ("builtins", "__builtin__")

# Exact pairs: any rule by prefix would let in functions of the same package that run what they are given.
ALLOWED_GLOBALS: Final = frozenset(
    {CALIBRATION_CLASS, ("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode")}
    | {(module, name) for module in _MULTIARRAY for name in ("_reconstruct", "scalar")}
    | {(module, "_frombuffer") for module in _NUMERIC}
    | {(module, "_reconstructor") for module in _COPYREG}
    | {(module, "object") for module in _BUILTINS}
)
_CLASSES = frozenset({CALIBRATION_CLASS} | {(module, "object") for module in _BUILTINS})


@dataclass(frozen=True)
class Global:
    """A name that the pickle mentions."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"

    @property
    def pair(self) -> tuple[str, str]:
        return self.module, self.name


@dataclass(eq=False)
class PickledObject:
    """An instance of a listed class, with the attributes that the pickle gives it."""

    of: Global
    states: tuple[dict[str, Any], ...] | None = field(default=None, repr=False)

    def set_state(self, state: Any) -> None:
        """Take `attributes` or `(attributes, slots)`."""
        parts = state if type(state) is tuple else (state,)
        if self.states is not None or len(parts) > 2 or any(type(part) not in (dict, type(None)) for part in parts):
            raise ValueError("an object state of an unknown form")
        self.states = tuple(part for part in parts if part is not None)

    def attributes(self) -> dict[str, Any]:
        """Return the attributes of the instance, slots included."""
        return {name: value for state in self.states or () for name, value in state.items()}


def new_object(cls: Any) -> PickledObject:
    """Return a stand-in for an instance of `cls`."""
    if type(cls) is not Global or cls.pair not in _CLASSES:
        raise ValueError(f"an object of {cls if type(cls) is Global else 'something that is not a class'}")
    return PickledObject(cls)


def hint_for(module: str, name: str) -> str:
    """Return what a person should know about this refused name; "" where there is nothing to add."""
    if module.startswith("sklearn.preprocessing") or "scaler" in name.lower():
        return ". A scaler in the state means that inputs may need scaling, which this service does not do"
    return ""


def _reconstruct(arguments: tuple[Any, ...]) -> PickledArray:
    if len(arguments) != 3 or type(arguments[0]) is not Global or arguments[0].name != "ndarray":
        raise ValueError("an array of an unknown form")
    return PickledArray()


def _from_buffer(arguments: tuple[Any, ...]) -> PickledArray:
    if len(arguments) != 4:
        raise ValueError("an array of an unknown form")
    return PickledArray(decode_array(*arguments))


def _encode(arguments: tuple[Any, ...]) -> bytes:
    if len(arguments) != 2 or any(type(argument) is not str for argument in arguments) or arguments[1] != "latin1":
        raise ValueError("text in an encoding other than latin1")
    return raw_bytes(arguments[0])


def _reconstructor(arguments: tuple[Any, ...]) -> PickledObject:
    if len(arguments) != 3 or type(arguments[1]) is not Global or arguments[1].name != "object":
        raise ValueError("an object that is based on something else than object")
    return new_object(arguments[0])


# What "calling" a listed name does. Those that are not here may be mentioned and not called.
CALLS: Final[dict[tuple[str, str], Callable[[tuple[Any, ...]], Any]]] = {
    ("numpy", "dtype"): read_dtype,
    ("_codecs", "encode"): _encode,
    **{(module, "_reconstruct"): _reconstruct for module in _MULTIARRAY},
    **{(module, "scalar"): decode_scalar for module in _MULTIARRAY},
    **{(module, "_frombuffer"): _from_buffer for module in _NUMERIC},
    **{(module, "_reconstructor"): _reconstructor for module in _COPYREG},
}
