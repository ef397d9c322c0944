"""The published versions of one model in a bucket.

    [<prefix>/]<name>/<version>/model.h5, mccp_state.pkl, manifest.json
    [<prefix>/]<name>/<content>/manifest.json     the same manifest under its content's name, where that is another
    [<prefix>/]<name>/aliases/<alias>.json        the manifest of what an alias names
    [<prefix>/]<name>/latest.json                 the manifest of what was published last

A manifest is written after the files it lists, and read back they are the bytes that were meant.
"""

from __future__ import annotations

import contextlib
from typing import Final

from uqueue_config.errors import (
    IncompleteArtifact,
    InvalidManifest,
    ModelInvalid,
    NothingPublished,
    VersionTaken,
)
from uqueue_config.sources import LATEST
from uqueue_worker.artifacts.bucket import Bucket, NoSuchObject, ObjectExists
from uqueue_worker.artifacts.local import MAX_MODEL_BYTES
from uqueue_worker.artifacts.manifest import MAX_MANIFEST_BYTES, MODEL_FILE, STATE_FILE, Manifest, ManifestFile
from uqueue_worker.artifacts.pair import ArtifactPair
from uqueue_worker.artifacts.safe_pickle import MAX_STATE_BYTES

MANIFEST_FILE: Final = "manifest.json"
_LIMIT_BYTES: Final = {MODEL_FILE: MAX_MODEL_BYTES, STATE_FILE: MAX_STATE_BYTES}


class S3Versions:
    """Reads and writes them. A version is asked for as "latest", "@" and an alias, or its name or content."""

    def __init__(self, bucket: Bucket, prefix: str, name: str) -> None:
        self._bucket = bucket
        self._folder = f"{prefix}/{name}" if prefix else name
        self._name = name

    def url(self, version: str, file: str = MANIFEST_FILE) -> str:
        """Return what errors and people call a file, or the manifest of a version."""
        return self._bucket.url(self._key(version, file))

    def manifest(self, version: str, *, unless_etag: str | None = None) -> tuple[Manifest, str]:
        """Return a manifest and its ETag.

        Raises NothingPublished, NotModified where its ETag is still `unless_etag`, InvalidManifest and SourceError.
        """
        file = self.url(version)
        try:
            found = self._bucket.get(self._key(version), limit_bytes=MAX_MANIFEST_BYTES, unless_etag=unless_etag)
        except NoSuchObject:
            raise NothingPublished(model=self._name, missing=file) from None
        manifest = Manifest.parse(found.data, file=file)
        if manifest.model != self._name:
            raise InvalidManifest(file=file, reason=f"it is of the model {manifest.model!r}, not {self._name!r}")
        return manifest, found.etag

    def download(self, manifest: Manifest) -> ArtifactPair:
        """Return the pair that a manifest lists. Raises IncompleteArtifact, ArtifactMismatch and SourceError."""
        model = self._file(manifest.version, MODEL_FILE, manifest.files.model)
        state = self._file(manifest.version, STATE_FILE, manifest.files.state)
        place = self._bucket.url(f"{self._folder}/{manifest.version}")
        return manifest.pair(self._name, model, state, place=place)

    def upload(self, pair: ArtifactPair, version: str | None = None) -> Manifest:
        """Put a pair under a version's name, its content's unless given; what is there already and whole stays.

        Raises VersionTaken where that version has other content, SourceError, and what `download` raises where the
        bucket does not give back what was put.
        """
        manifest = Manifest.of(pair, version)
        there = self._existing(manifest)
        if there is not None:
            with contextlib.suppress(ModelInvalid):
                self.download(there)
                return there
        files = manifest.files.model_copy(
            update={
                "model": self._put(manifest, MODEL_FILE, pair.model, manifest.files.model),
                "state": self._put(manifest, STATE_FILE, pair.state, manifest.files.state),
            }
        )
        manifest = manifest.model_copy(update={"files": files})
        self.download(manifest)
        try:
            self._write(manifest.version, manifest, only_new=there is None)
        except ObjectExists:  # somebody published it at the same time
            manifest = self._existing(manifest) or manifest
        if manifest.version != manifest.content:
            self._write(manifest.content, manifest)
        return manifest

    def point(self, version: str, manifest: Manifest) -> None:
        """Let "latest", or "@" and an alias, name what the manifest lists."""
        self._write(version, manifest)

    def _key(self, version: str, file: str = MANIFEST_FILE) -> str:
        if version == LATEST:
            return f"{self._folder}/latest.json"
        if version.startswith("@"):
            return f"{self._folder}/aliases/{version[1:]}.json"
        return f"{self._folder}/{version}/{file}"

    def _file(self, version: str, name: str, recorded: ManifestFile) -> bytes:
        key = self._key(version, name)
        try:
            found = self._bucket.get(
                key, limit_bytes=_LIMIT_BYTES[name], version_id=recorded.version_id, etag=recorded.etag
            )
        except NoSuchObject:
            reason = "the manifest names it, and it is not there"
            raise IncompleteArtifact(file=self._bucket.url(key), reason=reason) from None
        return found.data

    def _existing(self, manifest: Manifest) -> Manifest | None:
        try:
            there, _ = self.manifest(manifest.version)
        except (NothingPublished, InvalidManifest):
            return None
        if there.content != manifest.content:
            source = self._bucket.url(self._folder)
            raise VersionTaken(source=source, version=manifest.version, content=there.content)
        return there

    def _put(self, manifest: Manifest, name: str, data: bytes, file: ManifestFile) -> ManifestFile:
        stored = self._bucket.put(self._key(manifest.version, name), data)
        return file.model_copy(update={"etag": stored.etag, "version_id": stored.version_id})

    def _write(self, version: str, manifest: Manifest, *, only_new: bool = False) -> None:
        self._bucket.put(self._key(version), manifest.to_json().encode(), only_new=only_new)
