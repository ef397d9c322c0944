"""Jobs through a real Redis and a real Celery worker, as their callers see them."""

from __future__ import annotations

import asyncio
import gc
import json
import re
import time
import uuid
import warnings
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
import redis
from celery import Celery
from celery.exceptions import TaskRevokedError
from celery.result import AsyncResult

import uqueue
from builders.artifacts import mqnn_h5_bytes, write_workspace
from builders.service import RunningService, running_service
from builders.waiting import eventually
from uqueue_config.connections import connect
from uqueue_config.errors import (
    IdempotencyConflict,
    InputError,
    InvalidFeatures,
    InvalidMessage,
    JobCancelled,
    JobExpired,
    JobNotFinished,
    JobNotFound,
    PayloadTooLarge,
    ResultExpired,
    UnknownModel,
)
from uqueue_config.names import Queue, result_key

ROWS = np.linspace(-1.0, 1.0, 24, dtype=np.float64).reshape(3, 8)


@pytest.fixture(scope="module", params=["on", "off"], ids=["lane", "tasks"])
def service(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    folder = tmp_path_factory.mktemp("service")
    env = {"UQUEUE_LANE": request.param}
    # delta 0: every row takes all passes; with a wide network big jobs take long on every engine
    write_workspace(folder / "workspace", model=mqnn_h5_bytes(hidden=(384, 384, 384)), delta=0.0)
    with running_service(folder, workspace=folder / "workspace", concurrency=2, beat=False, env=env) as running:
        yield running


@pytest.fixture
def client(service: RunningService) -> uqueue.Client:
    return service.client


@pytest.fixture
def foreign(service: RunningService) -> Iterator[Celery]:
    """A program that knows Celery and nothing of uqueue."""
    app = Celery("foreign", broker=service.settings.broker, backend=service.settings.broker, set_as_current=False)
    yield app
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", ResourceWarning
        )  # Celery leaves the sockets of its result backend to the collector
        gc.collect()  # and unsubscribes when a result is collected, which must be before its Redis stops
    app.close()


def jobs_known(connection: redis.Redis) -> int:
    return sum(1 for _ in connection.scan_iter("uqueue:job:*", count=1000))


def long_job(client: uqueue.Client) -> uqueue.Job:
    return client.submit(np.zeros((60_000, 8), np.float32))


def test_submit_and_result(client: uqueue.Client) -> None:
    job = client.submit(ROWS, target_dim=2)
    prediction = job.result(timeout=20)
    assert prediction.lower.shape == prediction.upper.shape == (3, 2)
    assert prediction.passes_used.tolist() == [50, 50, 50]
    assert prediction.forward_mode == "dropout"
    assert prediction.stochastic is True
    assert prediction.nominal_coverage == pytest.approx(0.9)
    status = job.status()
    assert (status.state, status.attempts, status.model) == ("succeeded", 1, "mccp-uq")
    assert status.started_at is not None
    assert status.finished_at is not None
    assert status.created_at <= status.started_at <= status.finished_at


def test_the_same_seed_gives_the_same_bytes_whoever_computes(client: uqueue.Client) -> None:
    results: list[uqueue.PredictionResult] = []
    workers: set[str | None] = set()

    def both_have_answered() -> bool:
        jobs = [client.submit(ROWS, seed=11) for _ in range(20)]
        results.extend(job.result(timeout=20) for job in jobs)
        workers.update(job.status().worker for job in jobs)
        return len(workers) == 2

    eventually(both_have_answered, "both processes took part")
    assert len({result.lower.tobytes() + result.upper.tobytes() for result in results}) == 1
    assert results[0].seed == 11
    assert client.submit(ROWS).result(timeout=20).seed != 11


def test_many_rows_come_back_in_the_other_encoding_with_the_same_numbers(client: uqueue.Client) -> None:
    rows = np.random.default_rng(3).normal(size=(300, 8)).astype(np.float32)
    many = client.submit(rows, seed=5).result(timeout=20)
    few = client.submit(rows[:100], seed=5).result(timeout=20)
    np.testing.assert_allclose(many.lower[:100], few.lower, rtol=1e-5)


