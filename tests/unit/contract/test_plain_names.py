"""The plain environment names of the localization service, where UQUEUE_* say nothing."""

from __future__ import annotations

import pytest

from uqueue_config.plain_names import with_plain_names
from uqueue_config.settings import Settings

MODEL = {"MLFLOW_MODEL_NAME": "localization_model"}


def test_nothing_is_made_of_nothing() -> None:
    for environ in ({}, {"REDIS_PORT": "tcp://10.0.0.1:6379"}, {"MLFLOW_MODEL_ALIAS": "production"}):
        assert with_plain_names(environ) == environ


@pytest.mark.parametrize(
    ("plain", "url"),
    [
        ({"REDIS_HOST": "redis"}, "redis://redis:6379/0"),
        ({"REDIS_HOST": "r", "REDIS_PORT": "7000", "REDIS_DB": "2"}, "redis://r:7000/2"),
        ({"REDIS_HOST": "r", "REDIS_PASSWORD": "p@ss/word"}, "redis://:p%40ss%2Fword@r:6379/0"),
        ({"REDIS_HOST": "r", "REDIS_PORT": "tcp://10.0.0.1:7000"}, "redis://r:6379/0"),
    ],
)
def test_redis(plain: dict[str, str], url: str) -> None:
    assert Settings.load(plain).broker == url
    assert Settings.load({**plain, "UQUEUE_BROKER_URL": "redis://own:1/0"}).broker == "redis://own:1/0"


@pytest.mark.parametrize(
    ("more", "source"),
    [
        ({}, "models:/localization_model@production"),
        ({"MLFLOW_MODEL_ALIAS": "best", "MLFLOW_MODEL_VERSION": "3"}, "models:/localization_model@best"),
        ({"MLFLOW_MODEL_STAGE": "Staging"}, "models:/localization_model/Staging"),
        ({"MLFLOW_MODEL_VERSION": "3"}, "models:/localization_model/3"),
    ],
)
def test_the_registry(more: dict[str, str], source: str) -> None:
    found = with_plain_names({**MODEL, **more})
    assert (found["UQUEUE_ARTIFACT_SOURCE"], found["UQUEUE_ENGINE"]) == (source, "onnx")
    assert found["UQUEUE_MLFLOW_TRACKING_URL"] == "http://mlflow:5000"


def test_own_settings_win() -> None:
    own = {**MODEL, "UQUEUE_WORKSPACE_ROOT": "/somewhere"}
    assert with_plain_names(own) == own
    found = with_plain_names({**MODEL, "MLFLOW_TRACKING_URI": "http://a:1", "UQUEUE_MLFLOW_TRACKING_URL": "http://b:2"})
    assert found["UQUEUE_MLFLOW_TRACKING_URL"] == "http://b:2"
