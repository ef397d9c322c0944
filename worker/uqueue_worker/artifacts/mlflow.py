"""A model in an MLflow registry: a registered version whose artifacts are model.h5 and mccp_state.pkl."""

from __future__ import annotations

from functools import partial

from uqueue_config.errors import IncompleteArtifact, InvalidManifest, NothingPublished
from uqueue_config.names import DEFAULT_MODEL
from uqueue_config.sources import parse_mlflow
from uqueue_worker.artifacts.cache import ArtifactCache
from uqueue_worker.artifacts.local import MAX_MODEL_BYTES
from uqueue_worker.artifacts.manifest import MODEL_FILE, STATE_FILE, Manifest
from uqueue_worker.artifacts.pair import ArtifactPair, fingerprint
from uqueue_worker.artifacts.registry import CONTENT_TAG, MANIFEST_TAG, NotRegistered, RegisteredVersion, Registry
from uqueue_worker.artifacts.remote import Release, RemoteProvider
from uqueue_worker.artifacts.safe_pickle import MAX_STATE_BYTES


class MLflowProvider(RemoteProvider):
    """Reads models:/name@alias, models:/name/Stage or models:/name/3 from the server at `tracking_url`.

    A look is one request for the version that is named. Its files are read by the version's number, and must have the
    hashes in its tag `uqueue.manifest`. A version without that tag is downloaded once per process, and its files count
    as written when it was registered. Raises ValueError for another source.
    """

    def __init__(self, source: str, name: str = DEFAULT_MODEL, *, tracking_url: str, cache: ArtifactCache) -> None:
        self._wanted = parse_mlflow(source)
        if self._wanted.kind == "none":
            raise ValueError(f"expected an alias, a stage or a version in {source!r}")
        super().__init__(f"{self._wanted} at {tracking_url}", name, cache)
        self._registry = Registry(self._wanted.model, tracking_url)

    def _resolve(self, known: Release | None) -> Release:
        try:
            found = self._registry.find(self._wanted)
        except NotRegistered as error:
            raise NothingPublished(model=self.name, missing=f"{self._wanted} ({error})") from None
        release = self._released(found)
        return known if known is not None and known.key == release.key else release

    def _resolve_content(self, version: str) -> Release:
        try:
            return self._released(self._registry.find_content(version))
        except NotRegistered as error:
            raise NothingPublished(model=self.name, missing=str(error)) from None

    def _released(self, found: RegisteredVersion) -> Release:
        place = f"models:/{self._wanted.model}/{found.number}"
        if MANIFEST_TAG not in found.tags:
            return Release(found.number, "", partial(self._download_unlisted, found, place))
        manifest = Manifest.parse(found.tags[MANIFEST_TAG], file=f"{place}, tag {MANIFEST_TAG}")
        if found.tags.get(CONTENT_TAG, manifest.content) != manifest.content:
            raise InvalidManifest(file=f"{place}, tag {CONTENT_TAG}", reason="it differs from the manifest")
        return Release(
            found.number + manifest.content, manifest.content, partial(self._download, manifest, found, place)
        )

    def _download(self, manifest: Manifest, found: RegisteredVersion, place: str) -> ArtifactPair:
        return manifest.pair(self.name, *self._files(found.number), place=place)

    def _download_unlisted(self, found: RegisteredVersion, place: str) -> ArtifactPair:
        model, state = self._files(found.number)
        for file, data in ((MODEL_FILE, model), (STATE_FILE, state)):
            if not data:
                raise IncompleteArtifact(file=f"{place}/{file}", reason="it is empty")
        return ArtifactPair(
            self.name, model, state, fingerprint(model, found.created_ns), fingerprint(state, found.created_ns)
        )

    def _files(self, number: str) -> tuple[bytes, bytes]:
        model = self._registry.read(number, MODEL_FILE, MAX_MODEL_BYTES)
        return model, self._registry.read(number, STATE_FILE, MAX_STATE_BYTES)
