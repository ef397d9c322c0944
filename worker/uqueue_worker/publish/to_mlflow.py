"""A pair as a version of a registered MLflow model."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from uqueue_config.errors import ModelInvalid, SourceError
from uqueue_worker.artifacts import ArtifactPair
from uqueue_worker.artifacts.manifest import LIMIT_BYTES, Manifest, ManifestFiles, contents
from uqueue_worker.artifacts.mlflow import read_listed
from uqueue_worker.artifacts.registry import CONTENT_TAG, MANIFEST_TAG, WEIGHTS_TAG, NotRegistered, Registry

EXPERIMENT: Final = "uqueue"


def register(pair: ArtifactPair, model: str, tracking_url: str, aliases: Sequence[str]) -> tuple[str, Manifest]:
    """Return the number of the version that holds this pair, made unless there is one, and its manifest.

    The version exists once its files do; the aliases move after the files were read back. Weights that another version
    has are not uploaded again: the manifest names that version. Raises SourceError.
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
        if manifest.files.checks_sha256 != Manifest.of(pair).files.checks_sha256:
            return None
        _read_back(registry, version.number, pair, manifest)
        return version.number, manifest
    return None


def _create(registry: Registry, pair: ArtifactPair, model: str) -> tuple[str, Manifest]:
    manifest = _referring(registry, Manifest.of(pair))
    with registry.translated():
        number = _log_and_register(registry.client, pair, model, manifest)
    _read_back(registry, number, pair, manifest)
    return number, manifest


def _referring(registry: Registry, manifest: Manifest) -> Manifest:
    """Return the manifest with the version that holds its weights, unchanged where none holds them whole."""
    name, file = manifest.files.model_filename, manifest.files.model
    with contextlib.suppress(NotRegistered, ModelInvalid):
        found = registry.find_weights(manifest.weights)
        holder = Manifest.parse(found.tags.get(MANIFEST_TAG, ""), file=MANIFEST_TAG).files.model.held_by
        file = file.model_copy(update={"held_by": holder or found.number})
        file.check(registry.read(str(file.held_by), name, LIMIT_BYTES[name]), file=name)
        listing = ManifestFiles.listing({**manifest.files.listed, name: file})
        return manifest.model_copy(update={"files": listing})
    return manifest


def _log_and_register(client: Any, pair: ArtifactPair, model: str, manifest: Manifest) -> str:
    experiment = client.get_experiment_by_name(EXPERIMENT)
    experiment_id = experiment.experiment_id if experiment else client.create_experiment(EXPERIMENT)
    run_id = client.create_run(experiment_id).info.run_id
    with tempfile.TemporaryDirectory(prefix="uqueue-") as folder:
        held = {name for name, file in manifest.files.listed.items() if file.held_by}
        for name, data in contents(pair).items():
            if name in held:
                continue
            (Path(folder) / name).write_bytes(data)
            client.log_artifact(run_id, str(Path(folder) / name), pair.name)
    client.set_terminated(run_id)
    if not client.search_registered_models(f"name = '{model}'"):
        client.create_registered_model(model)
    tags = {MANIFEST_TAG: manifest.to_json(), CONTENT_TAG: manifest.content, WEIGHTS_TAG: manifest.weights}
    source = f"runs:/{run_id}/{pair.name}"
    return str(client.create_model_version(model, source, run_id, tags=tags, await_creation_for=0).version)


def _read_back(registry: Registry, number: str, pair: ArtifactPair, manifest: Manifest) -> None:
    manifest.pair(pair.name, read_listed(registry, number, manifest), place=f"version {number}")
