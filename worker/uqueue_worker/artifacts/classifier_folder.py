"""Versions of classifiers in a folder: <root>/<model>/<version>/{model.onnx, manifest.json}.

<root>/<model>/aliases.json says what each alias names: {"production": "7", "canary": "8"}. Where it does not name
`latest`, that is the version made last. A version is never changed; a moved alias is what makes another one the version
to serve.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from pydantic_core import from_json

from uqueue_config.errors import InvalidDeclaration, ModelError, ModelInvalid, ModelNotAvailable
from uqueue_config.learning.model_manifest import ALIASES_FILE, NAME_PATTERN, InvalidManifest, ModelManifest
from uqueue_config.sources import LATEST, VersionsFolder
from uqueue_worker.artifacts.local import MAX_MODEL_BYTES, LocalFilesystemProvider, WatchedFile, read_file, status_of
from uqueue_worker.artifacts.pair import MANIFEST_FILE, ONNX_FILE, ArtifactPair, pair_version

MAX_MANIFEST_BYTES: Final = 8 * 1024**2
MAX_ALIASES_BYTES: Final = 64 * 1024
MOST_VERSIONS: Final = 10_000
_NAME: Final = re.compile(NAME_PATTERN, re.ASCII)


def read_manifest(data: bytes, *, file: str = MANIFEST_FILE) -> ModelManifest:
    """Return what a manifest says that anybody may have written. Raises InvalidDeclaration; `file` is what it calls
    it."""
    try:
        manifest = ModelManifest.read(data)
    except InvalidManifest as error:
        raise InvalidDeclaration(file=file, reason=str(error)[:500]) from None
    if manifest.format != "onnx" or manifest.file != ONNX_FILE:
        found = f"{manifest.format}, in {manifest.file}"
        raise InvalidDeclaration(file=file, reason=f"workers serve the format onnx, in {ONNX_FILE}; it names {found}")
    return manifest


class ClassifierFolder(LocalFilesystemProvider):
    """Reads the version that an alias or a name names, as `LocalFilesystemProvider` reads files. What the names lead to
    stays below the root: they are plain names of folders.
    """

    def __init__(self, source: VersionsFolder, name: str) -> None:
        super().__init__(source.path, name)
        self._wanted = source.version

    def get_model_path(self) -> Path:
        """Return where the model is; the folder of all versions while the alias names none."""
        with contextlib.suppress(ModelError):
            return self._folder() / ONNX_FILE
        return self._versions

    def get_state_path(self) -> Path:
        """Return where the manifest is, as `get_model_path` does."""
        with contextlib.suppress(ModelError):
            return self._folder() / MANIFEST_FILE
        return self._versions

    def fetch(self, version: str) -> ArtifactPair | None:
        with contextlib.suppress(ModelError):  # another version can be had where the alias names none
            if self.version() == version:
                return self.load()
        folder = self._folder_of(version)
        if folder is None:
            return None
        pair = ClassifierFolder(VersionsFolder(self._root, folder), self.name).load()
        return pair if pair.version == version else None

    @property
    def _versions(self) -> Path:
        return self._root / self.name

    def _folder(self) -> Path:
        """Return the folder of the version that is wanted now. Raises ModelNotAvailable, and ModelInvalid for aliases
        that cannot be read."""
        name = self._wanted
        if name.startswith("@"):
            name = self._named(name[1:])
        return self._versions / name

    def _named(self, alias: str) -> str:
        path = self._versions / ALIASES_FILE
        if status_of(path) is None:
            if alias == LATEST and (made_last := self._made_last()):
                return made_last
            raise ModelNotAvailable(model=self.name, missing=str(path))
        try:
            aliases = from_json(read_file(path, MAX_ALIASES_BYTES))
            name = dict(aliases).get(alias)
        except (ValueError, TypeError):
            raise ModelInvalid(file=str(path), reason="it is no JSON object of aliases") from None
        if name is None and alias == LATEST:
            name = self._made_last()
        if name is None:
            raise ModelNotAvailable(model=self.name, missing=f"the alias {alias} in {path}")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            reason = f"the alias {alias} names {str(name)[:60]!r}, which is no version"
            raise ModelInvalid(file=str(path), reason=reason)
        return name

    def _look(self) -> list[WatchedFile]:
        folder = self._folder()
        found = [
            WatchedFile(path, status, limit)
            for path, limit in ((folder / ONNX_FILE, MAX_MODEL_BYTES), (folder / MANIFEST_FILE, MAX_MANIFEST_BYTES))
            if (status := status_of(path)) is not None
        ]
        if len(found) != 2:
            there = {file.path for file in found}
            missing = [str(path) for path in (folder / ONNX_FILE, folder / MANIFEST_FILE) if path not in there]
            raise ModelNotAvailable(model=self.name, missing=" and ".join(missing))
        return found

    def _pair(self, files: list[WatchedFile], contents: list[bytes]) -> ArtifactPair:
        pair = replace(super()._pair(files, contents), is_classifier=True)
        folder = files[0].path.parent
        manifest = read_manifest(pair.state, file=str(folder / MANIFEST_FILE))
        if (manifest.model, manifest.version) != (self.name, folder.name):
            reason = f"it is that of {manifest.model} {manifest.version}, and lies in {self.name}/{folder.name}"
            raise InvalidDeclaration(file=str(folder / MANIFEST_FILE), reason=reason)
        return pair

    def _made_last(self) -> str | None:
        """Return the version whose manifest says the latest time, None where there is none."""
        found = [(manifest.created, manifest.version) for manifest, _ in self._manifests()]
        return max(found)[1] if found else None

    def _folder_of(self, version: str) -> str | None:
        """Return the folder whose manifest makes this version, by the hash of the model that it states."""
        for manifest, data in self._manifests():
            if pair_version(manifest.sha256, hashlib.sha256(data).hexdigest()) == version:
                return manifest.version
        return None

    def _manifests(self) -> Iterator[tuple[ModelManifest, bytes]]:
        """Yield the manifests that can be read and lie where they say, each with its bytes."""
        with contextlib.suppress(OSError), os.scandir(self._versions) as entries:
            names = [entry.name for entry in entries if _NAME.fullmatch(entry.name) and entry.is_dir()]
            for name in sorted(names, reverse=True)[:MOST_VERSIONS]:
                with contextlib.suppress(ModelError):
                    data = read_file(self._versions / name / MANIFEST_FILE, MAX_MANIFEST_BYTES)
                    manifest = read_manifest(data)
                    if (manifest.model, manifest.version) == (self.name, name):
                        yield manifest, data
