"""The published versions of one model in a bucket.

    [<prefix>/]<name>/<version>/model.h5 (or model.pt), mccp_state.pkl, checks.json, manifest.json
    [<prefix>/]<name>/<content>/manifest.json     the same manifest under its content's name, where that is another
    [<prefix>/]<name>/weights/<hash>.json         a manifest of these weights, from which further versions copy them
    [<prefix>/]<name>/aliases/<alias>.json        the manifest of what an alias names
    [<prefix>/]<name>/latest.json                 the manifest of what was published last

A manifest is written after the files it lists, and read back they are the bytes that were meant.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Final

from uqueue_config.errors import (
    IncompleteArtifact,
    InvalidManifest,
    ModelInvalid,
    NothingPublished,
    VersionTaken,
)
from uqueue_config.sources import LATEST
from uqueue_worker.artifacts.bucket import Bucket, NoSuchObject, ObjectExists, StoredObject
from uqueue_worker.artifacts.manifest import (
    LIMIT_BYTES,
    MAX_MANIFEST_BYTES,
    Manifest,
    ManifestFile,
    ManifestFiles,
    contents,
)
from uqueue_worker.artifacts.pair import ArtifactPair

MANIFEST_FILE: Final = "manifest.json"
_WEIGHTS: Final = "weights/"


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
        files = {name: self._file(manifest.version, name, file) for name, file in manifest.files.listed.items()}
        return manifest.pair(self._name, files, place=self._bucket.url(f"{self._folder}/{manifest.version}"))

    def upload(self, pair: ArtifactPair, version: str | None = None) -> Manifest:
        """Put a pair under a version's name, its content's unless given; what is there already and whole stays.

        Weights that another version holds are copied within the bucket. Raises VersionTaken where that version has
        another model or calibration, SourceError, and what `download` raises where the bucket does not give back what
        was put.
        """
        manifest = Manifest.of(pair, version)
        there = self._existing(manifest)
        whole = there if there is not None and self._is_whole(there) else None
        if whole is not None and whole.files.checks_sha256 == manifest.files.checks_sha256:
            return whole
        manifest = manifest.model_copy(update={"files": self._put_all(manifest, contents(pair), whole)})
        self.download(manifest)
        try:
            self._write(manifest.version, manifest, only_new=there is None)
        except ObjectExists:  # somebody published it at the same time
            manifest = self._existing(manifest) or manifest
        if manifest.version != manifest.content:
            self._write(manifest.content, manifest)
        self._write(_weights(manifest), manifest)
        return manifest

    def point(self, version: str, manifest: Manifest) -> None:
        """Let "latest", or "@" and an alias, name what the manifest lists."""
        self._write(version, manifest)

    def _key(self, version: str, file: str = MANIFEST_FILE) -> str:
        if version == LATEST:
            return f"{self._folder}/latest.json"
        if version.startswith(_WEIGHTS):
            return f"{self._folder}/{version}.json"
        if version.startswith("@"):
            return f"{self._folder}/aliases/{version[1:]}.json"
        return f"{self._folder}/{version}/{file}"

    def _file(self, version: str, name: str, recorded: ManifestFile) -> bytes:
        key = self._key(version, name)
        try:
            found = self._bucket.get(
                key, limit_bytes=LIMIT_BYTES[name], version_id=recorded.version_id, etag=recorded.etag
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

    def _is_whole(self, manifest: Manifest) -> bool:
        with contextlib.suppress(ModelInvalid):
            self.download(manifest)
            return True
        return False

    def _put_all(self, manifest: Manifest, files: Mapping[str, bytes], whole: Manifest | None) -> ManifestFiles:
        """Put what is not in the bucket yet, under the manifest's version, and return what the bucket calls it all."""
        kept = whole.files.listed if whole else {}
        put = {}
        for name, file in manifest.files.listed.items():
            if name in kept and kept[name].sha256 == file.sha256:
                put[name] = kept[name]
                continue
            key = self._key(manifest.version, name)
            copied = self._copy_weights(manifest, key) if name == manifest.files.model_filename else None
            stored = copied or self._bucket.put(key, files[name])
            put[name] = file.model_copy(update={"etag": stored.etag, "version_id": stored.version_id})
        return ManifestFiles.listing(put)

    def _copy_weights(self, manifest: Manifest, key: str) -> StoredObject | None:
        """Copy the weights from the version that has them, None where there is none; `upload` reads them back."""
        try:
            holder, _ = self.manifest(_weights(manifest))
            file, name = holder.files.model, holder.files.model_filename
            if (file.sha256, name) != (manifest.files.model.sha256, manifest.files.model_filename):
                return None
            return self._bucket.copy(self._key(holder.version, name), key, version_id=file.version_id, etag=file.etag)
        except (NothingPublished, InvalidManifest, NoSuchObject, ObjectExists):
            return None

    def _write(self, version: str, manifest: Manifest, *, only_new: bool = False) -> None:
        self._bucket.put(self._key(version), manifest.to_json().encode(), only_new=only_new)


def _weights(manifest: Manifest) -> str:
    return f"{_WEIGHTS}{manifest.weights}"
