"""Worker processes that are recycled, killed, too slow or stopped: jobs end all the same."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

import uqueue
from builders.artifacts import mqnn_h5_bytes, write_workspace
from builders.service import RunningService, running_service
from builders.waiting import eventually
from uqueue_config.connections import connect
from uqueue_config.errors import JobAbandoned, JobTimeLimit

ROW = np.zeros((1, 8))
LONG = np.zeros((90_000, 8), np.float32)


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    # delta 0: every row takes all 50 passes, so that LONG takes several seconds
    write_workspace(tmp_path / "workspace", model=mqnn_h5_bytes(hidden=(384, 384, 384)), delta=0.0)
    return tmp_path / "workspace"


@pytest.fixture(params=["on", "off"], ids=["lane", "tasks"])
def lane(request: pytest.FixtureRequest) -> dict[str, str]:
    return {"UQUEUE_LANE": request.param}


@pytest.fixture
def service(tmp_path: Path, workspace: Path, lane: dict[str, str]) -> Iterator[RunningService]:
    folder = tmp_path / "service"
    with running_service(folder, workspace=workspace, concurrency=2, beat=False, env=lane) as running:
        yield running


def running_pid(job: uqueue.Job) -> int:
    eventually(lambda: job.status().rows_total, "the job is under way")
    worker = job.status().worker
    assert worker is not None
    return int(worker.rpartition(":")[2])


def test_recycled_processes_that_load_for_eight_seconds_keep_serving(
    tmp_path: Path, workspace: Path, lane: dict[str, str]
) -> None:
    """Celery's default kills a replacement that is not up after 4 s, again and again."""
    env = {**lane, "UQUEUE_MAX_JOBS_PER_PROCESS": "3"}
    folder = tmp_path / "service"
    with running_service(
        folder, workspace=workspace, concurrency=1, beat=False, app="builders.slow_app", env=env
    ) as service:
        pids = set()
        for _ in range(7):
            job = service.client.submit(ROW)
            job.result(timeout=60)
            pids.add(job.status().worker)
        assert len(pids) == 3


def test_a_killed_process_costs_an_attempt_and_not_the_job(service: RunningService) -> None:
    job = service.client.submit(LONG)
    psutil.Process(running_pid(job)).kill()
    assert len(job.result(timeout=90)) == len(LONG)
    assert job.status().attempts == 2


def test_a_job_that_kills_its_process_every_time_is_given_up(service: RunningService) -> None:
    job = service.client.submit(LONG)
    killed: set[int] = set()
    while len(killed) < service.settings.max_attempts:
        pid = running_pid(job)
        if pid not in killed and psutil.pid_exists(pid):
            psutil.Process(pid).kill()
            killed.add(pid)
    with pytest.raises(JobAbandoned, match="3 attempts"):
        job.result(timeout=60)
    assert len(service.client.submit(ROW).result(timeout=30)) == 1, "others are served"


def test_the_soft_time_limit_ends_a_job_and_keeps_the_process(
    tmp_path: Path, workspace: Path, lane: dict[str, str]
) -> None:
    env = {**lane, "UQUEUE_SOFT_TIME_LIMIT_SECONDS": "1", "UQUEUE_TIME_LIMIT_SECONDS": "20"}
    with running_service(tmp_path / "service", workspace=workspace, concurrency=1, beat=False, env=env) as service:
        job = service.client.submit(LONG)
        with pytest.raises(JobTimeLimit, match="1"):
            job.result(timeout=30)
        after = service.client.submit(ROW)
        after.result(timeout=30)
        assert after.status().worker == job.status().worker


def test_the_hard_time_limit_kills_the_process_and_fails_the_job(tmp_path: Path, workspace: Path) -> None:
    env = {"UQUEUE_SOFT_TIME_LIMIT_SECONDS": "1", "UQUEUE_TIME_LIMIT_SECONDS": "3"}
    with running_service(tmp_path / "service", workspace=workspace, concurrency=1, beat=False, env=env) as service:
        job = service.client.submit(LONG)
        stuck = psutil.Process(running_pid(job))
        stuck.suspend()  # deaf to the soft limit, as a process stuck in native code is
        with pytest.raises(JobTimeLimit, match="3"):
            job.result(timeout=30)
        eventually(lambda: not stuck.is_running(), "the stuck process is gone")
        assert len(service.client.submit(ROW).result(timeout=30)) == 1


def test_a_stopping_worker_finishes_its_job(service: RunningService) -> None:
    job = service.client.submit(np.zeros((20_000, 8), np.float32))
    running_pid(job)
    psutil.Process(service.services["worker"].pid).send_signal(signal.SIGTERM)
    assert len(job.result(timeout=60)) == 20_000
    assert job.status().attempts == 1


def test_wrong_settings_end_the_worker_with_a_sentence(tmp_path: Path) -> None:
    for command in (["-m", "celery", "-A", "uqueue_worker.app", "worker"], ["-m", "uqueue_worker.flower"]):
        environment = {"PATH": "/usr/bin:/bin", "UQUEUE_ENGINE": "magic", "UQUEUE_TYPO": "1"}
        done = subprocess.run(
            [sys.executable, *command], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 2, done.stderr
        assert "UQUEUE_ENGINE" in done.stderr
        assert "UQUEUE_TYPO" in done.stderr
        assert "Traceback" not in done.stderr


def test_a_numpy_worker_is_small(tmp_path: Path, workspace: Path) -> None:
    env = {"UQUEUE_ENGINE": "numpy"}
    with running_service(tmp_path / "service", workspace=workspace, concurrency=1, beat=False, env=env) as service:
        child = psutil.Process(service.client.model().processes[0].pid)
        assert child.memory_info().rss < 200e6
        assert not [region for region in child.memory_maps() if "tensorflow" in region.path]


def test_a_whole_worker_killed_in_mid_work_loses_nothing(service: RunningService) -> None:
    """Celery alone would deliver again after its visibility timeout, here 450 s."""
    jobs = [service.client.submit(np.zeros((5_000, 8), np.float32)) for _ in range(6)]
    running_pid(jobs[0])
    worker = psutil.Process(service.services["worker"].pid)
    for process in (*worker.children(recursive=True), worker):
        process.kill()
    service.start_worker("second")
    for job in jobs:
        assert len(job.result(timeout=60)) == 5_000
    assert {job.status().attempts for job in jobs} <= {1, 2}


def test_a_message_popped_and_lost_comes_back(service: RunningService) -> None:
    """What a kill between Celery's pop and its own note of it leaves behind."""
    blockers = [service.client.submit(LONG) for _ in range(4)]
    both = lambda: sum(job.status().state == "running" for job in blockers) == 2  # noqa: E731
    eventually(both, "both processes are busy", seconds=60)
    with connect(service.settings.broker) as connection:
        job = service.client.submit(ROW)
        assert connection.lpop("predictions") is not None
    for blocker in blockers:
        blocker.cancel()
    assert len(job.result(timeout=30)) == 1
