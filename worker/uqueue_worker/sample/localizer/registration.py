"""A sample localization model as a version of a registered MLflow model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from uqueue_config.errors import SourceError
from uqueue_worker.artifacts.declaration_file import DeclarationFile
from uqueue_worker.artifacts.pair import DECLARATION_FILE, ONNX_FILE
from uqueue_worker.artifacts.registry import NotRegistered, Registry

EXPERIMENT: Final = "uqueue-localization"
ALIAS: Final = "production"


def look_at(model: str, tracking_url: str) -> None:
    """Ask the registry something, before work is lost to a mistyped URL. Raises SourceError."""
    registry = Registry(model, tracking_url)
    try:
        with registry.translated():
            registry.client.search_registered_models(f"name = '{model}'")
    except NotRegistered as error:
        raise SourceError(source=registry.address, reason=str(error)) from error


def register(folder: Path, model: str, tracking_url: str) -> str:
    """Register what `make_localizer` wrote into `folder`; return the version's number.

    Its tags are the declaration, accuracy and number of training samples; the run keeps the report. The alias
    `production` moves to it once its files are there. Raises SourceError and OSError.
    """
    source = folder / "models" / model
    about = DeclarationFile.parse((source / DECLARATION_FILE).read_bytes())
    registry = Registry(model, tracking_url)
    try:
        with registry.translated():
            run_id = _log(registry.client, source, folder / "report.json", about)
            if not registry.client.search_registered_models(f"name = '{model}'"):
                registry.client.create_registered_model(model)
            version = registry.client.create_model_version(
                model, f"runs:/{run_id}/model", run_id, tags=_tags(about), await_creation_for=0
            ).version
            registry.client.set_registered_model_alias(model, ALIAS, version)
    except NotRegistered as error:
        raise SourceError(source=registry.address, reason=str(error)) from error
    return str(version)


def _log(client: Any, source: Path, report: Path, about: DeclarationFile) -> str:
    experiment = client.get_experiment_by_name(EXPERIMENT)
    experiment_id = experiment.experiment_id if experiment else client.create_experiment(EXPERIMENT)
    run_id = str(client.create_run(experiment_id).info.run_id)
    client.log_artifact(run_id, str(source / ONNX_FILE), "model")
    client.log_artifact(run_id, str(report))
    client.log_param(run_id, "training_samples", about.training_samples)
    client.log_metric(run_id, "accuracy_meters", about.accuracy_meters)
    client.set_terminated(run_id)
    return run_id


def _tags(about: DeclarationFile) -> dict[str, str]:
    facts = {"accuracy_meters": about.accuracy_meters, "training_samples": about.training_samples}
    said = {**about.declaration, **facts}
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in said.items()}
