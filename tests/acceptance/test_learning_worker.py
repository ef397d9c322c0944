"""A campaign over real processes: client, queue, learning worker, PostgreSQL, the service's workers."""

from __future__ import annotations

import hashlib
import os
import re
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from builders.learning_reference import assert_undisturbed
from builders.learning_runs import MODEL
from builders.learning_subject import DEPLOYMENT
from builders.learning_town import LEARNING_APP, LearningTown, learning_town
from builders.waiting import eventually
from uqueue_config.connections import connect
from uqueue_config.envelope import celery_message
from uqueue_config.learning.names import LearningTask
from uqueue_config.learning.runs import RunRecord
from uqueue_worker.learning.errors import DatasetNotFound, RunConfigInvalid, RunConflict

SECONDS = 90.0
METRICS = "UQUEUE_LEARNING_METRICS_PORT"


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LearningTown]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    with learning_town(tmp_path_factory.mktemp("learning"), env={METRICS: port}) as town:
        eventually(town.is_there, "the learning worker runs", seconds=SECONDS)
        yield town


@pytest.fixture(scope="module")
def run(town: LearningTown) -> RunRecord:
    """A run that has ended."""
    started = town.client.learning.start_run({"random_seed": 3}, idempotency_key="nightly")
    return town.client.learning.wait_for_run(started.run.run_id, SECONDS).run


def everything(town: LearningTown, run_id: str) -> dict[str, Any]:
    """Return all rows about a run, and the hashes of its files."""
    tables = ("runs", "cycles", "weak_spots", "suggestions", "datasets", "scenario_uses", "steps", "parts")
    with town.database.transaction() as connection:
        rows = {
            name: connection.execute(
                f"select * from simulation.alm_{name} where run_id = %s order by 1, 2", [run_id]
            ).fetchall()
            for name in tables
        }
        rows["scenarios"] = connection.execute(
            "select scenario_id, version, content_hash from simulation.scenario_definitions order by 1"
        ).fetchall()
    files = sorted(path for path in town.data.rglob("*") if path.is_file())
    return {**rows, "files": [(str(path), hashlib.sha256(path.read_bytes()).hexdigest()) for path in files]}


def is_idle(town: LearningTown) -> bool:
    with connect(town.service.redis.url) as connection:
        waiting = [connection.llen(name) for name in ("alm", "simulate", "train")]
        return sum(waiting) + connection.hlen("uqueue:learning:unacked") == 0  # type: ignore[arg-type,operator]


def test_a_run_over_the_queue_is_the_one_of_a_single_process(
    town: LearningTown, run: RunRecord, tmp_path_factory: pytest.TempPathFactory
) -> None:
    assert (run.status, run.stop_reason, run.error) == ("completed", "cycles_spent", None)
    assert (run.config.model, run.config.deployment, run.config.max_cycles) == (MODEL, DEPLOYMENT, 2)
    assert town.store.dead_letters() == []
    found = assert_undisturbed(town.store, run, tmp_path_factory.mktemp("reference"))
    assert found["spots"]
    assert found["uses"]


def test_clients_see_what_it_did(town: LearningTown, run: RunRecord) -> None:
    learning = town.client.learning
    again = learning.start_run({"random_seed": 3}, idempotency_key="nightly")
    assert (again.created, again.run.run_id) == (False, run.run_id)
    details = learning.run(run.run_id)
    assert [cycle.state for cycle in details.cycles] == ["completed", "completed"]
    assert learning.weak_spots(run.run_id).spots
    assert {entry.suggestion.state for entry in learning.suggestions(run.run_id).suggestions} <= {"applied", "approved"}
    assert run.run_id in learning.report(run.run_id).content
    found = learning.search_scenarios(filters={"category": "electrical_fault"}, limit=5)
    assert found.scenarios
    assert found.scenarios[0].version >= 1


def test_its_metrics_are_those_of_all_its_processes(town: LearningTown, run: RunRecord) -> None:
    url = f"http://127.0.0.1:{town.learning_environment[METRICS]}/metrics"
    text = httpx.get(url, timeout=10).text
    ended = re.search(r'^alm_cycle_total\{outcome="completed"\} (\S+)$', text, flags=re.MULTILINE)
    assert ended is not None, text
    assert float(ended[1]) >= 2
    assert run.run_id not in text


def test_an_evaluation_that_is_asked_for_uses_the_queue(town: LearningTown, run: RunRecord) -> None:
    pool = run.dataset("pool")
    assert pool is not None
    found = town.client.learning.feedback(pool.ref.uri, timeout=30)
    assert (found.n_samples, found.n_failed) == (run.config.pool_samples, 0)
    assert run.model is not None
    assert run.model.version in found.model_version_evaluated
    with pytest.raises(DatasetNotFound):
        town.client.learning.feedback(str(town.data / "runs" / "nothing.avro"), timeout=30)
    with pytest.raises(DatasetNotFound):
        town.client.learning.feedback("/etc/passwd", timeout=30)


