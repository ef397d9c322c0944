"""Versions of a model: `<root>/<model>/<version>/{model.*, manifest.json}`, and `<root>/<model>/aliases.json`.

Names come from callers and files from anybody: a name is the name of a folder and nothing else, and what is read lies
below the root, wherever links lead.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from pydantic_core import from_json

from uqueue_config.learning.model_manifest import (
    ALIASES_FILE,
    MANIFEST_FILE,
    NAME_PATTERN,
    InvalidManifest,
    ModelManifest,
)
from uqueue_worker.learning.errors import ModelIntegrity, ModelNotFound, ModelVersionNotFound

#: Aliases that stand for the default, the first of them that there is; `latest` exists even if nobody set it.
DEFAULT_ALIASES = ("production", "latest")
LATEST = "latest"
_NAME = re.compile(NAME_PATTERN)
_MANIFEST_BYTES = 16 << 20
_MODEL_BYTES = 2 << 30


class ModelFolder:
    """The versions of one model, read anew with every call: versions appear and aliases move while it is in use.

    Raises ModelNotFound where there is no such folder, and for a name that is a path.
    """

    def __init__(self, root: str | Path, model: str) -> None:
        self.root = Path(root)
        self.model = model
        if not is_name(model) or not (self.root / model).is_dir():
            raise ModelNotFound(model=model[:200])
        self.path = _below(self.root / model, self.root)

    def list_versions(self) -> list[str]:
        """Return the versions that have a manifest that can be read, the oldest first."""
        found = []
        for folder in self.path.iterdir():
            if is_name(folder.name) and (folder / MANIFEST_FILE).is_file():
                try:
                    manifest = self.manifest(folder.name)
                except ModelIntegrity:
                    continue
                found.append((manifest.created, manifest.version))
        return [version for _, version in sorted(found)]

    def aliases(self) -> dict[str, str]:
        """Return what `aliases.json` says, {} where there is none. Raises ModelIntegrity for what are no aliases."""
        path = self.path / ALIASES_FILE
        try:
            found = from_json(_read(path, self.root, _MANIFEST_BYTES))
        except FileNotFoundError:
            return {}
        except ValueError:
            raise ModelIntegrity(file=str(path), reason="it is not JSON") from None
        if not isinstance(found, dict) or not all(isinstance(one, str) and is_name(one) for one in found.values()):
            raise ModelIntegrity(file=str(path), reason="it does not map aliases to names of versions")
        return found

    def resolve(self, tag: str | None, default: str | None = None) -> str:
        """Return the version that a tag names: a version, else an alias; None is the default.

        Raises ModelVersionNotFound, also for tags that are paths.
        """
        if tag is None and default is None:
            return self._default()
        named = str(default if tag is None else tag)
        if is_name(named):
            if (self.path / named).is_dir():
                return named
            if (version := self.aliases().get(named)) is not None:
                return version
            if named == LATEST and (versions := self.list_versions()):
                return versions[-1]
        raise ModelVersionNotFound(model=self.model, version=named[:200])

    def manifest(self, version: str) -> ModelManifest:
        """Return the manifest of a version. Raises ModelVersionNotFound, and ModelIntegrity where it is of no use."""
        folder = self.path / version
        if not is_name(version) or not folder.is_dir():
            raise ModelVersionNotFound(model=self.model, version=version[:200])
        manifest = read_manifest(_below(folder, self.root), self.root)
        if (manifest.model, manifest.version) != (self.model, version):
            reason = f"it is the manifest of {manifest.reference}"
            raise ModelIntegrity(file=str(folder / MANIFEST_FILE), reason=reason)
        return manifest

    def read_model(self, manifest: ModelManifest) -> bytes:
        """Return the bytes of a version's model file. Raises ModelIntegrity unless they are what was saved."""
        return read_model(self.path / manifest.version, manifest, self.root)

    def _default(self) -> str:
        aliases = self.aliases()
        for alias in DEFAULT_ALIASES:
            if alias in aliases:
                return aliases[alias]
        return self.resolve(LATEST)


def is_name(text: str) -> bool:
    """Tell whether this is the name of a folder and no path."""
    return _NAME.fullmatch(text) is not None and ".." not in text


def read_manifest(folder: Path, root: Path) -> ModelManifest:
    """Return the manifest in a folder below the root. Raises ModelIntegrity where there is none, or one of no use."""
    path = folder / MANIFEST_FILE
    try:
        return ModelManifest.read(_read(path, root, _MANIFEST_BYTES))
    except FileNotFoundError:
        raise ModelIntegrity(file=str(folder), reason=f"it has no {MANIFEST_FILE}") from None
    except InvalidManifest as error:
        raise ModelIntegrity(file=str(path), reason=str(error)[:1000]) from None


def read_model(folder: Path, manifest: ModelManifest, root: Path) -> bytes:
    """Return the bytes that the manifest names, read once. Raises ModelIntegrity unless their SHA-256 is the one."""
    path = folder / manifest.file
    try:
        data = _read(path, root, _MODEL_BYTES)
    except FileNotFoundError:
        raise ModelIntegrity(file=str(path), reason="it is not there, and the manifest names it") from None
    if hashlib.sha256(data).hexdigest() != manifest.sha256:
        raise ModelIntegrity(file=str(path), reason="its SHA-256 is not the one in the manifest")
    return data


def _below(path: Path, root: Path) -> Path:
    """Return the path without links. Raises ModelIntegrity where they lead out of the root."""
    resolved = path.resolve()
    if not resolved.is_relative_to(root.resolve()):
        raise ModelIntegrity(file=str(path), reason="it lies outside of the model root")
    return resolved


def _read(path: Path, root: Path, limit_bytes: int) -> bytes:
    resolved = _below(path, root)
    if resolved.exists() and not resolved.is_file():
        raise ModelIntegrity(file=str(path), reason="it is no file")
    with resolved.open("rb") as file:
        data = file.read(limit_bytes + 1)
    if len(data) > limit_bytes:
        raise ModelIntegrity(file=str(path), reason=f"it has more than the {limit_bytes} bytes that are read")
    return data
