"""Wall clocks that are an hour off, and two beats: time is what Redis says it is."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import psutil
import pytest

import uqueue
from builders.artifacts import mqnn_h5_bytes, write_workspace
from builders.waiting import eventually
from chaos.town import Town, running_town
from uqueue_config.errors import JobExpired
from uqueue_config.seeds import seed_from_job_id

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]
CLOCK = Path(__file__).parent / "clock"
HOUR = 3600
#: Takes both processes of a worker some seconds.
LONG = np.zeros((30_000, 8), np.float32)
PRODUCER = """
import datetime, json, sys, time, uqueue
job = uqueue.Client().submit([[0.5] * 8], expires=float(sys.argv[1]))
print(json.dumps([job.id, time.time()]))
"""


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """Two beats with the right time; a lane an hour ahead, and a worker of ordinary tasks an hour behind."""
    with running_town(tmp_path_factory.mktemp("clocks"), workers=0, beats=2, hidden=(256, 256)) as town:
        path = town.service.environment["PYTHONPATH"]
        for lane, shift in (("on", HOUR), ("off", -HOUR)):
            town.service.environment |= shifted(path, shift) | {"UQUEUE_LANE": lane}
            town.add_worker(wait=True)
        yield town


def shifted(path: str, seconds: float) -> dict[str, str]:
    return {"PYTHONPATH": f"{CLOCK}:{path}", "CLOCK_SHIFT": str(seconds)}


def submit_from(town: Town, clock_shift: float, expires_seconds: float) -> uqueue.Job:
    """Submit a job from a process whose clock is off, and make sure that it was."""
    environment = town.service.environment | shifted(town.service.environment["PYTHONPATH"], clock_shift)
    command = [sys.executable, "-c", PRODUCER, str(expires_seconds)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
    job_id, its_time = json.loads(done.stdout)
    assert abs(its_time - clock_shift - time.time()) < 60
    return town.client.job(job_id)


def computing(jobs: list[uqueue.Job]) -> dict[int, uqueue.Job]:
    """Return the jobs that have reported progress, by the process that computes them."""
    statuses = {job: job.status() for job in jobs}
    under_way = {job: one for job, one in statuses.items() if one.rows_total and one.state == "running"}
    return {int(str(one.worker).rpartition(":")[2]): job for job, one in under_way.items()}


@contextmanager
def stopped_workers(town: Town) -> Iterator[None]:
    """Let nobody take a job meanwhile."""
    processes = [psutil.Process(pid) for worker, pool in town.pids().items() for pid in (worker, *pool)]
    for process in processes:
        process.suspend()
    try:
        yield
    finally:
        for process in processes:
            process.resume()


@pytest.mark.parametrize("shift", [HOUR, -HOUR])
def test_a_producer_whose_clock_is_off_gets_the_time_it_asked_for(town: Town, shift: int) -> None:
    answered = submit_from(town, shift, expires_seconds=60)
    answer = answered.result(timeout=30)
    expected = town.model.predict([[0.5] * 8], seed=seed_from_job_id(answered.id))
    assert answer.lower.tobytes() == expected.lower.tobytes()
    status = answered.status()
    assert status.expires_at is not None
    assert abs(status.expires_at - status.created_at - timedelta(seconds=60)) < timedelta(seconds=1)
    assert abs(status.created_at - datetime.now(UTC)) < timedelta(minutes=1), "Redis' clock, not the producer's"
    assert status.finished_at is not None
    assert timedelta(0) <= status.finished_at - status.created_at < timedelta(minutes=1)


def test_workers_whose_clocks_are_off_expire_jobs_when_it_is_time(town: Town) -> None:
    # A process that waits for jobs has its claim at Redis already, which would hand it one in time.
    blockers = [town.client.submit(LONG) for _ in range(10)]
    pools = set.union(*town.pids().values())
    eventually(lambda: pools <= set(computing(blockers)), "all processes compute")
    with stopped_workers(town):
        overdue, patient = submit_from(town, HOUR, expires_seconds=1), submit_from(town, -HOUR, expires_seconds=100)
        expires_at = overdue.status().expires_at
        assert expires_at is not None
        eventually(lambda: datetime.now(UTC) > expires_at, "its time is over")
        for blocker in blockers:
            blocker.cancel()
    with pytest.raises(JobExpired):
        overdue.result(timeout=30)
    assert len(patient.result(timeout=30)) == 1


def test_jobs_are_found_again_whose_processes_died(town: Town) -> None:
    jobs = [town.client.submit(LONG) for _ in range(6)]
    pools = town.pids().values()
    eventually(lambda: all(pool & set(computing(jobs)) for pool in pools), "both workers compute")
    under_way = computing(jobs)
    struck = [next(iter(pool & set(under_way))) for pool in pools]
    for pid in struck:
        psutil.Process(pid).kill()
    for job in jobs:
        assert len(job.result(timeout=90)) == len(LONG)
    assert [under_way[pid].status().attempts for pid in struck] == [2, 2]


def test_a_worker_ahead_of_beat_notices_a_retrained_model(town: Town) -> None:
    """Celery drops messages whose `expires` has passed by the worker's clock."""
    before = town.client.model()
    behind = psutil.Process(town.workers[1].pid)
    behind.suspend()
    try:
        write_workspace(town.folder / "workspace", model=mqnn_h5_bytes(hidden=(64, 64), seed=3), delta=0.0)
        eventually(lambda: town.client.model().wanted_version != before.wanted_version, "a poll was executed")
    finally:
        behind.resume()
    eventually(lambda: town.client.model().converged, "all processes serve the new model")
