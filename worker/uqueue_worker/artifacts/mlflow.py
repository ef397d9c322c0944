"""A model in an MLflow registry: a registered version whose artifacts are model.h5 (or model.pt) and mccp_state.pkl."""

from __future__ import annotations

from functools import partial

from uqueue_config.errors import IncompleteArtifact, InvalidManifest, ModelInvalid, NothingPublished
from uqueue_config.names import DEFAULT_MODEL
from uqueue_config.sources import parse_mlflow
from uqueue_worker.artifacts.cache import ArtifactCache
from uqueue_worker.artifacts.manifest import CHECKS_FILE, LIMIT_BYTES, Manifest, assemble
from uqueue_worker.artifacts.pair import MODEL_FILES, STATE_FILE, ArtifactPair, fingerprint
from uqueue_worker.artifacts.registry import CONTENT_TAG, MANIFEST_TAG, NotRegistered, RegisteredVersion, Registry
from uqueue_worker.artifacts.remote import Release, RemoteProvider


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
            return Release(found.number, "", "", partial(self._download_unlisted, found, place))
        manifest = Manifest.parse(found.tags[MANIFEST_TAG], file=f"{place}, tag {MANIFEST_TAG}")
        if found.tags.get(CONTENT_TAG, manifest.content) != manifest.content:
            raise InvalidManifest(file=f"{place}, tag {CONTENT_TAG}", reason="it differs from the manifest")
        download = partial(self._download, manifest, found, place)
        return Release(found.number + manifest.content, manifest.content, manifest.files.checks_sha256, download)

    def _download(self, manifest: Manifest, found: RegisteredVersion, place: str) -> ArtifactPair:
        return manifest.pair(self.name, read_listed(self._registry, found.number, manifest), place=place)

    def _download_unlisted(self, found: RegisteredVersion, place: str) -> ArtifactPair:
        names = self._names(found.number, place)
        files = {name: self._registry.read(found.number, name, LIMIT_BYTES[name]) for name in names}
        for file, data in files.items():
            if not data:
                raise IncompleteArtifact(file=f"{place}/{file}", reason="it is empty")
        seen = {file: fingerprint(data, found.created_ns) for file, data in files.items()}
        return assemble(self.name, files, seen)

    def _names(self, number: str, place: str) -> list[str]:
        """Return which files to read of a version that no manifest lists."""
        there = self._registry.names(number)
        models = [name for name in MODEL_FILES if name in there]
        if len(models) > 1:
            names = " and ".join(MODEL_FILES)
            raise ModelInvalid(file=place, reason=f"it holds {names}; register a version with one of them")
        return [*(models or MODEL_FILES[:1]), STATE_FILE, *({CHECKS_FILE} & there)]


def read_listed(registry: Registry, number: str, manifest: Manifest) -> dict[str, bytes]:
    """Return the files of a version by name, from the versions that hold them. Raises what `Registry.read` does."""
    try:
        return {
            name: registry.read(file.held_by or number, name, LIMIT_BYTES[name])
            for name, file in manifest.files.listed.items()
        }
    except NotRegistered as error:
        raise IncompleteArtifact(file=f"version {number}", reason=f"a version it needs is gone ({error})") from error
