"""The process in which a model file is opened for the first time; see `h5_probe`, which starts it.

It checks the structure, reads every attribute and array once, and prints what the root says about the model as JSON.
"""

from __future__ import annotations

import io
import json
import sys
from typing import Any, Final

import h5py

from uqueue_config.errors import ModelInvalid, UqueueError
from uqueue_worker.artifacts.child_limits import limit_this_process
from uqueue_worker.artifacts.h5_structure import StructureCheck

CPU_SECONDS: Final = 0.5
_UNREADABLE = (OSError, KeyError, ValueError, RuntimeError, TypeError, MemoryError, OverflowError)


def inspect_h5(data: bytes, *, file: str) -> dict[str, str | None]:
    """Return the texts `model_config`, `keras_version` and `backend` of the root; None for what is not there.

    Raises ModelInvalid or UnsafeArtifact as `StructureCheck` does, and ModelInvalid where there is no model or HDF5
    cannot read something. A damaged file can also end or block this process.
    """
    try:
        with h5py.File(io.BytesIO(data), "r") as root:
            StructureCheck(root, len(data), file=file).run()
            _read_everything(root)
            if not isinstance(root.get("model_weights"), h5py.Group) or _text(root, "model_config") is None:
                raise ModelInvalid(file=file, reason=_no_model(root))
            return {name: _text(root, name) for name in ("model_config", "keras_version", "backend")}
    except _UNREADABLE as error:
        reason = f"the HDF5 structure is damaged ({type(error).__name__})"
        raise ModelInvalid(file=file, reason=reason) from error


def _read_everything(group: h5py.Group) -> None:
    _read_attributes(group)
    for member in group.values():
        if isinstance(member, h5py.Group):
            _read_everything(member)
        else:
            _read_attributes(member)
            member[()]


def _read_attributes(member: h5py.Group | h5py.Dataset) -> None:
    for name in member.attrs:
        member.attrs[name]


def _no_model(root: h5py.File) -> str:
    if "model_config" not in root.attrs and ("layer_names" in root.attrs or "model_weights" in root):
        return "it holds weights and no model_config (save with model.save, not save_weights)"
    return "it holds no Keras model"


def _text(root: h5py.File, name: str) -> str | None:
    value = root.attrs.get(name)
    if isinstance(value, bytes):
        value = value.decode("utf-8")
    return str(value) if isinstance(value, str) else None


def _answer(data: bytes, file: str) -> dict[str, Any]:
    try:
        return dict(inspect_h5(data, file=file))
    except UqueueError as error:
        return {"error": error.to_wire()}


def main() -> None:
    """Read the file from stdin, its name from the arguments; print the answer."""
    data = sys.stdin.buffer.read()
    limit_this_process(len(data), cpu_seconds=CPU_SECONDS, memory_times_size=4)
    sys.stdout.write(json.dumps(_answer(data, sys.argv[1])))


if __name__ == "__main__":
    main()
