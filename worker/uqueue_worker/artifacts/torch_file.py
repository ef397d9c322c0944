"""A PyTorch model file, read without PyTorch: a program, and nothing that could be run."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Literal

from uqueue_config.errors import ModelInvalid
from uqueue_worker.artifacts.torch_archive import SIGNATURE, TorchArchive
from uqueue_worker.artifacts.torch_pickle import read_torch_pickle
from uqueue_worker.artifacts.torch_program import Program
from uqueue_worker.artifacts.torch_script import read_script
from uqueue_worker.artifacts.torch_spec import MAX_FEATURES, SPEC_KEY, read_spec

_LEGACY_MAGIC = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"
_WIDTH_ENTRY = "extra/uqueue.json"


@dataclass(frozen=True, eq=False)
class TorchFile:
    """What a PyTorch file says about its model.

    kind     "spec": a state_dict with a description of the layers; "script": a TorchScript archive
    program  what the model computes
    """

    kind: Literal["spec", "script"]
    program: Program = field(repr=False)

    @property
    def keras_version(self) -> None:
        """No Keras wrote it."""


def is_torch_file(data: bytes) -> bool:
    """Tell whether these bytes begin as a file of torch.save or torch.jit.save does."""
    return data.startswith((SIGNATURE, _LEGACY_MAGIC)) or (len(data) > 0 and SIGNATURE.startswith(data))


def read_torch_file(data: bytes, *, file: str) -> TorchFile:
    """Return what these bytes say. Raises UnsafeArtifact by name for what is not listed, ModelInvalid for the rest."""
    if data.startswith(_LEGACY_MAGIC):
        raise ModelInvalid(file=file, reason="the format that torch.save wrote before PyTorch 1.6; save it again")
    try:
        archive = TorchArchive(data, file=file)
        return _script(archive) if "constants.pkl" in archive else _spec(archive)
    except RecursionError as error:
        raise ModelInvalid(file=file, reason="it is nested too deeply") from error


def _spec(archive: TorchArchive) -> TorchFile:
    top = _pickle(archive, "data.pkl", "data")
    if not isinstance(top, dict) or SPEC_KEY not in top:
        reason = f"it holds weights and no {SPEC_KEY}; save both, or use torch.jit.save (docs/concepts.md)"
        raise ModelInvalid(file=archive.file, reason=reason)
    return TorchFile("spec", read_spec(top[SPEC_KEY], top.get("state_dict"), file=archive.file))


def _script(archive: TorchArchive) -> TorchFile:
    constants = _pickle(archive, "constants.pkl", "constants", script=True)
    if not isinstance(constants, tuple):
        raise archive.invalid("its constants are not a tuple")
    model = _pickle(archive, "data.pkl", "data", script=True)
    return TorchFile("script", read_script(archive, model, constants, _width(archive)))


def _pickle(archive: TorchArchive, entry: str, folder: str, *, script: bool = False) -> Any:
    if "byteorder" in archive and archive.text("byteorder") != "little":
        raise archive.invalid("its weights are big-endian")
    held: dict[str, memoryview] = {}

    def storage(key: str) -> memoryview:
        if key not in held:
            held[key] = archive.stored(f"{folder}/{key}")
        return held[key]

    return read_torch_pickle(archive.stored(entry), storage, file=archive.file, entry=entry, script=script)


def _width(archive: TorchArchive) -> int | None:
    """Return the number of features that the file notes beside the model (`_extra_files` of torch.jit.save)."""
    if _WIDTH_ENTRY not in archive:
        return None
    try:
        width = json.loads(archive.text(_WIDTH_ENTRY))["n_features"]
    except (ValueError, TypeError, KeyError, RecursionError):
        width = None
    if type(width) is not int or not 1 <= width <= MAX_FEATURES:
        raise archive.invalid(f'{_WIDTH_ENTRY} does not say {{"n_features": 1 to {MAX_FEATURES}}}')
    return width
