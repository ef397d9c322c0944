"""What may be written as a source, and the provider that settings make of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from uqueue_config.errors import SettingsError
from uqueue_config.settings import Settings
from uqueue_config.sources import FolderSource, MLflowSource, S3Source, is_label, parse_source

MLFLOW = "http://mlflow:5000"


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("/data/workspace", FolderSource(Path("/data/workspace"))),
        ("s3://models", S3Source("models")),
        ("s3://models/team/a", S3Source("models", "team/a")),
        ("s3://models/team/a?version=@canary", S3Source("models", "team/a", "@canary")),
        ("s3://models?version=2026-11-21", S3Source("models", "", "2026-11-21")),
        ("models:/energy", MLflowSource("energy")),
        ("models:/energy@production", MLflowSource("energy", "alias", "production")),
        ("models:/energy/Production", MLflowSource("energy", "stage", "Production")),
        ("models:/energy/3", MLflowSource("energy", "version", "3")),
    ],
)
def test_each_form_is_read_and_written_back(text: str, source: object) -> None:
    assert parse_source(text) == source
    assert str(source) == text


@pytest.mark.parametrize(
    ("text", "loose"),
    [("s3://models/team/a/", "s3://models/team/a"), ("s3://models?version=latest", "s3://models")],
)
def test_what_means_the_same_is_the_same(text: str, loose: str) -> None:
    assert parse_source(text) == parse_source(loose)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "relative/folder",
        "gs://bucket/prefix",
        "http://bucket",
        "s3:bucket",
        "s3://",
        "s3://x",
        "s3://UPPER/prefix",
        "s3://user:pass@models/prefix",
        "s3://models/../other",
        "s3://models/a//b",
        "s3://models/a b",
        "s3://models/a#b",
        "s3://models?version=",
        "s3://models?version=@latest",
        "s3://models?version=a/b",
        "s3://models?version=a&version=b",
        "s3://models?versoin=a",
        "models:",
        "models:/",
        "models:/a@",
        "models:/a/b/c",
        "models:/a@b/c",
        "models:/@alias",
        "models:///a@b",
    ],
)
def test_anything_else_is_a_sentence(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        parse_source(text)
    with pytest.raises(SettingsError, match="UQUEUE_ARTIFACT_SOURCE: expected"):
        Settings.load({"UQUEUE_ARTIFACT_SOURCE": text, "UQUEUE_MLFLOW_TRACKING_URL": MLFLOW})


@pytest.mark.parametrize("text", ["latest", "aliases", "", "a/b", "..", "-a", "x" * 65, "ä"])
def test_names_that_versions_and_aliases_cannot_have(text: str) -> None:
    assert not is_label(text)


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"UQUEUE_ARTIFACT_SOURCE": "models:/a", "UQUEUE_MLFLOW_TRACKING_URL": MLFLOW}, "expected models:/name@alias"),
        ({"UQUEUE_ARTIFACT_SOURCE": "models:/a@b"}, "set mlflow_tracking_url"),
        ({"UQUEUE_MLFLOW_TRACKING_URL": "http://user:secret@mlflow"}, "without user name and password"),
        ({"UQUEUE_MLFLOW_TRACKING_URL": "databricks"}, "http:// or https://"),
        ({"UQUEUE_S3_ENDPOINT_URL": "minio:9000"}, "http:// or https://"),
        ({"UQUEUE_S3_ACCESS_KEY_ID": "key"}, "s3_secret_access_key: set both or neither"),
    ],
)
def test_settings_that_do_not_fit(variables: dict[str, str], named: str) -> None:
    with pytest.raises(SettingsError, match=named) as caught:
        Settings.load(variables)
    assert "secret@" not in str(caught.value)


def test_secrets_are_masked_and_travel_to_children() -> None:
    given = {"UQUEUE_S3_ACCESS_KEY_ID": "key", "UQUEUE_S3_SECRET_ACCESS_KEY": "hidden"}
    settings = Settings.load(given)
    assert "hidden" not in repr(settings)
    assert settings.environment() == given
