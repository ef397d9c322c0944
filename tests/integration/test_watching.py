"""Several watchers of one source: one acts in an interval, a late one changes nothing, failures slow them down."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from builders.artifacts import mqnn_h5_bytes, write_workspace
from builders.waiting import eventually
from uqueue_config.connections import connect
from uqueue_config.errors import SourceUnreachable
from uqueue_config.names import candidate_key, wanted_key, watching_key
from uqueue_worker.artifacts import ArtifactCache, ArtifactPair, LocalFilesystemProvider
from uqueue_worker.models.store import LoadOptions, ModelStore
from uqueue_worker.pointer import Pointer
from uqueue_worker.serving import poll


class SlowProvider(LocalFilesystemProvider):
    """Answers with what it read when it was asked, as late as it is told."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.has_read, self.may_answer = threading.Event(), threading.Event()
        self.may_answer.set()
        self.looks = 0
        self.is_away = False

    def version(self) -> str:
        self.looks += 1
        if self.is_away:
            raise SourceUnreachable(source="s3://models", reason="no answer", check="the network")
        return super().load().version

    def load(self) -> ArtifactPair:
        pair = super().load()
        self.has_read.set()
        assert self.may_answer.wait(20)
        return pair


@pytest.fixture
def connection(redis_url: str) -> Iterator[redis.Redis]:
    with connect(redis_url) as connection:
        connection.flushdb()
        yield connection


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_workspace(tmp_path / "workspace", model=mqnn_h5_bytes(seed=1, hidden=(4,)))
    return tmp_path / "workspace"


def store_of(root: Path) -> tuple[ModelStore, SlowProvider]:
    provider = SlowProvider(root)
    return ModelStore("mccp-uq", provider, ArtifactCache(root / "cache"), LoadOptions(engine="numpy")), provider


def wanted(connection: redis.Redis) -> str:
    return connection.hget(wanted_key("mccp-uq"), "version").decode()  # type: ignore[union-attr]


def test_of_many_watchers_one_acts_in_an_interval(connection: redis.Redis, root: Path) -> None:
    stores = [store_of(root) for _ in range(4)]
    threads, outcomes = [], []
    for store, _ in stores:

        def look(store: ModelStore = store) -> None:
            outcomes.append(poll(connection, store, 30, scheduled=True).outcome)

        threads += [threading.Thread(target=look) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Counter(outcomes) == {"moved": 1, "elsewhere": 11}
    assert sum(provider.looks for _, provider in stores) == 1
    assert poll(connection, stores[0][0], 30, scheduled=False).outcome in ("unchanged", "moved"), "a person may always"


def test_the_turn_comes_back_within_the_interval(connection: redis.Redis, root: Path) -> None:
    store, _ = store_of(root)
    assert poll(connection, store, 20, scheduled=True).outcome == "moved"
    assert poll(connection, store, 20, scheduled=True).outcome == "elsewhere"
    assert 0 < connection.pttl(watching_key("mccp-uq")) <= 18_000
    connection.pexpire(watching_key("mccp-uq"), 1)
    time.sleep(0.01)
    assert poll(connection, store, 20, scheduled=True).outcome == "unchanged"


def test_a_look_that_ends_late_does_not_move_the_pointer_back(connection: redis.Redis, root: Path) -> None:
    (late, provider), (quick, _) = store_of(root), store_of(root)
    provider.may_answer.clear()
    reports = []
    thread = threading.Thread(target=lambda: reports.append(poll(connection, late, 0.1, scheduled=True)))
    thread.start()
    assert provider.has_read.wait(20)
    write_workspace(root, model=mqnn_h5_bytes(seed=2, hidden=(4,)))
    eventually(lambda: poll(connection, quick, 0.1, scheduled=True).outcome == "moved", "the next interval")
    newer = wanted(connection)
    provider.may_answer.set()
    thread.join()
    assert reports[0].outcome == "overtaken"
    assert wanted(connection) == newer == quick.version != late.version


def test_what_a_process_starts_with_does_not_move_the_pointer(connection: redis.Redis, root: Path) -> None:
    first, _ = store_of(root)
    first.start(None)
    Pointer(connection, first).move_if_unset()
    version = wanted(connection)
    write_workspace(root, model=mqnn_h5_bytes(seed=2, hidden=(4,)))
    second, _ = store_of(root)
    second.start(None)
    Pointer(connection, second).move_if_unset()
    assert second.version != version == wanted(connection)


def test_a_source_that_fails_is_left_alone_for_longer_each_time(connection: redis.Redis, root: Path) -> None:
    store, provider = store_of(root)
    poll(connection, store, 1, scheduled=True)
    provider.is_away = True
    rests = []
    for _ in range(6):
        connection.delete(watching_key("mccp-uq"))
        report = poll(connection, store, 1, scheduled=True)
        assert (report.outcome, "no answer" in (report.reason or "")) == ("rejected", True)
        rests.append(connection.pttl(watching_key("mccp-uq")))
    assert [round(rest / 1000) for rest in rests] == [2, 4, 8, 8, 8, 8]
    assert store.model is not None, "what serves keeps serving"
    provider.is_away = False
    connection.delete(watching_key("mccp-uq"))
    assert poll(connection, store, 1, scheduled=True).outcome == "unchanged"
    assert connection.pttl(watching_key("mccp-uq")) <= 1000
    assert not connection.exists(candidate_key("mccp-uq"))
