"""A full queue, and a Redis that is full, restarted, stopped or cut off: typed errors, and workers that come back."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pytest
import redis

from builders.artifacts import write_workspace
from builders.command import uqueue
from builders.firewall import Firewall, firewall
from builders.service import RunningService, running_service
from builders.waiting import eventually
from uqueue import AsyncClient, Client, Job, Settings
from uqueue.embedded import EmbeddedRedis, start_redis
from uqueue_config.connections import connect
from uqueue_config.errors import QueueFull, ServiceUnreachable, StoreFull
from uqueue_config.names import DEFAULT_MODEL, serving_key

ROW = np.zeros((1, 8))
BACK_SECONDS = 6.0


@dataclass
class Town:
    """A service that reaches its Redis through a firewall."""

    data: Path
    redis: EmbeddedRedis
    wall: Firewall
    service: RunningService
    admin: redis.Redis

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.wall.port}/0"

    def producer(self) -> Client:
        """Return a client without connections."""
        return Client(Settings(broker_url=self.url))

    def processes(self) -> list[psutil.Process]:
        return self.service.worker_processes()


@pytest.fixture(scope="module")
def towns(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Town]]:
    """One with the lane and one without; what happens to both at once takes half the time."""
    folder = tmp_path_factory.mktemp("pressure")
    write_workspace(folder / "workspace")
    with contextlib.ExitStack() as stack:
        found = {lane: stack.enter_context(_town(folder / lane, lane)) for lane in ("on", "off")}
        for town in found.values():
            town.service.wait_for_worker(town.service.services["worker"])
        yield found
        for town in found.values():
            town.service.kill_worker()


@contextlib.contextmanager
def _town(folder: Path, lane: str) -> Iterator[Town]:
    data = folder / "data"
    server = start_redis(data, appendonly=True)
    with firewall(server.port) as wall, connect(server.url, retries=20) as admin:
        env = {"UQUEUE_LANE": lane, "UQUEUE_BROKER_URL": f"redis://127.0.0.1:{wall.port}/0"}
        workspace = folder.parent / "workspace"
        with running_service(folder, workspace=workspace, concurrency=1, beat=False, env=env, wait=False) as service:
            town = Town(data, server, wall, service, admin)
            try:
                yield town
            finally:
                service.supervisor.stop()
                town.redis.stop()


@pytest.fixture
def nobody_is_replaced(towns: dict[str, Town]) -> Iterator[None]:
    before = {lane: town.processes() for lane, town in towns.items()}
    yield
    assert {lane: town.processes() for lane, town in towns.items()} == before


def answered_in_time(towns: dict[str, Town], returned: float) -> None:
    """Assert that each service answers a new job soon after Redis' return at that (monotonic) time."""
    for lane, town in towns.items():
        with town.producer() as producer:
            producer.submit(ROW).result(timeout=max(0.1, returned + BACK_SECONDS - time.monotonic()))
        print(f"lane {lane}: answered {time.monotonic() - returned:.1f} s after Redis' return")


@pytest.mark.usefixtures("nobody_is_replaced")
def test_a_redis_without_memory(towns: dict[str, Town]) -> None:
    """Producers get a typed error and processes still acknowledge. The lane goes on; without it, jobs wait."""
    jobs = {}
    for lane, town in towns.items():
        for process in town.processes():
            process.suspend()
        jobs[lane] = town.service.client.submit_many([ROW] * 50)
        town.admin.config_set("maxmemory", "1mb")
        for process in town.processes():
            process.resume()
    for town in towns.values():
        with pytest.raises(StoreFull, match="memory limit"):
            town.service.client.submit(ROW)
    refused = uqueue(towns["on"].service.environment, "submit", "-", stdin="1,2,3,4,5,6,7,8", code=1)
    assert "memory limit" in refused.stderr
    for job in jobs["on"]:
        job.result(timeout=30)
    for town in towns.values():
        [member] = town.admin.smembers(serving_key(DEFAULT_MODEL))
        key = serving_key(DEFAULT_MODEL, member.decode())
        eventually(lambda key=key, admin=town.admin: admin.pttl(key) < 9_000, "the acknowledgement ages")
        eventually(lambda key=key, admin=town.admin: admin.pttl(key) > 9_000, "the acknowledgement is renewed")
        town.admin.config_set("maxmemory", "0")
    answered_in_time(towns, time.monotonic())
    for job in jobs["off"]:
        job.result(timeout=30)


