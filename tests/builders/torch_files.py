"""PyTorch files written without PyTorch, opcode by opcode, so that a test can put anything into them."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

SPEC_LAYERS: list[dict[str, Any]] = [
    {"type": "Normalization", "mean": "mean", "variance": "variance"},
    {"type": "Linear", "name": "body.0"},
    {"type": "ReLU"},
    {"type": "Dropout", "p": 0.1},
    {"type": "Linear", "name": "body.3"},
    {"type": "ReLU"},
]


@dataclass(frozen=True)
class Name:
    """A global that the pickle mentions."""

    module: str
    name: str


@dataclass(frozen=True)
class Call:
    """A call of a global."""

    function: Any
    arguments: Any


@dataclass(frozen=True)
class Instance:
    """An object of a TorchScript class."""

    of: Name
    attributes: Mapping[str, Any]


@dataclass(frozen=True)
class Persistent:
    """A persistent id."""

    identifier: Any


@dataclass
class TorchWriter:
    """Turns values into a pickle, and arrays in them into storages."""

    folder: str = "data"
    storages: dict[str, bytes] = field(default_factory=dict)

    def pickled(self, value: Any) -> bytes:
        return b"\x80\x02" + self.value(value) + b"."

    def value(self, value: Any) -> bytes:
        if isinstance(value, Name):
            return f"c{value.module}\n{value.name}\n".encode()
        if isinstance(value, Call):
            return self.value(value.function) + self.value(value.arguments) + b"R"
        if isinstance(value, Persistent):
            return self.value(value.identifier) + b"Q"
        if isinstance(value, Instance):
            return self.value(value.of) + b")\x81" + self.value(dict(value.attributes)) + b"b"
        if isinstance(value, np.ndarray):
            return self.value(self.tensor(value))
        if isinstance(value, dict):
            items = b"".join(self.value(key) + self.value(item) for key, item in value.items())
            return b"}(" + items + b"u"
        if isinstance(value, tuple):
            return b"(" + b"".join(map(self.value, value)) + b"t"
        if isinstance(value, list):
            return b"](" + b"".join(map(self.value, value)) + b"e"
        return pickle.dumps(value, 2)[2:-1]  # None, bool, numbers, text

    def tensor(
        self,
        array: np.ndarray,
        *,
        size: Any = None,
        strides: Any = None,
        offset: Any = 0,
        count: Any = None,
        kind: str | None = None,
    ) -> Call:
        kinds = {"f4": "Float", "f8": "Double", "i8": "Long", "f2": "Half", "b1": "Bool"}
        key = str(len(self.storages))
        self.storages[key] = array.tobytes()
        storage = Name("torch", kind or f"{kinds[array.dtype.str[1:]]}Storage")
        identifier = ("storage", storage, key, "cpu", array.size if count is None else count)
        steps = tuple(step // array.itemsize for step in np.ascontiguousarray(array).strides)
        shape = (array.shape if size is None else size, (steps if array.ndim else ()) if strides is None else strides)
        hooks = Call(Name("collections", "OrderedDict"), ())
        return Call(Name("torch._utils", "_rebuild_tensor_v2"), (Persistent(identifier), offset, *shape, False, hooks))


def zipped(entries: Mapping[str, bytes], *, root: str = "archive", deflated: Sequence[str] = ()) -> bytes:
    """Return a zip archive of these entries below `root`, stored but for those in `deflated`."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in entries.items():
            packed = zipfile.ZIP_DEFLATED if name in deflated else zipfile.ZIP_STORED
            archive.writestr(f"{root}/{name}" if root else name, content, packed)
    return buffer.getvalue()


def state_file(top: Any, *, writer: TorchWriter | None = None, **more: bytes) -> bytes:
    """Return what torch.save(top) would write."""
    writer = writer or TorchWriter()
    entries = {"data.pkl": writer.pickled(top), "byteorder": b"little", "version": b"3\n"}
    entries |= {f"data/{key}": raw for key, raw in writer.storages.items()}
    return zipped({**entries, **more})


