"""The warden ends real processes that do not end themselves, and no others."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from builders.waiting import eventually
from uqueue_config.connections import connect
from uqueue_config.errors import JobTimeLimit
from uqueue_config.ledger import Application, Ledger, LedgerCommands
from uqueue_config.names import DEFAULT_MODEL, JobState, serving_key
from uqueue_config.settings import Settings
from uqueue_worker import warden
from uqueue_worker.warden import Row, Table, Warden

Child = Callable[[Row], None]


@pytest.fixture
def settings(redis_url: str) -> Settings:
    limits = {"soft_time_limit_seconds": timedelta(seconds=0.2), "time_limit_seconds": timedelta(seconds=1)}
    return Settings.load({"UQUEUE_BROKER_URL": redis_url}, **limits)


@contextmanager
def watched(settings: Settings, *children: Child) -> Iterator[list[multiprocessing.Process]]:
    table = Table()
    fork = multiprocessing.get_context("fork")

    def run(child: Child, row: Row) -> None:
        row.start(f"host/random:{os.getpid()}")
        child(row)
        time.sleep(60)

    processes = [fork.Process(target=run, args=(child, table.row(index))) for index, child in enumerate(children)]
    for process in processes:
        process.start()
    guard = Warden(settings, table, lambda: {process.pid for process in processes if process.is_alive()})
    guard.start()
    try:
        yield processes  # type: ignore[misc]
    finally:
        guard.stop()
        for process in processes:
            process.kill()
            process.join()


def test_a_job_beyond_the_hard_limit_costs_its_process_and_fails(settings: Settings) -> None:
    commands = LedgerCommands(timedelta(seconds=60), timedelta(seconds=60))
    with connect(settings.broker) as connection:
        ledger = Ledger(connection)
        application = Application("job-of-the-warden", "d", "text")
        ledger.run(commands.open([application], model="m", queue="q", queue_limit=10))
        ledger.run(commands.begin("job-of-the-warden", model="m", worker="w", max_attempts=3))
        with watched(settings, lambda row: row.busy("job-of-the-warden"), lambda row: row.idle()) as (stuck, idle):
            eventually(lambda: stuck.exitcode == -signal.SIGKILL, "the stuck process is gone", seconds=10)
            assert idle.is_alive()
        record = ledger.run(commands.read("job-of-the-warden", with_result=False))
    assert record is not None
    assert record.state is JobState.FAILED
    assert isinstance(record.error, JobTimeLimit)


def test_a_stopped_process_is_ended(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warden, "LIFELESS_SECONDS", 2.5)
    with watched(settings, lambda row: os.kill(os.getpid(), signal.SIGSTOP), lambda row: None) as (stopped, well):
        eventually(lambda: stopped.exitcode == -signal.SIGKILL, "the stopped process is gone", seconds=15)
        assert well.is_alive()


def test_short_computations_one_after_the_other_are_no_long_one(settings: Settings) -> None:
    def work(row: Row) -> None:
        while True:
            row.busy("")
            time.sleep(0.05)
            row.idle()

    with watched(settings, work) as (process,):
        time.sleep(2)
        assert process.is_alive()


def test_a_process_that_ended_acknowledges_no_more(settings: Settings) -> None:
    with watched(settings, lambda row: None, lambda row: None) as (dead, well), connect(settings.broker) as connection:
        names = {process: f"host/random:{process.pid}" for process in (dead, well)}
        for name in names.values():
            connection.set(serving_key(DEFAULT_MODEL, name), "{}")
        time.sleep(4 * warden.LOOK_SECONDS)  # a look at both while they are there
        dead.kill()
        gone = serving_key(DEFAULT_MODEL, names[dead])
        eventually(lambda: not connection.exists(gone), "it is withdrawn", seconds=10)
        assert connection.exists(serving_key(DEFAULT_MODEL, names[well]))


def test_a_worker_that_does_not_end_when_it_is_asked_to_is_ended(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warden, "LIFELESS_SECONDS", 0.5)
    hasty = settings.model_copy(update={"shutdown_seconds": timedelta(seconds=0.1)})
    fork = multiprocessing.get_context("fork")
    pids = fork.SimpleQueue()

    def worker() -> None:
        child = fork.Process(target=time.sleep, args=(60,))
        child.start()
        pids.put(child.pid)
        guard = Warden(hasty, Table(), lambda: {child.pid})
        guard.start()
        guard.expect_end(sig="SIGTERM", how="Warm")
        time.sleep(60)

    process = fork.Process(target=worker)
    process.start()
    child_pid = pids.get()
    process.join(20)
    assert process.exitcode == warden.EX_SOFTWARE
    eventually(lambda: not _is_there(child_pid), "its process is gone, too")


def _is_there(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
