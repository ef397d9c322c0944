"""Localization models in an MLflow registry: what is found, what is declared, and what is refused."""

from __future__ import annotations

import json
import re
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from builders.fault_proxy import Fault, fault_proxy
from builders.mlflow_server import registry_client
from builders.onnx_models import DEGREES, SHAPE, declared, features, register_localizer, tiny_localizer
from uqueue_config.errors import (
    ArtifactMismatch,
    IncompleteArtifact,
    InvalidDeclaration,
    ModelInvalid,
    NothingPublished,
    UnsafeArtifact,
)
from uqueue_config.ledger import Wish
from uqueue_worker.artifacts import ArtifactCache, ArtifactPair, patience
from uqueue_worker.artifacts.declaration_file import DeclarationFile
from uqueue_worker.artifacts.localizer_registry import LocalizerRegistry
from uqueue_worker.localization import Localizer, OnnxModelLoader, load_localizer
from uqueue_worker.localization import localizer as localizer_module
from uqueue_worker.models.store import LoadOptions, ModelStore


@pytest.fixture(autouse=True)
def no_child(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each load costs a process of half a second; what that one finds is the subject of test_hostile_onnx."""
    monkeypatch.setattr(localizer_module, "probe_onnx", lambda data, row, *, file: None)
    monkeypatch.setattr(patience, "FIRST_PAUSE_SECONDS", 0.0)


@pytest.fixture
def name() -> str:
    return f"locator-{uuid.uuid4().hex[:8]}"


def provider_of(url: str, source: str, cache: ArtifactCache) -> LocalizerRegistry:
    return LocalizerRegistry(source, "localization_model", tracking_url=url, cache=cache)


def about(pair: ArtifactPair) -> DeclarationFile:
    return DeclarationFile.parse(pair.state)


def test_alias_stage_and_number(mlflow_url: str, name: str, tmp_path: Path) -> None:
    """The stage of the alias' name counts where the alias is not set, and of several versions the highest."""

    def number(wanted: str, place: str) -> str | None:
        return about(provider_of(mlflow_url, f"models:/{name}{wanted}", ArtifactCache(tmp_path / place)).load()).number

    for seed, stage in enumerate(("Production", "Production", "Staging", None)):
        register_localizer(mlflow_url, tiny_localizer(seed=seed), name=name, stage=stage)
    assert [number(wanted, "a") for wanted in ("@production", "/Production", "/Staging", "/4", "@staging")] == [
        "2",
        "2",
        "3",
        "4",
        "3",
    ]
    registry_client(mlflow_url).set_registered_model_alias(name, "production", "1")
    provider = provider_of(mlflow_url, f"models:/{name}@production", ArtifactCache(tmp_path / "b"))
    assert about(provider.load()).number == "1"
    assert provider.placement("1") == ("Production", "production")


def test_what_is_not_registered_is_named(mlflow_url: str, name: str, cache: ArtifactCache) -> None:
    def said(source: str) -> str:
        with pytest.raises(NothingPublished) as caught:
            provider_of(mlflow_url, source, cache).load()
        return caught.value.message

    assert f"models:/{name}@production (" in said(f"models:/{name}@production")
    register_localizer(mlflow_url, name=name)
    nothing = said(f"models:/{name}@production")
    assert "alias production not found" in nothing
    assert f"no version of {name} is in the stage Production" in nothing
    assert "version=99) not found" in said(f"models:/{name}/99")
    assert "alias blue not found" in said(f"models:/{name}@blue")


def test_tags_win_over_the_manifest_and_the_run_tells_the_rest(
    mlflow_url: str, name: str, cache: ArtifactCache
) -> None:
    model = tiny_localizer()
    register_localizer(
        mlflow_url,
        model,
        name=name,
        tags={"sample_rate_hz": 12_500, "origin": [52, 5], "position_encoding": "offset_m", "accuracy_meters": 21.5},
        manifest={"sample_rate_hz": 1, "semver": "1.2.3", "receivers": 3, "layers": 12},
        metrics={"accuracy_meters": 99.0, "training_samples": 12_000.0},
        params={"training_samples": "many"},
        files={"MLmodel": b"flavors: {onnx: {}}", "conda.yaml": b""},
    )
    pair = provider_of(mlflow_url, f"models:/{name}/1", cache).load()
    told = about(pair)
    assert (told.number, told.accuracy_meters, told.training_samples) == ("1", 21.5, 12_000)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", told.created_at or "")
    declaration = told.declared()
    assert (declaration.sample_rate_hz, declaration.semver, declaration.origin) == (12_500.0, "1.2.3", (52.0, 5.0))
    assert declaration.defaulted == ("output_encoding", "feature_recipe")
    assert isinstance(load_localizer(pair), Localizer)


def test_a_version_that_is_one_file(mlflow_url: str, name: str, cache: ArtifactCache) -> None:
    register_localizer(mlflow_url, name=name, tags={}, manifest=DEGREES, as_file=True)
    pair = provider_of(mlflow_url, f"models:/{name}/1", cache).load()
    assert pair.model == tiny_localizer()
    assert about(pair).declared().defaulted == (), "manifest.json beside it counts"


def test_a_look_is_one_request_and_what_is_known_is_not_downloaded_again(
    mlflow_url: str, name: str, tmp_path: Path
) -> None:
    cache = ArtifactCache(tmp_path / "cache")
    register_localizer(mlflow_url, name=name, alias="production", tags=DEGREES)
    register_localizer(mlflow_url, name=name, alias="hashed")
    with fault_proxy(mlflow_url) as proxy:
        for alias in ("production", "hashed"):
            provider = provider_of(proxy.url, f"models:/{name}@{alias}", cache)
            first = provider.load()
            proxy.requests.clear()
            assert provider.version() == first.version
            assert len(proxy.requests) == 1
            assert provider.load() == first, "from the cache; the provider keeps no bytes"
            late = provider_of(proxy.url, f"models:/{name}@{alias}", cache)
            proxy.break_path("model.onnx", Fault(status=500, body=b"{}"))
            assert late.load() == first, "another process of this machine"
            assert late.fetch(first.version) == first
            proxy.mend()


def test_changed_tags_are_another_version_and_a_changed_stage_is_not(
    mlflow_url: str, name: str, cache: ArtifactCache
) -> None:
    client = registry_client(mlflow_url)
    register_localizer(mlflow_url, name=name, alias="production")
    provider = provider_of(mlflow_url, f"models:/{name}@production", cache)
    first = provider.load()
    client.set_model_version_tag(name, "1", "reviewed_by", "somebody")
    assert provider.version() == first.version
    client.set_model_version_tag(name, "1", "sample_rate_hz", "12500")
    assert about(provider.load()).declared().sample_rate_hz == 12_500.0
    assert provider.version() != first.version


def test_another_machine_finds_a_version_by_its_content(mlflow_url: str, name: str, tmp_path: Path) -> None:
    for seed in range(3):
        register_localizer(mlflow_url, tiny_localizer(seed=seed), name=name, alias="production")
    second = provider_of(mlflow_url, f"models:/{name}/2", ArtifactCache(tmp_path / "here")).load()
    other = provider_of(mlflow_url, f"models:/{name}@production", ArtifactCache(tmp_path / "there"))
    assert other.fetch(second.version) == second
    with pytest.raises(NothingPublished, match="with content 0123456789abcdef"):
        other.fetch("0123456789abcdef")


def bad_shape() -> bytes:
    return tiny_localizer(shape=("batch", 3, 64, 32))


BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"tags": {"output_encoding": "furlongs"}}, InvalidDeclaration, "output_encoding: input should be"),
    ({"tags": {"position_encoding": "offset_m"}}, InvalidDeclaration, "offset_m needs origin"),
    ({"manifest": b"[1]"}, InvalidDeclaration, "manifest.json: the declaration of the model cannot be used: it is no"),
    ({"manifest": b" " * 70_000}, ModelInvalid, "at most 65536 are read"),
    ({"tags": {"sha256": "0" * 64}}, ArtifactMismatch, "its sha256 is"),
    ({"model": b"not onnx"}, ModelInvalid, "ONNX Runtime cannot load it"),
    ({"model": bad_shape()}, ModelInvalid, "expected float32 [batch, 3, 128, 32]"),
]


