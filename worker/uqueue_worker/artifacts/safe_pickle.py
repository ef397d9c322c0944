"""A calibration pickle read as data: nothing in it is imported, called or even looked up.

A pickle is a program for a stack machine. `pickletools.genops` splits it into opcodes without running any; the machine
here knows only the opcodes that pickled calibration objects consist of. A global becomes an inert `Global` if its exact
(module, name) pair is listed, and is refused by name if not. "Calling" one records its arguments, or decodes bytes.

Bounds: the file is at most 64 KiB, every opcode takes constant time or time in proportion to the bytes it spans,
decoded text and arrays are limited in sum, and no value is compared, hashed (but for text), printed or walked. A tuple
that doubles itself through the memo thus costs nothing.
"""

from __future__ import annotations

import pickletools
import struct
import warnings
from collections.abc import Callable
from typing import Any, Final

from uqueue_config.errors import IncompleteArtifact, ModelInvalid, UnsafeArtifact
from uqueue_worker.artifacts.pickled_arrays import PickledArray, PickledDtype
from uqueue_worker.artifacts.pickled_names import (
    ALLOWED_GLOBALS,
    CALIBRATION_CLASS,
    CALLS,
    Global,
    PickledObject,
    hint_for,
    new_object,
)

MAX_STATE_BYTES: Final = 64 * 1024
MAX_DECODED_BYTES: Final = 1024 * 1024


def read_pickled_state(data: bytes, *, file: str) -> dict[str, Any]:
    """Return the attributes of the pickled calibration object, or the items of the pickled dict that have text keys.

    Values are None, bool, int, float, str, bytes, list, dict, tuple, NumPy scalars and inert stand-ins; attributes that
    nobody asks for are never looked at. Raises ModelInvalid for what is not such a pickle, IncompleteArtifact where it
    ends too early, UnsafeArtifact where it names anything else.
    """
    if len(data) > MAX_STATE_BYTES:
        raise ModelInvalid(file=file, reason=f"{len(data)} bytes; a calibration state has at most {MAX_STATE_BYTES}")
    if not data:
        raise IncompleteArtifact(file=file, reason="the file is empty")
    top = PickleMachine(file).run(data)
    if type(top) is dict:
        return top
    if type(top) is not PickledObject or top.of.pair != CALIBRATION_CLASS:
        raise ModelInvalid(file=file, reason="the pickle holds neither an MCCP object nor a dict")
    return top.attributes()


class _Mark:
    """Where the items of a container begin on the stack."""


