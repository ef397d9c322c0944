"""A run through a real learning worker, every process with its own Redis user: nothing it does is refused."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from builders.command import uqueue
from builders.guarded_redis import GuardedRedis, guarded_redis
from builders.learning_runs import MODEL
from builders.learning_subject import NAMED
from builders.postgres import new_database, postgres_server
from builders.service import TESTS
from builders.waiting import eventually
from uqueue import AsyncClient, Client
from uqueue.local import ONE_THREAD, beat_service, child_environment
from uqueue.supervisor import Service, Supervisor
from uqueue_config.learning.answers import RunDetails
from uqueue_config.learning.errors import DatasetNotFound
from uqueue_config.learning.names import PRESENCE_KEY
from uqueue_config.settings import Settings

COMMAND = ["-A", "uqueue_worker.learning.tasks", "worker", "-Q", "alm,simulate,train", "--concurrency=2"]


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[GuardedRedis]:
    with guarded_redis(tmp_path / "redis") as redis:
        try:
            yield redis
        finally:
            print(*redis.denials(), sep="\n")  # what a failing test has to know first


@pytest.fixture
def database() -> Iterator[str]:
    with postgres_server() as server, new_database(server) as dsn:
        yield dsn


def settings(redis: GuardedRedis, user: str) -> Settings:
    return Settings.load({"UQUEUE_BROKER_URL": redis.url(user), "UQUEUE_LOG_FORMAT": "json"})


def environment(redis: GuardedRedis, user: str, **learning: str) -> dict[str, str]:
    own = {f"UQUEUE_LEARNING_{name.upper()}": value for name, value in learning.items()}
    return child_environment(settings(redis, user), {**os.environ, "PYTHONPATH": str(TESTS), **ONE_THREAD, **own})


def migrated(redis: GuardedRedis, dsn: str) -> None:
    env = environment(redis, "operator", database=dsn)
    names = uqueue(env, "learn", "migrate", "--dry-run").stdout.split()
    assert names[:2] == ["0001_scenarios", "0002_runs"]
    assert uqueue(env, "learn", "migrate").stdout.split() == names
    assert "up to date" in uqueue(env, "learn", "migrate").stderr


def test_a_run_from_its_start_to_its_report(guarded: GuardedRedis, database: str, tmp_path: Path) -> None:
    migrated(guarded, database)
    guarded.denials()
    learning = {
        "database": database,
        "data_dir": str(tmp_path / "data"),
        "subject": NAMED,
        "evaluate": "local",
        "stale_seconds": "2",
    }
    argv = [sys.executable, "-m", "celery", "--quiet", *COMMAND, "--without-gossip", "--without-mingle"]
    worker_environment = environment(guarded, "learning", **learning)

    def started(name: str) -> Service:
        steps = ((signal.SIGTERM, 10.0), (signal.SIGQUIT, 5.0))
        worker = Service(name, argv, worker_environment, stop_steps=steps, log_file=tmp_path / f"{name}.log")
        supervisor.start(worker)
        return worker

    with Supervisor() as supervisor, Client(settings(guarded, "operator")) as operator:
        supervisor.start(beat_service(environment(guarded, "beat", tick_seconds="0.5"), log_file=tmp_path / "beat.log"))
        worker = started("learning")
        eventually(lambda: guarded.admin.exists(PRESENCE_KEY), "it says that it is there", seconds=60)
        guarded.admin.lpush("alm", "{not a message")
        eventually(lambda: guarded.admin.llen("dead"), "what is no message is a dead letter")
        run_id = operator.learning.start_run({"max_cycles": 2}, idempotency_key="nightly").run.run_id
        assert not operator.learning.start_run({"max_cycles": 2}, idempotency_key="nightly").created
        os.killpg(worker.pid, signal.SIGKILL)  # in the middle of the first step
        worker.wait(10)
        worker = started("learning2")
        seen: list[str] = []
        done = operator.learning.wait_for_run(run_id, 120, on_look=lambda run: seen.append(_where(run)))
        assert (done.run.status, len(done.cycles)) == ("completed", 2), worker.log_text()
        assert len(set(seen)) > 1
        found_by_people(operator, done, tmp_path)
        asyncio.run(found_by_programs(guarded, run_id))
        worker.stop()
    assert guarded.denials() == []


def _where(run: RunDetails) -> str:
    return f"{run.run.cycle} {run.run.state}"


def found_by_people(operator: Client, done: RunDetails, folder: Path) -> None:
    """Everything that can be looked at and done with a run that is over."""
    run_id = done.run.run_id
    spots = operator.learning.weak_spots(run_id)
    assert spots.spots
    assert {one.suggestion.state for one in operator.learning.suggestions(run_id).suggestions} <= {
        "applied",
        "approved",
    }
    assert "<html" in operator.learning.report(run_id).content
    pool = next(one for one in done.run.datasets if one.role == "pool")
    feedback = operator.learning.feedback(pool.ref.uri)
    assert feedback.n_samples == pool.ref.n
    assert feedback.model_version_evaluated is not None
    assert done.run.model is not None
    assert done.run.model.name == MODEL
    for hostile in ("/etc/passwd", f"{folder}/data/../../etc/passwd"):
        with pytest.raises(DatasetNotFound):
            operator.learning.feedback(hostile)
    made = operator.learning.search_scenarios("corona", filters={"tags": ["class_CORONA"]}, limit=5)
    scenario = made.scenarios[0].scenario_definition_id
    assert operator.learning.scenario(scenario) == made.scenarios[0]
    assert [one.operation for one in operator.learning.scenario_history(scenario).versions] == ["insert"]
    operator.learning.archive_scenario(scenario)
    assert operator.learning.restore_scenario(scenario, 1).version >= 2


async def found_by_programs(redis: GuardedRedis, run_id: str) -> None:
    """The same worker, asked by the user of the gateway."""
    async with AsyncClient(settings(redis, "gateway")) as client:
        assert [one.run_id for one in (await client.learning.runs(status="completed")).runs] == [run_id]
        assert (await client.learning.report(run_id, "csv")).content
