"""The pickles inside a torch archive, read as data: tensors become views of the file, everything else inert values.

It is the machine of `safe_pickle` with other names on its list. torch is not needed, and nothing is imported or called.
A tensor is described by a storage (an entry of the archive), offset, size and strides; NumPy checks that the view lies
inside that entry, and a view that repeats elements is refused, so no array is larger than the file.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from uqueue_config.errors import ModelInvalid, UnsafeArtifact
from uqueue_worker.artifacts.pickled_names import Global
from uqueue_worker.artifacts.safe_pickle import PickleMachine

Storages = Callable[[str], memoryview]

MAX_PICKLE_BYTES: Final = 4 * 1024 * 1024
MAX_DIMENSIONS: Final = 8
SCRIPT_PACKAGE: Final = "__torch__"
_BFLOAT16 = "bfloat16"
_STORAGES: Final = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "BFloat16Storage": _BFLOAT16,
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "<i1",
    "ByteStorage": "<u1",
    "BoolStorage": "|b1",
}
_TENSOR = ("torch._utils", "_rebuild_tensor_v2")
_PARAMETER = ("torch._utils", "_rebuild_parameter")
_ORDERED_DICT = ("collections", "OrderedDict")
# What torch.jit wraps typed lists and dicts in: a call that gives its first argument back.
_WRAPPERS = frozenset(
    ("torch.jit._pickle", name)
    for name in ("build_intlist", "build_doublelist", "build_boollist", "build_tensorlist", "restore_type_tag")
)
_ALLOWED = frozenset({_TENSOR, _PARAMETER, _ORDERED_DICT}) | _WRAPPERS | {("torch", name) for name in _STORAGES}


@dataclass(frozen=True, eq=False)
class Storage:
    """The numbers of one entry of the archive."""

    dtype: str
    raw: memoryview = field(repr=False)
    count: int


@dataclass(eq=False)
class ScriptObject:
    """An instance of a TorchScript class: the class by its qualified name, and its attributes."""

    class_name: str
    attributes: dict[str, Any] = field(default_factory=dict, repr=False)


def read_torch_pickle(data: memoryview, storages: Storages, *, file: str, entry: str, script: bool = False) -> Any:
    """Return what the pickle holds. `storages(key)` gives the bytes of a storage.

    Values are None, bool, int, float, str, list, dict, tuple and NumPy arrays, and with `script` also ScriptObject.
    Raises UnsafeArtifact for any other name in it, ModelInvalid where it is damaged.
    """
    if len(data) > MAX_PICKLE_BYTES:
        raise ModelInvalid(file=file, reason=f"{entry} has {len(data)} bytes; at most {MAX_PICKLE_BYTES} are read")
    return _Machine(storages, file, entry, script).run(bytes(data))


class _Machine(PickleMachine):
    def __init__(self, storages: Storages, file: str, entry: str, script: bool) -> None:
        super().__init__(file)
        self.storages = storages
        self.entry = entry
        self.script = script

    def run(self, data: bytes) -> Any:
        try:
            return super().run(data)
        except UnsafeArtifact:
            raise
        except ModelInvalid as error:  # its words are about another kind of file
            reason = str(error.facts["reason"]).removeprefix("not a calibration pickle: ")
            raise ModelInvalid(file=self.file, reason=f"{self.entry} is damaged: {reason}") from error

    def step(self, name: str, argument: Any) -> None:
        if name == "BINPERSID":
            self.stack.append(self._storage(self.pop()))
        else:
            super().step(name, argument)

    def push_global(self, module: Any, name: Any) -> None:
        pair = (module, name)
        if type(module) is not str or type(name) is not str:
            raise ValueError("a global whose name is not text")
        own = self.script and module.partition(".")[0] == SCRIPT_PACKAGE
        if not own and pair not in _ALLOWED:
            raise UnsafeArtifact(file=self.file, name=f"{module}.{name}"[:200], hint=self._hint(module))
        self.stack.append(Global(module, name))

    def _hint(self, module: str) -> str:
        if self.script or module.partition(".")[0] in ("builtins", "__builtin__", "os", "posix", "subprocess", "sys"):
            return ""
        return (
            ". Of a module saved as a whole nothing can be read; save its state_dict with a spec, or use torch.jit.save"
        )

    def call(self) -> None:
        arguments, function = self.pop(), self.pop()
        if type(arguments) is not tuple or type(function) is not Global:
            raise ValueError("a call of something that is not a global")
        if function.pair == _TENSOR:
            self.stack.append(_tensor(arguments))
        elif function.pair == _ORDERED_DICT and not arguments:
            self.stack.append({})
        elif function.pair == _PARAMETER or function.pair in _WRAPPERS:
            self.stack.append(arguments[0])
        else:
            raise UnsafeArtifact(file=self.file, name=f"a call of {function}"[:200], hint="")

    def push_object(self) -> None:
        arguments, cls = self.pop(), self.pop()
        if arguments != () or type(cls) is not Global or cls.module.partition(".")[0] != SCRIPT_PACKAGE:
            raise ValueError("an object that is not of a TorchScript class")
        self.stack.append(ScriptObject(str(cls)))

    def build(self) -> None:
        state = self.pop()
        target = self.top(dict, ScriptObject)  # of a dict: the _metadata of a state_dict, which nobody needs
        if type(target) is ScriptObject:
            if type(state) is not dict:
                raise ValueError("an object state of an unknown form")
            target.attributes = state

    def _storage(self, identifier: Any) -> Storage:
        if type(identifier) is not tuple or len(identifier) != 5 or identifier[0] != "storage":
            raise ValueError("a persistent id that is not a storage")
        _, kind, key, _, count = identifier
        if type(kind) is not Global or kind.name not in _STORAGES or type(key) is not str or type(count) is not int:
            raise ValueError("a storage of an unknown form")
        return Storage(_STORAGES[kind.name], self.storages(key), count)


def _tensor(arguments: tuple[Any, ...]) -> NDArray[Any]:
    """Return the array that `_rebuild_tensor_v2(storage, offset, size, strides, ...)` describes, as a view."""
    if not 4 <= len(arguments) <= 7 or type(arguments[0]) is not Storage:
        raise ValueError("a tensor of an unknown form")
    storage, offset, size, strides = arguments[:4]
    if not _counts((offset,)) or not _counts(size) or not _counts(strides) or len(size) != len(strides):
        raise ValueError("a tensor of an unknown form")
    dtype = np.dtype("<u2" if storage.dtype == _BFLOAT16 else storage.dtype)
    if math.prod(size) > storage.count or storage.count * dtype.itemsize > len(storage.raw):
        raise ValueError("a tensor that claims more numbers than its storage holds")
    places = tuple(stride * dtype.itemsize for stride in strides)
    try:
        view: NDArray[Any] = np.ndarray(size, dtype, storage.raw, offset * dtype.itemsize, places)
    except (TypeError, ValueError) as error:
        raise ValueError("a tensor that reaches beyond its storage") from error
    if storage.dtype == _BFLOAT16:
        return (view.astype(np.uint32) << 16).view(np.float32)
    return view


def _counts(values: Any) -> bool:
    """Tell whether these are a few plain numbers that can be sizes."""
    if type(values) is not tuple or len(values) > MAX_DIMENSIONS:
        return False
    return all(type(value) is int and 0 <= value < 1 << 40 for value in values)