def test_a_run_that_continues_it_takes_over_its_data(town: LearningTown, run: RunRecord) -> None:
    started = town.client.learning.start_run({"continues": run.run_id, "max_cycles": 1}).run
    assert started.config.random_seed == run.config.random_seed + 1
    ended = town.client.learning.wait_for_run(started.run_id, 120).run
    assert (ended.status, ended.stop_reason, ended.error) == ("completed", "cycles_spent", None)
    start, pool, test, *_ = ended.datasets
    before = [*run.training_sets(), run.dataset("pool")]
    assert start.ref.n == sum(one.ref.n for one in before if one)
    assert test.content_sha256 == run.dataset("test").content_sha256  # type: ignore[union-attr]
    assert pool.content_sha256 != run.dataset("pool").content_sha256  # type: ignore[union-attr]
    assert "Parts of each cycle over time" in town.client.learning.report(ended.run_id).content
    times = town.store.part_times(ended.run_id)
    assert {one.ok for one in times} == {True}
    assert all(one.tries >= 1 and one.started_at_utc and one.finished_at_utc for one in times)


def test_a_run_about_something_else_is_refused(town: LearningTown) -> None:
    for changes in ({"model": "other"}, {"model": "../other"}, {"deployment": "elsewhere"}):
        with pytest.raises(RunConfigInvalid, match="knows"):
            town.client.learning.start_run(changes)
    assert not (town.data.parent / "other").exists()


def test_messages_that_come_again_change_nothing(town: LearningTown, run: RunRecord) -> None:
    eventually(lambda: is_idle(town), "nothing is under way")
    before = everything(town, run.run_id)
    with ThreadPoolExecutor(4) as pool:
        for part in before["parts"] * 2:
            arguments = {name: part[name] for name in ("run_id", "cycle", "state", "key")}
            pool.submit(send, town, LearningTask.PART, "simulate", {**arguments, "token": "x"})
        for _ in range(5):
            pool.submit(send, town, LearningTask.ADVANCE, "alm", {"run_id": run.run_id})
            pool.submit(send, town, LearningTask.TICK, "alm", {})
    for arguments in ({"run_id": "run-nobody"}, {"run_id": run.run_id, "attempt": 99}):
        send(town, LearningTask.ADVANCE, "alm", arguments)
    eventually(lambda: is_idle(town), "all of them were taken", seconds=SECONDS)
    assert everything(town, run.run_id) == before
    assert town.store.dead_letters() == []


def send(town: LearningTown, task: LearningTask, queue: str, arguments: dict[str, Any]) -> None:
    """Put a message into a queue, as anybody may who may push there."""
    message = celery_message(str(uuid.uuid4()), task.value, arguments, queue=queue, argsrepr="()")
    with connect(town.service.redis.url) as connection:
        connection.lpush(queue, message)


def test_a_cancelled_run_goes_on_where_it_stopped(town: LearningTown, tmp_path_factory: pytest.TempPathFactory) -> None:
    learning = town.client.learning
    run_id = learning.start_run({"random_seed": 11, "max_cycles": 1}).run.run_id
    assert learning.cancel(run_id).run.status == "cancelling"
    cancelled = learning.wait_for_run(run_id, SECONDS).run
    assert (cancelled.status, cancelled.stop_reason) == ("cancelled", "manual")
    with pytest.raises(RunConflict):
        learning.cancel(run_id)
    learning.resume(run_id)
    ended = learning.wait_for_run(run_id, SECONDS).run
    assert ended.status == "completed", ended.error
    cycles = town.store.cycles(run_id)
    assert [cycle.samples_generated for cycle in cycles] == [12]


def test_hostile_messages_are_dead_letters_and_the_worker_goes_on(town: LearningTown) -> None:
    with connect(town.service.redis.url) as connection:
        before = int(connection.llen("dead"))  # type: ignore[arg-type]
        connection.lpush("alm", b"{", b'{"body": 1}')
        connection.lpush("train", celery_of("uqueue.predict"))
        connection.lpush("simulate", celery_of("os.system"))
        eventually(lambda: int(connection.llen("dead")) == before + 4, "all are dead letters")  # type: ignore[arg-type]
    assert town.client.learning.runs().runs


def celery_of(task: str) -> str:
    return celery_message("a-job", task, {}, queue="train", argsrepr="()")


def test_a_worker_without_what_it_needs_says_so_and_ends(town: LearningTown) -> None:
    expected = {
        "UQUEUE_LEARNING_DATABASE": "UQUEUE_LEARNING_DATABASE is not set",
        "UQUEUE_LEARNING_SUBJECT": "UQUEUE_LEARNING_SUBJECT: nowhere:nothing cannot be loaded",
    }
    with ThreadPoolExecutor() as pool:
        ended = list(pool.map(lambda name: started_without(town, name), expected))
    for done, said in zip(ended, expected.values(), strict=True):
        assert done.returncode == 2, done.stderr
        assert said in done.stderr
        assert "Traceback" not in done.stderr


def started_without(town: LearningTown, name: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **town.learning_environment}
    environment[name] = "nowhere:nothing"
    if not name.endswith("SUBJECT"):
        del environment[name]
    command = [sys.executable, "-m", "celery", "-A", LEARNING_APP, "worker", "-Q", "alm", "--concurrency=1"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=90, check=False)