def test_what_is_bad_is_refused_while_the_old_one_serves(mlflow_url: str, name: str, cache: ArtifactCache) -> None:
    register_localizer(mlflow_url, name=name, alias="production")
    provider = provider_of(mlflow_url, f"models:/{name}@production", cache)
    store = ModelStore("localization_model", provider, cache, LoadOptions(engine="onnx"))
    store.start(None)
    good = store.version
    for version, kind, words in BAD:
        register_localizer(mlflow_url, name=name, alias="production", **version)
        candidate = store.examine()
        assert candidate.outcome == "rejected"
        assert words in (candidate.reason or "")
        assert type(store._problem) is kind
        assert store.version == good
        assert isinstance(store.serve(Wish(good or "")), Localizer)


def test_the_next_attempt_really_loads_again(mlflow_url: str, name: str, cache: ArtifactCache) -> None:
    number = register_localizer(mlflow_url, name=name, alias="production", tags={"origin": "here"})
    provider = provider_of(mlflow_url, f"models:/{name}@production", cache)
    store = ModelStore("localization_model", provider, cache, LoadOptions(engine="onnx"))
    store.start(None)
    assert "origin: expected two numbers" in (store.reason or "")
    registry_client(mlflow_url).set_model_version_tag(name, number, "origin", "1,2")
    assert store.examine().outcome == "moved"


