"""A model in an S3 bucket, as `uqueue publish` writes it; see `s3_versions` for the keys."""

from __future__ import annotations

from functools import partial

from uqueue_config.names import DEFAULT_MODEL
from uqueue_config.sources import parse_s3
from uqueue_worker.artifacts.bucket import Bucket, NotModified, S3Connection
from uqueue_worker.artifacts.cache import ArtifactCache
from uqueue_worker.artifacts.remote import Release, RemoteProvider
from uqueue_worker.artifacts.s3_versions import S3Versions


class S3Provider(RemoteProvider):
    """Reads s3://bucket/prefix: the latest version, or the one that ?version=@alias or ?version=name names.

    A look is one conditional GET of the manifest. Files are read by the VersionIds in it, and must have its ETags and
    hashes. Raises ValueError for another source.
    """

    def __init__(
        self,
        source: str,
        name: str = DEFAULT_MODEL,
        *,
        cache: ArtifactCache,
        connection: S3Connection | None = None,
    ) -> None:
        parsed = parse_s3(source)
        super().__init__(str(parsed), name, cache)
        self._versions = S3Versions(Bucket(parsed.bucket, connection or S3Connection()), parsed.prefix, name)
        self._wanted = parsed.version

    def _resolve(self, known: Release | None) -> Release:
        if known is None:
            return self._released(self._wanted)
        try:
            return self._released(self._wanted, unless_etag=known.key)
        except NotModified:
            return known

    def _resolve_content(self, version: str) -> Release:
        return self._released(version)

    def _released(self, version: str, *, unless_etag: str | None = None) -> Release:
        manifest, etag = self._versions.manifest(version, unless_etag=unless_etag)
        download = partial(self._versions.download, manifest)
        return Release(etag, manifest.content, manifest.files.checks_sha256, download)