def test_submit_many(client: uqueue.Client) -> None:
    jobs = client.submit_many([ROWS[:1]] * 1200)
    assert len({job.id for job in jobs}) == 1200
    assert all(len(job.result(timeout=60)) == 1 for job in jobs)


def test_submit_many_sends_nothing_when_one_is_wrong(client: uqueue.Client, service: RunningService) -> None:
    with connect(service.settings.broker) as connection:
        before = jobs_known(connection)
        with pytest.raises(InvalidFeatures):
            client.submit_many([ROWS, [["x"]]])
        assert jobs_known(connection) == before


def test_an_idempotency_key_names_one_job(client: uqueue.Client) -> None:
    key = str(uuid.uuid4())
    first, second = (client.submit(ROWS, idempotency_key=key) for _ in range(2))
    assert first.id == second.id
    assert first.result(timeout=20).lower.tobytes() == second.result(timeout=20).lower.tobytes()
    with pytest.raises(IdempotencyConflict, match=re.escape(repr(key))):
        client.submit(ROWS + 1, idempotency_key=key)


def test_many_idempotency_keys_name_one_job_each(client: uqueue.Client) -> None:
    keys = [str(uuid.uuid4()) for _ in range(3)]
    tables = [ROWS[:1] + number for number in range(3)]
    jobs = client.submit_many(tables, idempotency_keys=keys)
    again = client.submit_many(tables, idempotency_keys=iter(keys))
    assert [job.id for job in again] == [job.id for job in jobs]
    assert client.submit(tables[1], idempotency_key=keys[1]).id == jobs[1].id
    with pytest.raises(IdempotencyConflict, match=re.escape(repr(keys[1]))):
        client.submit_many([tables[0], tables[0]], idempotency_keys=keys[:2])
    for wrong in (keys[:2], [*keys, "one more"]):
        with pytest.raises(InputError, match=f"one for each of 3 jobs, got {len(wrong)}"):
            client.submit_many(tables, idempotency_keys=wrong)


def test_a_look_without_waiting_says_where_the_job_stands(client: uqueue.Client) -> None:
    job = client.submit(ROWS)
    answer = job.result(timeout=20)
    assert job.result(timeout=0).lower.tobytes() == answer.lower.tobytes()
    with pytest.raises(JobNotFound):
        client.job(str(uuid.uuid4())).result(timeout=0)


def test_an_unknown_id_is_not_a_pending_one(client: uqueue.Client) -> None:
    job = client.job(str(uuid.uuid4()))
    for call in (job.status, job.result, job.cancel):
        with pytest.raises(JobNotFound, match=job.id):
            call()


def test_a_timeout_leaves_the_job_alone(client: uqueue.Client) -> None:
    job = long_job(client)
    with pytest.raises(JobNotFinished, match="still"):
        job.result(timeout=0.05)
    job.cancel()


def test_cancel_while_running_stops_between_chunks(client: uqueue.Client) -> None:
    job = long_job(client)
    eventually(lambda: (job.status().rows_total or 0) == 60_000, "the job reports progress")
    assert job.cancel().cancel_requested
    started = time.monotonic()
    with pytest.raises(JobCancelled):
        job.result(timeout=10)
    assert time.monotonic() - started < 5
    assert job.status().state == "cancelled"


def test_cancel_while_queued_never_runs(client: uqueue.Client, foreign: Celery) -> None:
    blockers = [long_job(client) for _ in range(3)]
    job = client.submit(ROWS)
    assert job.cancel().state == "cancelled"
    for blocker in blockers:
        blocker.cancel()
    with pytest.raises(JobCancelled):
        job.result(timeout=10)
    assert job.status().attempts == 0
    with pytest.raises(TaskRevokedError, match="cancelled"):
        AsyncResult(job.id, app=foreign).get(timeout=5)