class PickleMachine:
    """The stack and the memo; a method per group of opcodes."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.decoded_bytes = 0

    def run(self, data: bytes) -> Any:
        """Return what the pickle builds."""
        position: int | None = 0
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # escapes in texts that no writer of pickles makes
                for opcode, argument, position in pickletools.genops(data):  # noqa: B007
                    if opcode.name != "STOP":
                        self.step(opcode.name, argument)
            if position is not None and position + 1 != len(data):
                raise ValueError("bytes follow its end")
            value = self.pop()
        except (ValueError, IndexError, KeyError, OverflowError, struct.error, Warning) as error:
            raise self.broken(error, position) from error
        if self.stack:
            raise ModelInvalid(file=self.file, reason="not a calibration pickle: it holds more than one object")
        return value

    def broken(self, error: Exception, position: int | None) -> ModelInvalid:
        reason = str(error)[:160] if isinstance(error, ValueError | Warning) else "the opcodes do not fit together"
        if reason.startswith(("pickle exhausted", "expected ", "not enough data", "no newline found")):
            return IncompleteArtifact(file=self.file, reason=f"the pickle ends too early ({reason})")
        return ModelInvalid(file=self.file, reason=f"not a calibration pickle: {reason} (near byte {position})")

    def step(self, name: str, argument: Any) -> None:
        if name in _LITERALS:
            self.stack.append(_LITERALS[name] if name in _CONSTANTS else argument)
        elif name in _STEPS:
            _STEPS[name](self, argument)
        elif name not in _IGNORED:
            raise UnsafeArtifact(file=self.file, name=_REFUSED.get(name, f"the pickle opcode {name}"), hint="")

    def pop(self) -> Any:
        value = self.stack.pop()
        if type(value) is _Mark:
            raise ValueError("a mark where a value belongs")
        return value

    def pop_to_mark(self) -> list[Any]:
        items: list[Any] = []
        while type(value := self.stack.pop()) is not _Mark:
            items.append(value)
        items.reverse()
        return items

    def top(self, *types: type) -> Any:
        if not self.stack or type(self.stack[-1]) not in types:
            raise ValueError("items or a state for something that cannot have them")
        return self.stack[-1]

    def spend(self, count: int) -> None:
        self.decoded_bytes += count
        if self.decoded_bytes > MAX_DECODED_BYTES:
            raise ValueError(f"more than {MAX_DECODED_BYTES} bytes of arrays and text")

    def put(self, index: int) -> None:
        value = self.pop()
        self.memo[index] = value
        self.stack.append(value)

    def push_tuple(self, count: int) -> None:
        items = [self.pop() for _ in range(count)]
        self.stack.append(tuple(reversed(items)))

    def extend_list(self, items: list[Any]) -> None:
        self.top(list).extend(items)

    def update_dict(self, items: list[Any]) -> None:
        # Only text can name a field. Other keys would have to be hashed, and hashing a doubled tuple never ends.
        pairs = zip(items[::2], items[1::2], strict=True)
        self.top(dict).update({key: value for key, value in pairs if type(key) is str})

    def push_dict(self, items: list[Any]) -> None:
        self.stack.append({})
        self.update_dict(items)

    def push_global(self, module: Any, name: Any) -> None:
        if type(module) is not str or type(name) is not str:
            raise ValueError("a global whose name is not text")
        if (module, name) not in ALLOWED_GLOBALS:
            raise UnsafeArtifact(file=self.file, name=f"{module}.{name}"[:200], hint=hint_for(module, name))
        self.stack.append(Global(module, name))

    def push_stack_global(self) -> None:
        name, module = self.pop(), self.pop()
        self.push_global(module, name)

    def refuse_instance(self, name: str) -> None:
        self.push_global(*name.split(" ", 1))
        raise UnsafeArtifact(file=self.file, name="the pickle opcode INST", hint="")

    def call(self) -> None:
        arguments, function = self.pop(), self.pop()
        if type(arguments) is not tuple or type(function) is not Global:
            raise ValueError("a call of something that is not a global")
        if function.pair not in CALLS:
            raise UnsafeArtifact(file=self.file, name=f"a call of {function}", hint="")
        result = CALLS[function.pair](arguments)
        self.spend(_size(result))
        self.stack.append(result)

    def push_object(self) -> None:
        arguments, cls = self.pop(), self.pop()
        if type(arguments) is not tuple or arguments:
            raise ValueError("an object made with arguments")
        self.stack.append(new_object(cls))

    def build(self) -> None:
        state = self.pop()
        target = self.top(PickledObject, PickledArray, PickledDtype)
        target.set_state(state)
        self.spend(_size(target))


def _size(value: Any) -> int:
    if type(value) is PickledArray and value.value is not None:
        return value.value.nbytes
    return len(value) if type(value) is bytes else 0


def _words(text: str) -> dict[str, Any]:
    return dict.fromkeys(text.split())


_IGNORED = frozenset({"PROTO", "FRAME"})
_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_LITERALS: dict[str, Any] = _CONSTANTS | _words(
    """INT LONG LONG1 LONG4 BININT BININT1 BININT2 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING UNICODE
    SHORT_BINUNICODE BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8"""
)
_REFUSED = dict.fromkeys(("PERSID", "BINPERSID"), "a persistent id") | dict.fromkeys(
    ("EXT1", "EXT2", "EXT4"), "an extension code"
)
_STEPS: dict[str, Callable[[PickleMachine, Any], None]] = {
    "MARK": lambda machine, _: machine.stack.append(_Mark()),
    "EMPTY_TUPLE": lambda machine, _: machine.push_tuple(0),
    "TUPLE1": lambda machine, _: machine.push_tuple(1),
    "TUPLE2": lambda machine, _: machine.push_tuple(2),
    "TUPLE3": lambda machine, _: machine.push_tuple(3),
    "TUPLE": lambda machine, _: machine.stack.append(tuple(machine.pop_to_mark())),
    "EMPTY_LIST": lambda machine, _: machine.stack.append([]),
    "LIST": lambda machine, _: machine.stack.append(machine.pop_to_mark()),
    "APPEND": lambda machine, _: machine.extend_list([machine.pop()]),
    "APPENDS": lambda machine, _: machine.extend_list(machine.pop_to_mark()),
    "EMPTY_DICT": lambda machine, _: machine.push_dict([]),
    "DICT": lambda machine, _: machine.push_dict(machine.pop_to_mark()),
    "SETITEM": lambda machine, _: machine.update_dict([machine.pop(), machine.pop()][::-1]),
    "SETITEMS": lambda machine, _: machine.update_dict(machine.pop_to_mark()),
    "GLOBAL": lambda machine, name: machine.push_global(*name.split(" ", 1)),
    "STACK_GLOBAL": lambda machine, _: machine.push_stack_global(),
    "INST": lambda machine, name: machine.refuse_instance(name),
    "REDUCE": lambda machine, _: machine.call(),
    "NEWOBJ": lambda machine, _: machine.push_object(),
    "BUILD": lambda machine, _: machine.build(),
    "MEMOIZE": lambda machine, _: machine.put(len(machine.memo)),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), lambda machine, index: machine.put(int(index))),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), lambda machine, index: machine.stack.append(machine.memo[index])),
}
