"""Where a model's versions are: in a folder of versions, at one path, or in this process."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from uqueue_config.learning.model_manifest import MANIFEST_FILE, ModelManifest
from uqueue_worker.learning.errors import ModelNotFound, ModelVersionNotFound
from uqueue_worker.learning.models.loaded import LoadedModel
from uqueue_worker.learning.models.versions import ModelFolder, read_manifest, read_model


class ModelPlace(Protocol):
    """`may_hold_pickles` says whether files there are below a root that somebody configured."""

    may_hold_pickles: bool

    def list_versions(self) -> list[str]: ...

    def manifest(self, tag: str | None) -> ModelManifest:
        """Return the manifest of the version that a tag names now."""
        ...

    def read(self, manifest: ModelManifest) -> bytes:
        """Return the model's bytes, which have the manifest's SHA-256."""
        ...


@dataclass(frozen=True)
class FolderPlace:
    """`<root>/<name>/<version>/`; None is `default`, or else the alias production or latest."""

    root: Path
    name: str
    default: str | None = None
    may_hold_pickles = True

    def list_versions(self) -> list[str]:
        return ModelFolder(self.root, self.name).list_versions()

    def manifest(self, tag: str | None) -> ModelManifest:
        folder = ModelFolder(self.root, self.name)
        return folder.manifest(folder.resolve(tag, self.default))

    def read(self, manifest: ModelManifest) -> bytes:
        return ModelFolder(self.root, self.name).read_model(manifest)


@dataclass(frozen=True)
class PathPlace:
    """One version: a model file with its manifest beside it, or the folder that holds both."""

    path: Path
    may_hold_pickles = False

    def list_versions(self) -> list[str]:
        return [self.manifest(None).version]

    def manifest(self, tag: str | None) -> ModelManifest:
        if not self.path.exists():
            raise ModelNotFound(model=str(self.path)[:500])
        folder = self._folder
        found = read_manifest(folder, folder)
        if self.path.is_file() and self.path.name not in (found.file, MANIFEST_FILE):
            raise ModelNotFound(model=f"{self.path} (its {MANIFEST_FILE} is that of {found.file})"[:500])
        return _the_only(found, tag)

    def read(self, manifest: ModelManifest) -> bytes:
        return read_model(self._folder, manifest, self._folder)

    @property
    def _folder(self) -> Path:
        return self.path if self.path.is_dir() else self.path.parent


@dataclass(frozen=True)
class InProcessPlace:
    """One version that is no file."""

    model: LoadedModel
    may_hold_pickles = False

    def list_versions(self) -> list[str]:
        return [self.model.manifest.version]

    def manifest(self, tag: str | None) -> ModelManifest:
        return _the_only(self.model.manifest, tag)

    def read(self, manifest: ModelManifest) -> bytes:
        raise ModelNotFound(model=f"{manifest.reference} as a file: it is in this process only")


def _the_only(manifest: ModelManifest, tag: str | None) -> ModelManifest:
    if tag not in (None, manifest.version):
        raise ModelVersionNotFound(model=manifest.model, version=str(tag)[:200])
    return manifest


def no_file_sha256() -> str:
    """Return the SHA-256 of no bytes, for models that have no file."""
    return hashlib.sha256(b"").hexdigest()