def test_a_model_that_is_missing_and_one_that_does_not_come(mlflow_url: str, name: str, cache: ArtifactCache) -> None:
    register_localizer(mlflow_url, name=name)
    with fault_proxy(mlflow_url) as proxy:
        proxy.break_path("model/model.onnx", Fault(keep_bytes=10))
        with pytest.raises(IncompleteArtifact, match=r"models:/.*/1/model\.onnx"):
            provider_of(proxy.url, f"models:/{name}/1", cache).load()
    client = registry_client(mlflow_url)
    run = client.get_model_version(name, "1").run_id
    client.create_model_version(name, f"runs:/{run}/nothing", run)
    with pytest.raises(IncompleteArtifact, match=r"/2/model\.onnx: it is not there"):
        provider_of(mlflow_url, f"models:/{name}/2", cache).load()


# --- OnnxModelLoader ---


def test_the_loader_predicts_and_tells(mlflow_url: str, name: str) -> None:
    register_localizer(mlflow_url, tiny_localizer(confidence=0.25, theta=-10.0), name=name, stage="Production")
    loader = OnnxModelLoader(mlflow_url, name)
    assert loader.is_ready()
    batch = features(3).reshape(3, *SHAPE)
    rows = loader.predict(batch.astype(np.float64))
    assert len(rows) == 3
    assert loader.predict(batch[0])[0]["position"]["latitude"] == pytest.approx(rows[0]["position"]["latitude"])
    assert rows[0]["uncertainty"].keys() == {"sigma_x", "sigma_y", "theta"}
    assert (rows[1]["confidence"], rows[1]["uncertainty"]["theta"]) == (0.25, -10.0)
    told = loader.get_metadata()
    told["output_names"].clear()
    told = loader.get_metadata()
    assert (told["model_name"], told["version"], told["stage"], told["reload_count"]) == (name, "1", "Production", 0)
    assert (told["input_name"], told["input_shape"]) == ("mel_spectrogram", ["batch", *SHAPE])
    assert told["output_names"] == ["positions", "uncertainties", "confidence"]
    assert told["output_shapes"] == [["batch", 2], ["batch", 3], ["batch", 1]]
    assert json.dumps(told)
    for bad in (batch[:, :2], batch[0, 0], np.zeros((0, *SHAPE)), np.full((1, *SHAPE), np.nan), "text"):
        with pytest.raises(ValueError, match="expected"):
            loader.predict(bad)


def test_the_loader_reloads_what_is_named_now_or_keeps_the_old(mlflow_url: str, name: str) -> None:
    register_localizer(mlflow_url, name=name, alias="production")
    loader = OnnxModelLoader(mlflow_url, name)
    register_localizer(mlflow_url, tiny_localizer(seed=1), name=name, alias="production")
    loader.reload()
    assert (loader.get_metadata()["version"], loader.get_metadata()["reload_count"]) == ("2", 1)
    register_localizer(mlflow_url, name=name, alias="production", tags=declared(b"else"))
    with pytest.raises(ArtifactMismatch):
        loader.reload()
    assert (loader.get_metadata()["version"], loader.get_metadata()["reload_count"]) == ("2", 1)
    loader.unload()
    assert not loader.is_ready()
    with pytest.raises(RuntimeError, match="not loaded"):
        loader.predict(features(1).reshape(1, *SHAPE))


def test_the_loader_says_what_there_is_not(mlflow_url: str, name: str) -> None:
    with pytest.raises(ValueError, match=f"models:/{name}@production"):
        OnnxModelLoader(mlflow_url, name)
    register_localizer(mlflow_url, name=name)
    with pytest.raises(ValueError, match="stage Production"):
        OnnxModelLoader(mlflow_url, name)
    with pytest.raises(ValueError, match="alias blue"):
        OnnxModelLoader(mlflow_url, name, alias="blue")
    assert OnnxModelLoader(mlflow_url, name, version=1).get_metadata()["version"] == "1"


def test_weights_in_another_file_are_refused(
    mlflow_url: str, name: str, cache: ArtifactCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As mlflow.onnx writes them unless told otherwise; this one goes through the process that reads first."""
    import onnx

    monkeypatch.undo()
    model = onnx.load_from_string(tiny_localizer())
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights")
    data = model.SerializeToString()
    register_localizer(mlflow_url, data, name=name, files={"weights": bytes(49_152)})
    with pytest.raises(UnsafeArtifact, match="save_as_external_data=False"):
        load_localizer(provider_of(mlflow_url, f"models:/{name}/1", cache).load())