def weights(features: int = 8, targets: int = 2, hidden: tuple[int, int] = (16, 16), seed: int = 0) -> dict[str, Any]:
    """Return the state_dict of an untrained network of the layers in SPEC_LAYERS and the heads q0, q1."""
    rng = np.random.default_rng(seed)
    found = {"mean": rng.normal(size=features), "variance": rng.uniform(0.5, 2, features)}
    widths = {"body.0": (hidden[0], features), "body.3": (hidden[1], hidden[0])}
    widths |= dict.fromkeys(("q0", "q1"), (targets, hidden[1]))
    for name, (units, width) in widths.items():
        found[f"{name}.weight"] = rng.normal(scale=width**-0.5, size=(units, width))
        found[f"{name}.bias"] = rng.normal(scale=0.1, size=units)
    return {name: value.astype("f4") for name, value in found.items()}


def spec(**changes: Any) -> dict[str, Any]:
    """Return the spec of `weights`, changed."""
    whole = {"format": "uqueue-mqnn/1", "n_features": 8, "layers": SPEC_LAYERS, "heads": ["q0", "q1"], **changes}
    return {key: value for key, value in whole.items() if value is not ...}


def spec_file(state: Mapping[str, Any] | None = None, **changes: Any) -> bytes:
    """Return a spec file; `changes` go into the spec, `...` leaves a key out."""
    state_dict = weights() if state is None else dict(state)
    return state_file({"uqueue_spec": json.dumps(spec(**changes)), "state_dict": state_dict})


FORWARD = """
    h = torch.linear(x, self.w0, self.b0)
    h0 = torch.dropout(torch.relu(h), 0.1, self.training)
    return (torch.linear(h0, self.w1, self.b1), torch.linear(h0, self.w1))
"""


def script_file(
    body: str,
    *,
    attributes: Mapping[str, Any] | None = None,
    code: Mapping[str, str] | None = None,
    constants: tuple[Any, ...] = (),
    extra: Mapping[str, bytes] | None = None,
) -> bytes:
    """Return a TorchScript file whose one class `__torch__.Net` has the `forward(self, x)` of this body.

    Its weights are w0 (4, 3), b0 (4,), w1 (2, 4), b1 (2,) unless `attributes` says otherwise.
    """
    rng = np.random.default_rng(1)
    own = {"w0": (4, 3), "b0": (4,), "w1": (2, 4), "b1": (2,)}
    held: dict[str, Any] = {name: rng.normal(size=shape).astype("f4") for name, shape in own.items()}
    held |= {"training": True, **(attributes or {})}
    writer, fixed = TorchWriter(), TorchWriter()
    text = (
        "class Net(Module):\n  def forward(self: __torch__.Net,\n    x: Tensor) -> Tensor:\n" + body.strip("\n") + "\n"
    )
    entries = {"data.pkl": writer.pickled(Instance(Name("__torch__", "Net"), held))}
    entries |= {"constants.pkl": fixed.pickled(constants), "byteorder": b"little", "version": b"3\n"}
    entries |= {"code/__torch__.py": text.encode(), **{name: part.encode() for name, part in (code or {}).items()}}
    entries |= {f"data/{key}": raw for key, raw in writer.storages.items()}
    entries |= {f"constants/{key}": raw for key, raw in fixed.storages.items()}
    return zipped({**entries, **(extra or {})}, deflated=[name for name in entries if name.startswith("code/")])


def end_record(data: bytes, **changes: int) -> bytes:
    """Return the archive with numbers of its end record changed: count, size, offset."""
    at = data.rfind(b"PK\x05\x06")
    _, total, size, offset = struct.unpack_from("<HHII", data, at + 8)
    count = changes.get("count", total)
    packed = struct.pack("<HHII", count, count, changes.get("size", size), changes.get("offset", offset))
    return data[: at + 8] + packed + data[at + 20 :]