@pytest.mark.usefixtures("nobody_is_replaced")
def test_a_redis_that_is_killed_and_restarted(towns: dict[str, Town]) -> None:
    jobs = [job for town in towns.values() for job in town.service.client.submit_many([ROW] * 50)]
    for town in towns.values():
        psutil.Process(town.redis.pid).kill()
        town.redis.process.wait()
        with pytest.raises(ServiceUnreachable):
            town.producer().submit(ROW)
    for town in towns.values():
        town.redis = start_redis(town.data, appendonly=True, port=town.redis.port)
    answered_in_time(towns, time.monotonic())
    for job in jobs:
        job.result(timeout=30)


@pytest.mark.usefixtures("nobody_is_replaced")
def test_a_redis_that_is_stopped_for_ten_seconds(towns: dict[str, Town]) -> None:
    """A client that is connected waits, and its job is accepted once."""
    accepted: list[Job] = []

    def submit(town: Town) -> None:
        accepted.append(town.service.client.submit(ROW))

    servers = [psutil.Process(town.redis.pid) for town in towns.values()]
    for server in servers:
        server.suspend()
    waiting = [threading.Thread(target=submit, args=(town,)) for town in towns.values()]
    for thread in waiting:
        thread.start()
    time.sleep(10)
    for server in servers:
        server.resume()
    answered_in_time(towns, time.monotonic())
    for thread in waiting:
        thread.join(30)
    for job in accepted:
        job.result(timeout=10)
        assert job.status().attempts == 1
    assert len(accepted) == len(towns)


@pytest.mark.usefixtures("nobody_is_replaced")
def test_a_redis_that_is_cut_off(towns: dict[str, Town]) -> None:
    """Nobody is told: connections stay, and nothing comes over them, not even after the cut."""
    for town in towns.values():
        town.wall.cut()
    cut = time.monotonic()
    for town in towns.values():
        with pytest.raises(ServiceUnreachable):
            town.producer().submit(ROW)
    time.sleep(max(0, cut + 13 - time.monotonic()))
    for town in towns.values():
        town.wall.restore()
    answered_in_time(towns, time.monotonic())


def test_a_full_queue_refuses_until_a_worker_makes_room(tmp_path: Path) -> None:
    write_workspace(tmp_path / "workspace")
    with start_redis(tmp_path / "data") as server:
        env = {"UQUEUE_BROKER_URL": server.url, "UQUEUE_QUEUE_LIMIT": "5"}
        client = Client(Settings.load(env))
        accepted = [*client.submit_many([ROW] * 3), client.submit(ROW), client.submit(ROW, idempotency_key="fifth")]
        with pytest.raises(QueueFull, match="UQUEUE_QUEUE_LIMIT is 5") as one:
            client.submit(ROW)
        assert (one.value.accepted, one.value.asked, one.value.limit) == (0, 1, 5)
        assert 1 <= one.value.retry_after_seconds <= 60
        assert client.submit(ROW, idempotency_key="fifth").id == accepted[-1].id, "it is in the queue already"
        with pytest.raises(QueueFull, match="0 of 2 jobs were accepted"):
            asyncio.run(_submit_async(Settings.load(env)))
        refused = uqueue({**os.environ, **env}, "submit", "-", stdin="1,2,3,4,5,6,7,8", code=1)
        assert "Try again in" in refused.stderr
        assert client.job(accepted[0].id).status().state == "queued"
        with running_service(
            tmp_path / "service", workspace=tmp_path / "workspace", concurrency=1, beat=False, env=env
        ):
            for job in [*accepted, client.submit(ROW)]:
                assert len(job.result(timeout=20)) == 1


async def _submit_async(settings: Settings) -> None:
    async with AsyncClient(settings) as client:
        await client.submit_many([ROW] * 2)
