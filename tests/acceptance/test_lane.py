"""What only the lane does: batches, broken messages beside good jobs, a Redis that goes and comes back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from builders.artifacts import write_workspace
from builders.service import RunningService, running_service
from builders.waiting import eventually
from uqueue.embedded import start_redis
from uqueue_config.connections import connect
from uqueue_config.names import DEAD_KEY, Queue

ROW = np.zeros((1, 8))
GARBAGE = [b"", b"{", b"null", b"\x80\x04cos\nsystem\n.", b'{"headers": {"id": 5}}', b"[" * 50_000, b'{"id": "x y"}']


@pytest.fixture
def service(tmp_path: Path) -> Iterator[RunningService]:
    write_workspace(tmp_path / "workspace")
    folder, env = tmp_path / "service", {"UQUEUE_LANE": "on"}
    with running_service(folder, workspace=tmp_path / "workspace", concurrency=2, beat=False, env=env) as running:
        yield running


def test_garbage_in_the_queue_harms_nothing(service: RunningService) -> None:
    before = {process.pid for process in service.client.model().processes}
    with connect(service.settings.broker) as connection:
        jobs = []
        for number in range(200):
            connection.lpush(Queue.PREDICTIONS, GARBAGE[number % len(GARBAGE)])
            jobs.append(service.client.submit(ROW))
        for job in jobs:
            job.result(timeout=30)
        eventually(lambda: connection.llen(DEAD_KEY) == 200, "the garbage is kept with its reason")
        assert b"names no job id" in connection.hget("uqueue:dead:1", "reason")  # type: ignore[operator]
    assert {process.pid for process in service.client.model().processes} == before


def test_ten_thousand_jobs_are_each_answered_once(service: RunningService) -> None:
    jobs = service.client.submit_many([ROW] * 10_000)
    for job in jobs:
        job.result(timeout=60)
    assert {job.status().attempts for job in jobs[::100]} == {1}
    eventually(lambda: sum(p.jobs_done for p in service.client.model().processes) == 10_000, "both report their share")
    assert all(process.jobs_done > 0 for process in service.client.model().processes)


def test_a_redis_that_is_killed_and_comes_back(tmp_path: Path) -> None:
    """With an append-only file nothing accepted is lost, and the worker's processes stay."""
    write_workspace(tmp_path / "workspace")
    data = tmp_path / "redis"
    data.mkdir()
    server = start_redis(data, appendonly=True)
    env = {"UQUEUE_LANE": "on", "UQUEUE_BROKER_URL": server.url}
    folder = tmp_path / "service"
    with running_service(folder, workspace=tmp_path / "workspace", concurrency=2, beat=False, env=env) as service:
        before = {process.pid for process in service.client.model().processes}
        jobs = service.client.submit_many([ROW] * 2_000)
        psutil.Process(server.pid).kill()
        server.process.wait()
        server = start_redis(data, appendonly=True, port=server.port)
        try:
            for job in jobs:
                job.result(timeout=60)
            after = service.client.submit(ROW)
            after.result(timeout=20)
            assert {process.pid for process in service.client.model().processes} == before
        finally:
            service.supervisor.stop()
            server.stop()
