"""A localization model in an MLflow registry: `model.onnx`, with its declaration in tags and `manifest.json`."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, Self

from uqueue_config.errors import ModelInvalid, NothingPublished
from uqueue_config.localization import Declaration
from uqueue_config.sources import MLflowSource, parse_mlflow
from uqueue_worker.artifacts.cache import ArtifactCache
from uqueue_worker.artifacts.declaration_file import DeclarationFile
from uqueue_worker.artifacts.local import MAX_MODEL_BYTES
from uqueue_worker.artifacts.localizer_files import RemoteFile, find_files, read_file, read_manifest
from uqueue_worker.artifacts.pair import ONNX_FILE, ArtifactPair, fingerprint, pair_version
from uqueue_worker.artifacts.registry import NotRegistered, RegisteredVersion, Registry
from uqueue_worker.artifacts.remote import Release, RemoteProvider

ACCURACY: Final = "accuracy_meters"
SAMPLES: Final = "training_samples"
#: How many versions are looked through for one that another process serves.
MOST_VERSIONS: Final = 25
_SHA256: Final = re.compile(r"[0-9A-Fa-f]{64}")
_STAGES: Final = ("Production", "Staging", "Archived")


class LocalizerRegistry(RemoteProvider):
    """Reads models:/name@alias, models:/name/Stage or models:/name/3 from the server at `tracking_url`.

    A look is one request for the version that is named, whose files are then read by its number. An alias that is not
    set stands for the stage of the same name, where the registry has stages. A version whose tags change is another
    one. Raises ValueError for another source.
    """

    def __init__(self, source: str, name: str, *, tracking_url: str, cache: ArtifactCache) -> None:
        wanted = parse_mlflow(source)
        if wanted.kind == "none":
            raise ValueError(f"expected an alias, a stage or a version in {source!r}")
        super().__init__(f"{wanted} at {tracking_url}", name, cache)
        self._wanted = with_stage(wanted)
        self._registry = Registry(wanted.model, tracking_url)
        self._stages: dict[str, str] = {}

    @classmethod
    def among(cls, wanted: list[MLflowSource], name: str, *, tracking_url: str, cache: ArtifactCache) -> Self:
        """Return a provider of the first of these that there is."""
        provider = cls(str(wanted[0]), name, tracking_url=tracking_url, cache=cache)
        provider._wanted = wanted
        return provider

    def placement(self, number: str | None) -> tuple[str, str | None]:
        first = self._wanted[0]
        return self._stages.get(number or "", "None"), first.wanted if first.kind == "alias" else None

    def _resolve(self, known: Release | None) -> Release:
        found = find_version(self._registry, self._wanted, self.name)
        return known if known is not None and known.key == _key(found) else self._released(found)

    def _resolve_content(self, version: str) -> Release:
        """Return the release with this content: what is named now, or another version that declares its hash."""
        unsaid = None
        for found in [find_version(self._registry, self._wanted, self.name), *self._others()]:
            release = self._released(found)
            content = self._content_of(release)
            if content == version:
                return release
            unsaid = unsaid or (None if content else release)
        if unsaid is not None:
            return unsaid
        raise NothingPublished(model=self.name, missing=f"a version of {self._wanted[0].model} with content {version}")

    def _others(self) -> list[RegisteredVersion]:
        return self._registry.versions()[:MOST_VERSIONS]

    def _released(self, found: RegisteredVersion) -> Release:
        self._stages[found.number] = found.stage
        place = f"models:/{self._wanted[0].model}/{found.number}"
        try:
            files = find_files(self._registry, found.number, place)
            about = describe(self._registry, found, files)
        except NotRegistered as error:
            raise NothingPublished(model=self.name, missing=f"{place} ({error})") from None
        state, sha256 = about.to_json(), str(about.declaration.get("sha256", ""))
        content = ""
        if _SHA256.fullmatch(sha256):
            content = pair_version(sha256.lower(), hashlib.sha256(state).hexdigest())
        get = partial(self._download, found, files[ONNX_FILE], state)
        memo = f"{place} at {self._registry.url} {_key(found)}"
        return Release(_key(found), content, "", get, "" if content else memo)

    def _download(self, found: RegisteredVersion, file: RemoteFile, state: bytes) -> ArtifactPair:
        model = read_file(self._registry, file, MAX_MODEL_BYTES)
        if not model:
            raise ModelInvalid(file=file.name, reason="it is empty")
        made_ns = found.created_ns
        return ArtifactPair(
            self.name, model, state, fingerprint(model, made_ns), fingerprint(state, made_ns), ONNX_FILE
        )


def with_stage(wanted: MLflowSource) -> list[MLflowSource]:
    """Return what to look for, in this order: an alias, then the stage of the same name."""
    stage = wanted.wanted.capitalize()
    if wanted.kind != "alias" or stage not in _STAGES:
        return [wanted]
    return [wanted, MLflowSource(wanted.model, "stage", stage)]


def find_version(registry: Registry, wanted: list[MLflowSource], name: str) -> RegisteredVersion:
    """Return the first of what is wanted that there is. Raises NothingPublished, naming all of it, and SourceError."""
    reasons = []
    for source in wanted:
        try:
            return registry.find(source)
        except NotRegistered as error:
            reasons.append(f"{source} ({error})")
    raise NothingPublished(model=name, missing=" and ".join(reasons))


def describe(registry: Registry, found: RegisteredVersion, files: Mapping[str, RemoteFile]) -> DeclarationFile:
    """Return what the registry says of a version: its tags, manifest.json, and the run that made it."""
    manifest = read_manifest(registry, files)
    metrics, params = _run(registry, found)
    created = datetime.fromtimestamp(found.created_ns / 1e9, UTC)
    return DeclarationFile(
        declaration=Declaration.members(found.tags, manifest),
        number=found.number,
        run_id=found.run_id,
        created_at=created.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        accuracy_meters=_first_number(found.tags.get(ACCURACY), metrics.get(ACCURACY)),
        training_samples=_first_count(found.tags.get(SAMPLES), params.get(SAMPLES), metrics.get(SAMPLES)),
    )


def _run(registry: Registry, found: RegisteredVersion) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return metrics and parameters of the run; none where the tags say it all or the run is gone."""
    if found.run_id is None or {ACCURACY, SAMPLES} <= set(found.tags):
        return {}, {}
    try:
        with registry.translated():
            data = registry.client.get_run(found.run_id).data
    except NotRegistered:
        return {}, {}
    return dict(data.metrics), dict(data.params)


def _first_number(*values: Any) -> float | None:
    """Return the first that is a number from 0 on."""
    for value in values:
        try:
            number = float(value)
        except (TypeError, ValueError):
            continue
        if math.isfinite(number) and number >= 0:
            return number
    return None


def _first_count(*values: Any) -> int | None:
    number = _first_number(*values)
    return None if number is None else int(number)


def _key(found: RegisteredVersion) -> str:
    """Return what is another text whenever what the tags declare is."""
    tags = {**Declaration.members(found.tags), **{name: found.tags.get(name) for name in (ACCURACY, SAMPLES)}}
    digest = hashlib.sha256(json.dumps(tags, sort_keys=True).encode()).hexdigest()
    return f"{found.number}-{digest[:16]}"
