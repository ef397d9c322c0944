"""From settings to a provider: a source is swapped by settings only, and nothing is opened meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest

from uqueue_config.settings import Settings
from uqueue_worker.artifacts import (
    LocalFilesystemProvider,
    MLflowProvider,
    ModelProvider,
    S3Provider,
    open_cache,
    open_provider,
)


@pytest.mark.parametrize(
    ("variables", "kind"),
    [
        ({}, None),
        ({"UQUEUE_WORKSPACE_ROOT": "/data"}, LocalFilesystemProvider),
        ({"UQUEUE_ARTIFACT_SOURCE": "/data"}, LocalFilesystemProvider),
        ({"UQUEUE_ARTIFACT_SOURCE": "s3://models/a", "UQUEUE_WORKSPACE_ROOT": "/data"}, S3Provider),
        (
            {"UQUEUE_ARTIFACT_SOURCE": "models:/a@b", "UQUEUE_MLFLOW_TRACKING_URL": "http://mlflow.invalid"},
            MLflowProvider,
        ),
    ],
)
def test_the_settings_name_the_provider(
    tmp_path: Path, variables: dict[str, str], kind: type[ModelProvider] | None
) -> None:
    settings = Settings.load(variables)
    provider = open_provider(settings, "mccp-uq", open_cache(settings, tmp_path / "cache"))
    assert provider is None if kind is None else type(provider) is kind
    assert not (tmp_path / "cache").exists()
    if provider is not None:
        assert provider.name == "mccp-uq"
        assert (provider.get_model_path().name, provider.get_state_path().name) == ("model.h5", "mccp_state.pkl")
