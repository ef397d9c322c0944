"""The artifacts of a registered localization model: `model.onnx` and `manifest.json`, or the model file itself."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from pydantic_core import from_json

from uqueue_config.errors import IncompleteArtifact, InvalidDeclaration, ModelInvalid
from uqueue_worker.artifacts.declaration_file import MAX_BYTES
from uqueue_worker.artifacts.pair import ONNX_FILE
from uqueue_worker.artifacts.registry import NotRegistered, Registry, download

MANIFEST: Final = "manifest.json"


@dataclass(frozen=True)
class RemoteFile:
    """One artifact: what errors call it, where it is, and its size as the server says."""

    name: str
    uri: str
    size_bytes: int


def find_files(registry: Registry, number: str, place: str) -> dict[str, RemoteFile]:
    """Return the artifacts of a version by name; a version that is one file has it as `model.onnx`.

    Raises IncompleteArtifact where there is no model, ModelInvalid for one in a folder of somebody's machine, and
    NotRegistered and SourceError. `place` is what errors call the version.
    """
    base = registry.base(number)
    if urlsplit(base).scheme in ("", "file") and urlsplit(registry.url).scheme in ("http", "https"):
        raise ModelInvalid(file=place, reason="it lies in a folder of whoever registered it, not on the server")
    with registry.translated():
        found = _listed(registry, base, place)
        if not found:
            folder, _, name = base.rstrip("/").rpartition("/")
            beside = _listed(registry, f"{folder}/", place)  # MLflow splits at the last slash
            found = {ONNX_FILE: beside[name]} if name in beside else {}
            found |= {MANIFEST: beside[MANIFEST]} if MANIFEST in beside and found else {}
    if ONNX_FILE not in found:
        raise IncompleteArtifact(file=f"{place}/{ONNX_FILE}", reason="it is not there")
    return found


def read_file(registry: Registry, file: RemoteFile, limit_bytes: int) -> bytes:
    """Return what a file holds. Raises IncompleteArtifact where it does not come, ModelInvalid where it is too large,
    SourceError."""
    if file.size_bytes > limit_bytes:
        reason = f"it has {file.size_bytes} bytes; at most {limit_bytes} are read"
        raise ModelInvalid(file=file.name, reason=reason)
    with tempfile.TemporaryDirectory(prefix="uqueue-") as folder:
        try:
            with registry.translated():
                data = Path(download(file.uri, folder, registry.url)).read_bytes()
        except NotRegistered as error:  # what MLflow makes of every download that fails
            raise IncompleteArtifact(file=file.name, reason=f"it could not be downloaded ({error})") from error
    if len(data) != file.size_bytes:
        raise IncompleteArtifact(file=file.name, reason=f"{len(data)} of {file.size_bytes} bytes came")
    return data


def read_manifest(registry: Registry, files: Mapping[str, RemoteFile]) -> dict[str, Any]:
    """Return what `manifest.json` says, {} where there is none. Raises InvalidDeclaration where it is no JSON object,
    and what `read_file` raises."""
    if MANIFEST not in files:
        return {}
    file = files[MANIFEST]
    try:
        value = from_json(read_file(registry, file, MAX_BYTES))
    except ValueError as error:
        raise InvalidDeclaration(file=file.name, reason=f"it is not JSON ({str(error)[:100]})") from None
    if not isinstance(value, dict):
        raise InvalidDeclaration(file=file.name, reason="it is no JSON object")
    return value


def _listed(registry: Registry, base: str, place: str) -> dict[str, RemoteFile]:
    found = {}
    for one in registry.listing(base):
        name = one.path.rstrip("/").rpartition("/")[2]
        if not one.is_dir:
            found[name] = RemoteFile(f"{place}/{name}", f"{base.rstrip('/')}/{name}", int(one.file_size or 0))
    return found
