"""The disk of Redis is full: nothing that was accepted is lost, producers are told, and all goes on with new space.

The limit on file sizes stands in for the disk; it works for any user, and a write fails in the same place.
"""

from __future__ import annotations

import functools
import resource
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from builders.waiting import eventually
from chaos.audit import reckon, settle
from chaos.listener import Listener
from chaos.producers import Producers
from chaos.requests import Mix
from chaos.town import Town, running_town
from uqueue_config.connections import connect
from uqueue_config.errors import ServiceUnreachable

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]
SEED = 19
MIX = Mix(slow=0.05, large=0.05)
ROOM = 500_000
#: Long enough for every process to meet it.
FULL_SECONDS = 5.0


@pytest.fixture
def town(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Town]:
    # A write beyond the limit fails where the signal that comes with it is ignored, which a child inherits.
    monkeypatch.setattr(subprocess, "Popen", functools.partial(subprocess.Popen, restore_signals=False))
    with running_town(tmp_path, workers=1, beats=1, env={"UQUEUE_QUEUE_LIMIT": "100"}) as town:
        yield town


def fill_disk(town: Town) -> None:
    """Leave room for a few more jobs."""
    largest = max(file.stat().st_size for file in (town.folder / "redis").rglob("*") if file.is_file())
    resource.prlimit(town.service.redis.pid, resource.RLIMIT_FSIZE, (largest + ROOM, resource.RLIM_INFINITY))


def free_disk(town: Town) -> None:
    resource.prlimit(town.service.redis.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def test_redis_that_writes_before_it_answers_ends_and_has_everything_when_it_is_back(
    town: Town, tmp_path: Path
) -> None:
    pids, redis = town.pids(), town.service.redis
    with (
        Listener(redis.url) as listener,
        Producers(town.client, SEED, MIX, tmp_path / "accepted") as producers,
    ):
        eventually(lambda: len(producers.accepted) > 100, "jobs flow")
        fill_disk(town)
        eventually(lambda: redis.process.poll() is not None, "Redis ends", seconds=60)
        assert "Can't recover from AOF write error" in (tmp_path / "redis/redis.log").read_text()
        with pytest.raises(ServiceUnreachable):
            town.client.submit(np.zeros((1, 8)))
        before = len(producers.accepted)
        town.revive_redis()
        eventually(lambda: len(producers.accepted) > before + 100, "jobs flow again", seconds=60)
    check(town, producers, listener, pids)


def test_redis_that_writes_later_refuses_until_it_can(town: Town, tmp_path: Path) -> None:
    pids = town.pids()
    with (
        connect(town.service.redis.url) as connection,
        Listener(town.service.redis.url) as listener,
        Producers(town.client, SEED, MIX, tmp_path / "accepted") as producers,
    ):
        connection.config_set("appendfsync", "everysec")
        eventually(lambda: len(producers.accepted) > 100, "jobs flow")
        fill_disk(town)
        eventually(lambda: producers.unreachable, "producers are told", seconds=60)
        with pytest.raises(ServiceUnreachable, match="MISCONF"):
            town.client.submit(np.zeros((1, 8)))
        time.sleep(FULL_SECONDS)
        before = len(producers.accepted)
        free_disk(town)
        eventually(lambda: len(producers.accepted) > before + 100, "jobs flow again", seconds=60)
    check(town, producers, listener, pids)


def check(town: Town, producers: Producers, listener: Listener, pids: dict[int, set[int]]) -> None:
    producers.check()
    open_in_the_end = settle(town, producers.accepted)
    found = reckon(town, SEED, MIX, producers.accepted, listener)
    print(f"\n{producers.unreachable} submissions were told that Redis is away; {found.line()}")
    assert found.failures == {}
    assert open_in_the_end == []
    assert town.pids() == pids, "the worker's processes are the same"
