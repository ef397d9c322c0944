"""A localization model from an MLflow registry, served by ordinary workers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from builders.mlflow_server import mlflow_server, registry_client
from builders.onnx_models import declared, features, register_localizer, swayed, tiny_localizer
from builders.service import RunningService, running_service
from builders.waiting import eventually
from uqueue import Localization
from uqueue_config.connections import connect
from uqueue_config.errors import InvalidFeatures, ModelOutputInvalid, VersionNotServed
from uqueue_config.localization import ModelCard, cards_key

NAME = "localization_model"


@pytest.fixture(scope="module")
def mlflow_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with mlflow_server(tmp_path_factory.mktemp("mlflow")) as url:
        yield url


def service_of(folder: Path, url: str, registered: str, **env: str) -> Any:
    (folder / "models.toml").write_text(
        f'[models.{NAME}]\nengine = "onnx"\nsource = "models:/{registered}@production"\n'
    )
    settings = {"UQUEUE_MODELS": str(folder / "models.toml"), "UQUEUE_MLFLOW_TRACKING_URL": url, **env}
    return running_service(folder / "service", concurrency=2, env=settings)


def located(service: RunningService, seed: int = 0, rows: int = 1, version: str | None = None) -> Localization:
    found = service.client.submit(features(rows, seed), NAME, version=version).result(timeout=30)
    assert isinstance(found, Localization)
    return found


def serving(service: RunningService) -> set[str | None]:
    return {process.version for process in service.client.model(NAME).processes}


def cards(service: RunningService) -> dict[str, ModelCard]:
    with connect(service.settings.result_store) as connection:
        found: Any = connection.hgetall(cards_key(NAME))
    return {version.decode(): ModelCard.model_validate_json(card) for version, card in found.items()}


def test_jobs_pins_refusals_and_reloads_under_load(tmp_path: Path, mlflow_url: str) -> None:
    registered = "on_the_lane"
    register_localizer(mlflow_url, name=registered, alias="production", metrics={"accuracy_meters": 12.5})
    (tmp_path / "payloads").mkdir()
    with service_of(tmp_path, mlflow_url, registered, UQUEUE_PAYLOAD_DIR=str(tmp_path / "payloads")) as service:
        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(lambda seed: located(service, seed), range(48)))
        assert {answer.model_version for answer in answers} == {"1"}
        for seed, answer in enumerate(answers):
            assert answer.latitude == pytest.approx(52 + 0.001 * swayed(features(1, seed)), abs=5e-6), "its own answer"
        assert len(located(service, rows=70)) == 70, "more than one run, and more than fits into a message"
        with pytest.raises(InvalidFeatures, match="12288 columns, got 8"):
            service.client.submit([[0.0] * 8], NAME).result(timeout=30)
        card = cards(service)["1"]
        assert (card.accuracy_meters, card.alias, card.content) == (12.5, "production", answers[0].model.version)

        register_localizer(mlflow_url, tiny_localizer(position=(95.0, 0.0)), name=registered)
        with pytest.raises(ModelOutputInvalid, match="version 2, answered what cannot be"):
            located(service, version="2")
        assert located(service, version="1").model_version == "1"
        with pytest.raises(VersionNotServed, match="version=9"):
            located(service, version="9")

        register_localizer(mlflow_url, name=registered, alias="production", tags=declared(b"another"))
        refusal = service.client.reload(NAME, timeout=30)
        assert "its sha256 is" in str(refusal.poll.reason)
        assert located(service).model_version == "1"

        register_localizer(mlflow_url, tiny_localizer(position=(10.0, 20.0)), name=registered, alias="production")
        stopping, versions = threading.Event(), []

        def keep_asking() -> None:
            while not stopping.is_set():
                versions.append(located(service).model_version)

        with ThreadPoolExecutor(4) as pool:
            asking = [pool.submit(keep_asking) for _ in range(4)]
            eventually(lambda: len(versions) > 20, "jobs flow")
            service.client.reload(NAME, timeout=30)
            eventually(lambda: versions[-20:] == ["4"] * 20, "all are answered by the new version")
            stopping.set()
            assert [one.result() for one in asking] == [None] * 4, "none failed"
        assert set(versions) == {"1", "4"}
        assert {"1", "2", "4"} <= set(cards(service))


def test_the_same_as_ordinary_tasks(tmp_path: Path, mlflow_url: str) -> None:
    registered = "ordinary_tasks"
    register_localizer(mlflow_url, name=registered, alias="production")
    with service_of(tmp_path, mlflow_url, registered, UQUEUE_LANE="off") as service:
        job = service.client.submit(features(2), NAME)
        found = job.result(timeout=30)
        assert isinstance(found, Localization)
        assert found.latitude == pytest.approx([52.0, 52.0], abs=0.002)
        register_localizer(mlflow_url, tiny_localizer(seed=3), name=registered)
        registry_client(mlflow_url).set_registered_model_alias(registered, "production", "2")
        eventually(lambda: located(service).model_version == "2", "beat found it")
        eventually(lambda: serving(service) == {cards(service)["2"].content}, "every process serves it")
        assert located(service, version="1").model_version == "1"
