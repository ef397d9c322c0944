"""An MLflow registry as a source: aliases, stages and numbers become a version, which is read and checked."""

from __future__ import annotations

import json
import tempfile
import uuid
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from builders.fault_proxy import Fault, FaultProxy, fault_proxy
from builders.mlflow_server import registry_client
from builders.s3_server import free_port
from builders.waiting import eventually
from uqueue_config.errors import (
    ArtifactMismatch,
    IncompleteArtifact,
    InvalidManifest,
    ModelError,
    ModelInvalid,
    NothingPublished,
    SourceDenied,
    SourceError,
    SourceUnreachable,
)
from uqueue_worker.artifacts import ArtifactCache, ArtifactPair, MLflowProvider, patience
from uqueue_worker.artifacts.manifest import Manifest
from uqueue_worker.artifacts.registry import CONTENT_TAG, MANIFEST_TAG
from uqueue_worker.publish.to_mlflow import register

Make = Callable[..., ArtifactPair]


@pytest.fixture(scope="module")
def front(mlflow_url: str) -> Iterator[FaultProxy]:
    with fault_proxy(mlflow_url) as running:
        yield running


@pytest.fixture
def proxy(front: FaultProxy) -> FaultProxy:
    """A proxy in front of the MLflow server, with nothing broken and nothing noted."""
    front.mend()
    front.requests.clear()
    return front


@pytest.fixture
def client(mlflow_url: str) -> Any:
    return registry_client(mlflow_url)


@pytest.fixture
def model(request: pytest.FixtureRequest) -> str:
    """A registered model's name of this test's own."""
    return f"{request.node.originalname}-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def provider(proxy: FaultProxy, model: str, cache: ArtifactCache) -> MLflowProvider:
    return MLflowProvider(f"models:/{model}@production", tracking_url=proxy.url, cache=cache)


def refused(provider: MLflowProvider, kind: type[ModelError]) -> str:
    with pytest.raises(kind) as caught:
        provider.load()
    assert type(caught.value) is kind
    return caught.value.message


def log_by_hand(client: Any, model: str, files: dict[str, bytes], tags: dict[str, str] | None = None) -> str:
    """Register files as somebody does who has only MLflow; return the version's number."""
    experiment = client.get_experiment_by_name("by hand")
    run_id = client.create_run(
        experiment.experiment_id if experiment else client.create_experiment("by hand")
    ).info.run_id
    with tempfile.TemporaryDirectory() as folder:
        for name, data in files.items():
            (Path(folder) / name).write_bytes(data)
            client.log_artifact(run_id, str(Path(folder) / name), "model")
    if not client.search_registered_models(f"name = '{model}'"):
        client.create_registered_model(model)
    return str(client.create_model_version(model, f"runs:/{run_id}/model", run_id, tags=tags).version)


def test_what_an_alias_names_is_loaded_and_a_poll_is_one_request(
    provider: MLflowProvider, proxy: FaultProxy, mlflow_url: str, model: str, make_pair: Make
) -> None:
    old, new = make_pair(1), make_pair(2)
    assert register(old, model, mlflow_url, ["production"])[0] == "1"
    assert provider.load() == old
    proxy.requests.clear()
    assert provider.version() == old.version
    assert len(proxy.requests) == 1
    assert register(new, model, mlflow_url, ["production"])[0] == "2"
    assert provider.version() == new.version
    assert provider.load() == new
    proxy.requests.clear()
    assert register(old, model, mlflow_url, ["production"])[0] == "1", "the same content is the same version"
    assert provider.version() == old.version
    assert proxy.seen("GET", "artifacts") == 0, "it is in the cache"


def test_numbers_stages_and_contents(
    client: Any, mlflow_url: str, model: str, cache: ArtifactCache, make_pair: Make
) -> None:
    pairs = [make_pair(number) for number in range(3)]
    for pair in pairs:
        register(pair, model, mlflow_url, [])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # stages are deprecated, and still there
        client.transition_model_version_stage(model, "2", "Production")
    for wanted, pair in {"1": pairs[0], "3": pairs[2], "Production": pairs[1], "production": pairs[1]}.items():
        provider = MLflowProvider(f"models:/{model}/{wanted}", tracking_url=mlflow_url, cache=cache)
        assert provider.load() == pair
    assert provider.fetch(pairs[2].version) == pairs[2]
    with pytest.raises(NothingPublished, match="has the content 0123456789abcdef"):
        provider.fetch("0123456789abcdef")


def test_a_version_that_was_registered_by_hand(
    client: Any, mlflow_url: str, model: str, cache: ArtifactCache, make_pair: Make
) -> None:
    pair = make_pair()
    number = log_by_hand(client, model, {"model.h5": pair.model, "mccp_state.pkl": pair.state})
    loaded = MLflowProvider(f"models:/{model}/{number}", tracking_url=mlflow_url, cache=cache).load()
    assert (loaded.model, loaded.state, loaded.version) == (pair.model, pair.state, pair.version)
    created = client.get_model_version(model, number).creation_timestamp
    assert loaded.model_file.mtime_ns == loaded.state_file.mtime_ns == created * 1_000_000
    assert not loaded.stale