def test_a_job_that_starts_too_late_expires(client: uqueue.Client) -> None:
    blockers = [long_job(client) for _ in range(4)]
    eventually(lambda: all(blocker.status().state == "running" for blocker in blockers[:2]), "both processes are busy")
    job = client.submit(ROWS, expires=timedelta(milliseconds=50))
    with pytest.raises(JobExpired):
        job.result(timeout=10)
    for blocker in blockers:
        blocker.cancel()
    assert job.status().state == "expired"


def test_a_result_past_its_retention_is_neither_unknown_nor_pending(
    client: uqueue.Client, service: RunningService
) -> None:
    job = client.submit(ROWS)
    job.result(timeout=20)
    with connect(service.settings.broker) as connection:
        connection.pexpire(result_key(job.id), 1)
        eventually(lambda: not connection.exists(result_key(job.id)), "Redis drops the result")
    assert job.status().state == "succeeded"
    with pytest.raises(ResultExpired):
        job.result(timeout=1)


REFUSED: dict[str, tuple[Any, str]] = {
    "nan": ([[float("nan")] + [0.0] * 7], "finite"),
    "infinity": ([[0.0] * 7 + [float("inf")]], "finite"),
    "float32 overflow": ([[1e39] + [0.0] * 7], "float32"),
    "too narrow": ([[1.0, 2.0]], "8"),
    "ragged": ([[1.0] * 8, [1.0] * 7], "row"),
    "empty": ([], "row"),
    "strings": ([["1"] * 8], "number"),
    "text": ("1,2,3", "number"),
    "none": (None, "number"),
    "bool": ([[True] * 8], "number"),
    "one-dimensional": ([1.0] * 8, "rows, columns"),
    "junk": (b"\x93" * 10_000_000, "number"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_features_are_refused_at_submission(case: str, client: uqueue.Client, service: RunningService) -> None:
    features, named = REFUSED[case]
    with connect(service.settings.broker) as connection:
        before = jobs_known(connection)
        with pytest.raises(InvalidFeatures, match=named) as caught:
            client.submit(features)
        assert "expected" in str(caught.value) or "expects" in str(caught.value)
        assert len(str(caught.value)) < 400
        assert jobs_known(connection) == before


def test_other_refusals_at_submission(client: uqueue.Client) -> None:
    with pytest.raises(PayloadTooLarge, match="4194304"):
        client.submit(np.zeros((99_999, 16)))
    with pytest.raises(InputError, match="the model has 2 targets"):
        client.submit(ROWS, target_dim=3)
    with pytest.raises(InputError, match="future"):
        client.submit(ROWS, expires=-1)
    with pytest.raises(InvalidMessage, match="model"):
        client.submit(ROWS, model="../etc")
    with pytest.raises(InvalidMessage, match="seed"):
        client.submit(ROWS, seed=-5)


def test_a_model_nobody_serves_fails_clearly(client: uqueue.Client) -> None:
    with pytest.raises(UnknownModel, match="mccp-uq"):
        client.submit(ROWS, model="other").result(timeout=20)


def test_a_program_without_uqueue_submits_and_reads(foreign: Celery, client: uqueue.Client) -> None:
    sent = foreign.send_task("uqueue.predict", kwargs={"features": ROWS.tolist(), "seed": 9}, queue="predictions")
    answer = sent.get(timeout=20)
    mine = client.submit(ROWS, seed=9).result(timeout=20)
    assert np.asarray(answer["lower"]).tolist() == mine.lower.tolist()
    assert answer["intervals"] == mine.intervals.tolist()
    assert client.job(sent.id).result(timeout=1).lower.tolist() == mine.lower.tolist()
    json.dumps(answer, allow_nan=False)


def test_a_foreign_failure_reads_the_same_on_both_sides(foreign: Celery, client: uqueue.Client) -> None:
    sent = foreign.send_task("uqueue.predict", kwargs={"features": [[1.0, 2.0]]}, queue="predictions")
    with pytest.raises(InvalidFeatures, match="8"):
        sent.get(timeout=20)
    with pytest.raises(InvalidFeatures, match="8"):
        client.job(sent.id).result(timeout=5)
    assert sent.state == "FAILURE"


@pytest.mark.parametrize(
    "kwargs", [{}, {"features": "x"}, {"features": [[1.0] * 8], "surprise": 1}, {"features": {"dtype": "|O"}}]
)
def test_foreign_nonsense_fails_with_a_sentence(foreign: Celery, kwargs: dict[str, Any]) -> None:
    sent = foreign.send_task("uqueue.predict", kwargs=kwargs, queue="predictions")
    with pytest.raises(InputError):
        sent.get(timeout=20)


def test_a_celery_revoke_is_a_cancel(foreign: Celery, client: uqueue.Client) -> None:
    blockers = [long_job(client) for _ in range(4)]
    job = client.submit(ROWS)
    foreign.control.revoke(job.id)
    eventually(lambda: job.status().cancel_requested or job.status().state == "cancelled", "the worker heard of it")
    for blocker in blockers:
        blocker.cancel()
    with pytest.raises(JobCancelled):
        job.result(timeout=20)


def test_the_async_client_does_the_same(service: RunningService, client: uqueue.Client) -> None:
    async def use() -> None:
        async with uqueue.AsyncClient(service.settings) as mine:
            jobs = [await mine.submit(ROWS, seed=4), *await mine.submit_many([ROWS[:1]] * 5)]
            results = await asyncio.gather(*(job.result(timeout=30) for job in jobs))
            assert results[0].lower.tolist() == client.submit(ROWS, seed=4).result(timeout=20).lower.tolist()
            assert (await jobs[0].status()).state == "succeeded"
            assert (await mine.models())[0].name == "mccp-uq"
            with pytest.raises(InvalidFeatures):
                await mine.submit([["x"]])
            with pytest.raises(JobNotFound):
                await mine.job("nobody").result(timeout=1)
            with pytest.raises(UnknownModel):
                await mine.model("nobody")
            slow = await mine.submit(np.zeros((60_000, 8)))
            with pytest.raises(JobNotFinished):
                await slow.result(timeout=0.05)
            await slow.cancel()
            with pytest.raises(JobCancelled):
                await slow.result(timeout=20)

    asyncio.run(use())


def test_records_in_one_redis_and_the_queue_in_another(service: RunningService) -> None:
    settings = uqueue.Settings.load(service.environment)
    elsewhere = settings.result_store.rsplit("/", 1)[0] + "/5"
    split = uqueue.Settings.load({**service.environment, "UQUEUE_RESULT_URL": elsewhere})
    with uqueue.Client(split) as client, connect(elsewhere) as records, connect(split.broker) as broker:
        blockers = [long_job(service.client) for _ in range(2)]
        eventually(lambda: all(b.status().state == "running" for b in blockers), "both processes are busy")
        before = int(broker.llen(Queue.PREDICTIONS))  # type: ignore[arg-type]
        job = client.submit(ROWS)
        assert int(broker.llen(Queue.PREDICTIONS)) >= before  # type: ignore[arg-type]
        assert records.exists(f"uqueue:job:{job.id}")
        assert not broker.exists(f"uqueue:job:{job.id}")
        for blocker in blockers:
            blocker.cancel()


def test_no_process_of_the_worker_has_tensorflow(service: RunningService) -> None:
    import psutil

    worker = psutil.Process(service.services["worker"].pid)
    for process in (worker, *worker.children(recursive=True)):
        assert not [region.path for region in process.memory_maps() if "tensorflow" in region.path]


def log_lines(service: RunningService) -> list[dict[str, Any]]:
    whole_lines = service.services["worker"].log_text().rpartition("\n")[0].splitlines()
    return [json.loads(line) for line in whole_lines if line.startswith("{")]


def test_logs_are_json_and_name_the_job(service: RunningService, client: uqueue.Client) -> None:
    job = client.submit(ROWS)
    version = job.result(timeout=20).model.version

    def named() -> bool:
        for line in log_lines(service):
            if line["event"] == "batch_answered" and job.id in line["job_ids"]:
                return True
            if line["event"] == "job_answered" and line["job_id"] == job.id:
                return (line["model_version"], line["attempt"], line["rows"]) == (version, 1, 3)
        return False

    eventually(named, "the log names the job")
