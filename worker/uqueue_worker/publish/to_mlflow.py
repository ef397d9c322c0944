"""A pair as a version of a registered MLflow model."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from uqueue_config.errors import ModelInvalid, SourceError
from uqueue_worker.artifacts import ArtifactPair
from uqueue_worker.artifacts.local import MAX_MODEL_BYTES
from uqueue_worker.artifacts.manifest import MODEL_FILE, STATE_FILE, Manifest
from uqueue_worker.artifacts.registry import CONTENT_TAG, MANIFEST_TAG, NotRegistered, Registry
from uqueue_worker.artifacts.safe_pickle import MAX_STATE_BYTES

EXPERIMENT: Final = "uqueue"


def register(pair: ArtifactPair, model: str, tracking_url: str, aliases: Sequence[str]) -> tuple[str, Manifest]:
    """Return the number of the version that holds this pair, made unless there is one, and its manifest.

    The version exists once its files do; the aliases move after the files were read back. Raises SourceError.
    """
    registry = Registry(model, tracking_url)
    try:
        number, manifest = _whole_version(registry, pair) or _create(registry, pair, model)
        with registry.translated():
            for alias in aliases:
                registry.client.set_registered_model_alias(model, alias, number)
    except NotRegistered as error:
        raise SourceError(source=registry.address, reason=str(error)) from error
    return number, manifest


def _whole_version(registry: Registry, pair: ArtifactPair) -> tuple[str, Manifest] | None:
    with contextlib.suppress(NotRegistered, ModelInvalid):
        version = registry.find_content(pair.version)
        manifest = Manifest.parse(version.tags.get(MANIFEST_TAG, ""), file=MANIFEST_TAG)
        _read_back(registry, version.number, pair, manifest)
        return version.number, manifest
    return None


def _create(registry: Registry, pair: ArtifactPair, model: str) -> tuple[str, Manifest]:
    manifest = Manifest.of(pair)
    with registry.translated():
        number = _log_and_register(registry.client, pair, model, manifest)
    _read_back(registry, number, pair, manifest)
    return number, manifest


def _log_and_register(client: Any, pair: ArtifactPair, model: str, manifest: Manifest) -> str:
    experiment = client.get_experiment_by_name(EXPERIMENT)
    experiment_id = experiment.experiment_id if experiment else client.create_experiment(EXPERIMENT)
    run_id = client.create_run(experiment_id).info.run_id
    with tempfile.TemporaryDirectory(prefix="uqueue-") as folder:
        for name, data in ((MODEL_FILE, pair.model), (STATE_FILE, pair.state)):
            (Path(folder) / name).write_bytes(data)
            client.log_artifact(run_id, str(Path(folder) / name), pair.name)
    client.set_terminated(run_id)
    if not client.search_registered_models(f"name = '{model}'"):
        client.create_registered_model(model)
    tags = {MANIFEST_TAG: manifest.to_json(), CONTENT_TAG: manifest.content}
    source = f"runs:/{run_id}/{pair.name}"
    return str(client.create_model_version(model, source, run_id, tags=tags, await_creation_for=0).version)


def _read_back(registry: Registry, number: str, pair: ArtifactPair, manifest: Manifest) -> None:
    model = registry.read(number, MODEL_FILE, MAX_MODEL_BYTES)
    state = registry.read(number, STATE_FILE, MAX_STATE_BYTES)
    manifest.pair(pair.name, model, state, place=f"version {number}")
