"""What a worker process says in Redis about its localization models, as the users of worker and gateway."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from builders.guarded_redis import GuardedRedis, guarded_redis
from builders.onnx_models import features, tiny_localizer, write_localizer
from builders.waiting import eventually
from uqueue_config.catalog import Catalog
from uqueue_config.connections import connect
from uqueue_config.localization import ModelCard, cards_key
from uqueue_config.messages import PredictRequest
from uqueue_config.names import candidate_key, wanted_key
from uqueue_config.settings import Settings
from uqueue_worker.artifacts import ArtifactCache
from uqueue_worker.artifacts.localizer_folder import LocalizerFolder
from uqueue_worker.localization import localizer as localizer_module
from uqueue_worker.models.catalog import ModelCatalog
from uqueue_worker.models.store import LoadOptions, ModelStore
from uqueue_worker.serving import Heartbeat, poll

NAME = "localization_model"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuardedRedis]:
    with guarded_redis(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture
def worker(guarded: GuardedRedis) -> Iterator[redis.Redis]:
    guarded.admin.delete(cards_key(NAME), wanted_key(NAME), candidate_key(NAME))
    with connect(guarded.url("worker")) as connection:
        yield connection
    assert guarded.denials() == []


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelCatalog:
    monkeypatch.setattr(localizer_module, "probe_onnx", lambda data, row, *, file: None)
    text = f'[models.{NAME}]\nengine = "onnx"\nsource = "{tmp_path}"\n'
    (tmp_path / "models.toml").write_text(text)
    catalog = Catalog.load(Settings.load({"UQUEUE_MODELS": str(tmp_path / "models.toml")}))

    def open_store(spec: Any, track: str, source: Any) -> ModelStore:
        cache = ArtifactCache(tmp_path / "cache")
        return ModelStore(NAME, LocalizerFolder(source, NAME), cache, LoadOptions(engine="onnx"), track=track)

    return ModelCatalog(catalog, open_store)


def heartbeat(connection: redis.Redis, models: ModelCatalog) -> Heartbeat:
    return Heartbeat(connection, models, retry_seconds=1.0, busy_since=lambda: None, pool_pid=None, chores=lambda: None)


def cards(guarded: GuardedRedis) -> dict[str, ModelCard]:
    with connect(guarded.url("gateway")) as gateway:
        found: Any = gateway.hgetall(cards_key(NAME))
    return {version.decode(): ModelCard.model_validate_json(card) for version, card in found.items()}


def test_cards_follow_what_is_loaded(
    guarded: GuardedRedis, worker: redis.Redis, models: ModelCatalog, tmp_path: Path
) -> None:
    write_localizer(tmp_path, number="1", semver="1.0.0")
    beating = heartbeat(worker, models)
    beating.start()
    try:
        first = cards(guarded)["1"]
        store = models.stores[NAME]
        assert (first.content, first.declaration.semver) == (store.version, "1.0.0")
        assert abs(first.seen_at - time.time()) < 10
        wanted: Any = guarded.admin.hgetall(wanted_key(NAME))
        assert (wanted[b"n_features"], b"n_targets" in wanted) == (b"12288", False)

        old, gone = first.model_copy(update={"seen_at": time.time() - 4000}), "not even JSON"
        worker.hset(cards_key(NAME), mapping={"0": old.model_dump_json(), "x": gone})
        write_localizer(tmp_path, tiny_localizer(seed=1), number="2")
        assert poll(worker, store, 0.5, scheduled=False).outcome == "moved"
        beating.acknowledge()
        found = cards(guarded)
        assert sorted(found) == ["1", "2"], "what was held a moment ago is still known, the rest is not"
        assert found["2"].content == store.version

        worker.delete(cards_key(NAME))
        models.serve(PredictRequest.of(features(1), NAME, version=first.content), "job", {})
        beating.acknowledge()
        assert sorted(cards(guarded)) == ["1", "2"], "a pinned version has a card, and a lost hash is written again"
    finally:
        beating.stop()


def test_a_refused_version_is_seen_with_its_number(
    guarded: GuardedRedis, worker: redis.Redis, models: ModelCatalog, tmp_path: Path
) -> None:
    write_localizer(tmp_path, number="1")
    store = models.stores[NAME]
    store.start(None)
    write_localizer(tmp_path, number="2", sha256="0" * 64)
    assert poll(worker, store, 0.5, scheduled=False).outcome == "rejected"
    refusal: Any = guarded.admin.hgetall(candidate_key(NAME))
    assert refusal[b"number"] == b"2"
    assert b"its sha256 is" in refusal[b"reason"]
    write_localizer(tmp_path, number="3")
    assert poll(worker, store, 0.5, scheduled=False).outcome == "moved"
    assert not guarded.admin.exists(candidate_key(NAME))


def test_a_move_of_the_pointer_is_followed_beside_the_jobs(
    guarded: GuardedRedis, worker: redis.Redis, models: ModelCatalog, tmp_path: Path
) -> None:
    write_localizer(tmp_path, number="1")
    beating = heartbeat(worker, models)
    beating.start()
    try:
        store = models.stores[NAME]
        other = ModelStore(
            NAME, LocalizerFolder(tmp_path, NAME), ArtifactCache(tmp_path / "cache"), LoadOptions(engine="onnx")
        )
        write_localizer(tmp_path, tiny_localizer(seed=5), number="2")
        assert poll(worker, other, 0.5, scheduled=False).outcome == "moved"
        eventually(lambda: store.version == other.version, "the heartbeat took it over")
        eventually(lambda: "2" in cards(guarded), "and said so")
    finally:
        beating.stop()