def test_no_model_alias_stage_or_version(mlflow_url: str, model: str, cache: ArtifactCache, make_pair: Make) -> None:
    def said(source: str) -> str:
        return refused(MLflowProvider(source, tracking_url=mlflow_url, cache=cache), NothingPublished)

    assert f"models:/{model}@production (" in said(f"models:/{model}@production")
    register(make_pair(), model, mlflow_url, [])
    assert "alias nobody not found" in said(f"models:/{model}@nobody")
    assert "version=99) not found" in said(f"models:/{model}/99")
    assert "is in the stage Staging" in said(f"models:/{model}/Staging")


def test_a_missing_file(client: Any, mlflow_url: str, model: str, cache: ArtifactCache) -> None:
    number = log_by_hand(client, model, {"model.h5": b"model"})
    said = refused(
        MLflowProvider(f"models:/{model}/{number}", tracking_url=mlflow_url, cache=cache), IncompleteArtifact
    )
    assert f"models:/{model}/{number}/mccp_state.pkl: it is not there" in said


def test_a_file_beyond_its_limit(client: Any, mlflow_url: str, model: str, cache: ArtifactCache) -> None:
    number = log_by_hand(client, model, {"model.h5": b"model", "mccp_state.pkl": b" " * 70_000})
    said = refused(MLflowProvider(f"models:/{model}/{number}", tracking_url=mlflow_url, cache=cache), ModelInvalid)
    assert "it has 70000 bytes; at most 65536 are read" in said


def test_hashes_that_do_not_fit(
    client: Any, mlflow_url: str, model: str, cache: ArtifactCache, make_pair: Make
) -> None:
    files = {"model.h5": make_pair(1).model, "mccp_state.pkl": make_pair(1).state}
    manifest = Manifest.of(make_pair(2))
    number = log_by_hand(client, model, files, {MANIFEST_TAG: manifest.to_json()})
    provider = MLflowProvider(f"models:/{model}/{number}", tracking_url=mlflow_url, cache=cache)
    assert "model.h5: its sha256 is" in refused(provider, ArtifactMismatch)
    client.set_model_version_tag(model, number, MANIFEST_TAG, json.dumps({"schema": 1}))
    assert "tag uqueue.manifest: it is not a manifest" in refused(provider, InvalidManifest)
    client.set_model_version_tag(model, number, MANIFEST_TAG, manifest.to_json())
    client.set_model_version_tag(model, number, CONTENT_TAG, "0" * 16)
    assert "tag uqueue.content" in refused(provider, InvalidManifest)


def test_bytes_that_are_lost_or_changed_on_their_way(
    provider: MLflowProvider,
    proxy: FaultProxy,
    mlflow_url: str,
    model: str,
    make_pair: Make,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(patience, "FIRST_PAUSE_SECONDS", 0.0)
    register(make_pair(), model, mlflow_url, ["production"])
    proxy.break_path("/mccp-uq/model.h5", Fault(keep_bytes=10))
    assert "model.h5: it could not be downloaded" in refused(provider, IncompleteArtifact)
    proxy.break_path("/mccp-uq/model.h5", Fault(status=200, body=make_pair(2).model))
    assert "its sha256 is" in refused(provider, ArtifactMismatch)


@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        (Fault(status=401, body=b"You are not authenticated."), SourceDenied, "Check MLFLOW_TRACKING_USERNAME"),
        (Fault(status=403, body=b"Permission denied"), SourceDenied, "Check MLFLOW_TRACKING_USERNAME"),
        (Fault(status=404, body=b"<html>no such page</html>"), SourceError, "may be that of another service"),
        (Fault(status=200, body=b"<html>hello</html>"), SourceError, "may be that of another service"),
    ],
)
def test_answers_that_are_of_no_use(
    provider: MLflowProvider, proxy: FaultProxy, fault: Fault, kind: type[ModelError], words: str
) -> None:
    proxy.break_all(fault)
    assert words in refused(provider, kind)


def test_nobody_there(cache: ArtifactCache) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    provider = MLflowProvider("models:/m@production", tracking_url=url, cache=cache)
    said = refused(provider, SourceUnreachable)
    assert said.startswith(f"MLflow at {url} does not answer: ")
    assert "Connection refused" in said
    assert "Check UQUEUE_MLFLOW_TRACKING_URL" in said


def test_an_outage_takes_nothing_away_and_ends(
    provider: MLflowProvider,
    proxy: FaultProxy,
    mlflow_url: str,
    model: str,
    cache: ArtifactCache,
    make_pair: Make,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(patience, "FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    pair = make_pair()
    register(pair, model, mlflow_url, ["production"])
    cache.put(provider.load())
    proxy.break_all(Fault(status=503, body=b"{}"))
    refused(provider, SourceUnreachable)
    late = MLflowProvider(f"models:/{model}@production", tracking_url=proxy.url, cache=cache)
    assert late.load() == pair, "what was served last, from the cache"
    proxy.mend()
    eventually(lambda: answers(provider), "it is asked again")


def answers(provider: MLflowProvider) -> bool:
    try:
        return bool(provider.version())
    except SourceError:
        return False


def test_another_source_is_refused(cache: ArtifactCache) -> None:
    for source in ("s3://bucket", "models:/name"):
        with pytest.raises(ValueError, match="expected"):
            MLflowProvider(source, tracking_url="http://mlflow", cache=cache)
