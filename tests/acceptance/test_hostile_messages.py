"""Hostile messages against a real worker, on the lane and off it: nothing dies, nothing runs, nothing vanishes."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
import pytest
import redis
from celery import Celery

from builders.artifacts import mqnn_h5_bytes, write_workspace
from builders.hostile import ANSWERED, FAILING, HOSTILE, ROW, Hostile, Target, mutations, named_id
from builders.service import RunningService, running_service
from builders.waiting import eventually
from uqueue import Job
from uqueue.embedded import start_redis
from uqueue_config.connections import connect
from uqueue_config.errors import JobNotFound
from uqueue_config.ledger import JobStatus
from uqueue_config.messages import PredictRequest
from uqueue_config.names import CELERY_DEFAULT_QUEUE, DEAD_KEY, JobState, Queue

QUEUES = [*Queue, CELERY_DEFAULT_QUEUE]
SEED = 7
#: Errors that say what is wrong with a job; anything unforeseen would be `internal`.
CLEAR = {"invalid_message", "invalid_features", "unknown_model"}
#: What the service may keep in Redis.
KEYS = ("uqueue:", "celery-task-meta-", "_kombu.binding.", "dead", "unacked")


@pytest.fixture(scope="module", params=["on", "off"], ids=["lane", "tasks"])
def service(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    folder = tmp_path_factory.mktemp("service")
    # Wide and without an early stop, so that a job of many rows runs for a while.
    write_workspace(folder / "workspace", model=mqnn_h5_bytes(hidden=(384, 384, 384)), delta=0.0)
    env = {"UQUEUE_LANE": request.param}
    with running_service(folder, workspace=folder / "workspace", concurrency=2, beat=False, env=env) as running:
        yield running


@pytest.fixture
def connection(service: RunningService) -> Iterator[redis.Redis]:
    with connect(service.settings.broker) as connected:
        yield connected


def processes(service: RunningService) -> set[int]:
    """Return the pids of the worker's main process and of its children."""
    main = psutil.Process(service.services["worker"].pid)
    return {main.pid, *(child.pid for child in main.children(recursive=True))}


@dataclass
class Siege:
    """Messages that were pushed beside good jobs, and what became of them."""

    service: RunningService
    connection: redis.Redis
    pushed: list[tuple[str, bytes]] = field(default_factory=list)
    good: list[Job] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.before = processes(self.service)
        self.connection.delete(DEAD_KEY)
        self.expected = self.good_job().result(timeout=30)

    def good_job(self) -> Job:
        job = self.service.client.submit([ROW], seed=SEED)
        self.good.append(job)
        return job

    def push(self, queue: str, message: bytes) -> None:
        self.connection.lpush(queue, message)
        self.pushed.append((queue, message))

    def outlast(self) -> None:
        """Wait until nothing waits any more; then the worker must be the same, and every good job answered right."""
        for job in self.good:
            result = job.result(timeout=60)
            np.testing.assert_array_equal(result.lower, self.expected.lower)
            np.testing.assert_array_equal(result.upper, self.expected.upper)
        eventually(lambda: not self.connection.exists(*QUEUES, "unacked"), "all queues are empty", seconds=60)
        assert processes(self.service) == self.before

    def letters(self) -> Counter[tuple[str, bytes]]:
        """Return the dead letters by queue and message, each of which must have a reason."""
        numbers = [number.decode() for number in self.connection.lrange(DEAD_KEY, 0, -1)]
        pipeline = self.connection.pipeline(transaction=False)
        for number in numbers:
            pipeline.hmget(f"uqueue:dead:{number}", "queue", "message", "reason")
        found = pipeline.execute()
        assert all(len(reason) > 10 for _, _, reason in found)
        return Counter((queue.decode(), message) for queue, message, _ in found)

    def status(self, message: bytes) -> JobStatus | None:
        job_id = named_id(message)
        try:
            return self.service.client.job(job_id).status() if job_id else None
        except JobNotFound:
            return None

    def unaccounted(self) -> list[bytes]:
        """Return what is neither a dead letter nor a job that ended, and not with a riddle."""
        letters, vanished = self.letters(), []
        for queue, message in self.pushed:
            kept = (queue, message[:65536])
            status = self.status(message)
            if letters[kept]:
                letters[kept] -= 1
            elif status is None or not status.state.terminal or (status.error and status.error.code not in CLEAR):
                vanished.append(message[:500])
        return vanished


def lay_siege(siege: Siege, classes: Mapping[str, Hostile], queue: str, canary: Path) -> dict[str, bytes]:
    """Push every class with good jobs between; returns the messages by class."""
    messages = {name: make(Target(queue, canary)) for name, make in classes.items()}
    for number, message in enumerate(messages.values()):
        siege.push(queue, message)
        if number % 5 == 0:
            siege.good_job()
    return messages


def test_every_class_on_every_queue(service: RunningService, connection: redis.Redis, tmp_path: Path) -> None:
    siege, canary = Siege(service, connection), tmp_path / "canary"
    for queue in QUEUES:
        lay_siege(siege, HOSTILE, queue, canary)
    siege.outlast()
    eventually(lambda: not siege.unaccounted(), "every message is accounted for")
    assert not canary.exists()
    # Celery's own path takes none of them for a job; the lane ends a job that was named by nobody else.
    by_celery = [queue for queue, _ in siege.letters() if queue != Queue.PREDICTIONS]
    assert len(by_celery) >= len(QUEUES[1:]) * len(HOSTILE) * 0.95
    assert [key for key in connection.scan_iter(count=10_000) if not key.decode().startswith(KEYS)] == []


def test_jobs_that_cannot_be_done_fail_with_a_reason(
    service: RunningService, connection: redis.Redis, tmp_path: Path
) -> None:
    siege = Siege(service, connection)
    messages = [
        message
        for queue in (Queue.PREDICTIONS, CELERY_DEFAULT_QUEUE)
        for message in lay_siege(siege, FAILING, queue, tmp_path).values()
    ]
    siege.outlast()
    eventually(lambda: not siege.unaccounted(), "every message is accounted for")
    for message in messages:
        status = siege.status(message)
        assert status is not None
        assert status.state is JobState.FAILED
        assert status.error is not None
        assert status.error.code in CLEAR


def test_what_is_only_odd_is_answered(service: RunningService, connection: redis.Redis, tmp_path: Path) -> None:
    siege = Siege(service, connection)
    messages = {
        (queue, name): message
        for queue in (Queue.PREDICTIONS, CELERY_DEFAULT_QUEUE)
        for name, message in lay_siege(siege, ANSWERED, queue, tmp_path).items()
    }
    siege.outlast()
    for which, message in messages.items():
        eventually(lambda message=message: siege.status(message).state.terminal, f"{which} ends")  # type: ignore[misc]
        assert siege.status(message).state is JobState.SUCCEEDED, which  # type: ignore[union-attr]
    assert connection.llen(Queue.CONTROL) == connection.llen(DEAD_KEY) == 0


def test_thousands_of_damaged_messages(service: RunningService, connection: redis.Redis) -> None:
    siege = Siege(service, connection)
    count = 10_000 if service.settings.lane == "on" else 3_000
    for queue, share in zip(QUEUES, (0.6, 0.2, 0.2), strict=True):
        for number, message in enumerate(mutations(20_260_101, round(count * share), queue)):
            siege.push(queue, message)
            if number % 100 == 0:
                siege.good_job()
    siege.outlast()
    eventually(lambda: not siege.unaccounted(), "every message is accounted for", seconds=30)


def test_the_id_of_a_job_is_no_key_to_it(service: RunningService, connection: redis.Redis) -> None:
    """While the worker sleeps, forged messages get in front of an open job's own."""
    client, main = service.client, service.services["worker"].pid
    before, group = processes(service), os.getpgid(main)
    expected = client.submit([ROW], seed=SEED).result(timeout=30)
    os.killpg(group, signal.SIGSTOP)
    try:
        job = client.submit([ROW], seed=SEED)
        for forged in forgeries(job.id):
            connection.rpush(*forged)
    finally:
        os.killpg(group, signal.SIGCONT)
    result = job.result(timeout=30)
    np.testing.assert_array_equal(result.lower, expected.lower)
    assert result.seed == SEED
    eventually(lambda: not connection.exists(*QUEUES, "unacked"), "all queues are empty")
    assert job.status().attempts == 1
    assert processes(service) == before


def forgeries(job_id: str) -> list[tuple[str, bytes]]:
    """Return messages under somebody's id that would fail, expire, answer or cut short the job if they could."""
    own = [Target(queue, job_id=job_id) for queue in QUEUES]
    prediction, poll, default = own
    other = prediction.with_kwargs(features=[[0.0] * 8], seed=1)
    return [
        (prediction.queue, other),
        (default.queue, other),
        (default.queue, default.changed("body", '[[],{"features":[[1e999]]},null]')),
        (default.queue, default.with_body([], {"features": "none", "self": 1}, None)),
        (default.queue, default.changed("headers.expires", "2001-01-01T00:00:00")),
        (default.queue, default.changed("body", "[")),
        (prediction.queue, prediction.changed("headers.eta", "2001-01-01T00:00:00")),
        (poll.queue, poll.good()),
    ]


def test_a_replay_changes_nothing(service: RunningService, connection: redis.Redis) -> None:
    client, before = service.client, processes(service)
    features = np.zeros((20_000, 8), np.float32)
    expected = client.submit(features, seed=SEED).result(timeout=120)
    running = client.submit(features, seed=SEED)
    eventually(lambda: running.status().state is JobState.RUNNING, "the long job runs")
    kwargs = PredictRequest.of(features, "mccp-uq", SEED, None).to_json()
    finished = client.submit([ROW], seed=SEED)
    first = finished.result(timeout=60)
    status = finished.status()
    for job, body in ((running, f"[[],{kwargs},null]"), (finished, Target(Queue.PREDICTIONS).envelope()["body"])):
        for queue in (Queue.PREDICTIONS, CELERY_DEFAULT_QUEUE):
            connection.lpush(queue, Target(queue, job_id=job.id).changed("body", body))
    np.testing.assert_array_equal(running.result(timeout=120).lower, expected.lower)
    eventually(lambda: not connection.exists(*QUEUES, "unacked"), "all queues are empty")
    assert running.status().state is JobState.SUCCEEDED
    assert finished.status() == status
    np.testing.assert_array_equal(finished.result(timeout=1).lower, first.lower)
    assert processes(service) == before


def test_remote_control_survives_nonsense(service: RunningService, connection: redis.Redis) -> None:
    """Left to itself, Celery would be deaf after some of these, to commands and to messages."""
    siege = Siege(service, connection)
    commands = [
        b'{"method":"ping","arguments":{"x":1}}',
        b'{"method":"ping","reply_to":5}',
        b'{"method":"ping","pattern":"(","matcher":"pcre"}',
        b'{"method":5}',
        b"[1]",
        b"null",
        b"{",
    ]
    target = Target(Queue.CONTROL)
    messages = [target.encoded(command) for command in commands] + [make(target) for make in HOSTILE.values()]
    for message in messages:
        connection.publish("/0.celery.pidbox", message)
    siege.good_job()
    siege.outlast()
    with Celery("operator", broker=service.settings.broker, set_as_current=False) as app:
        assert [list(reply.values()) for reply in app.control.ping(timeout=5, limit=1)] == [[{"ok": "pong"}]]


def test_garbage_waits_for_the_ledger(tmp_path: Path) -> None:
    """Where the records live in a Redis of their own that is away, nothing is taken that could not be kept."""
    write_workspace(tmp_path / "workspace")
    records = start_redis(tmp_path / "records")
    env = {"UQUEUE_LANE": "off", "UQUEUE_RESULT_URL": records.url}
    folder = tmp_path / "service"
    with running_service(folder, workspace=tmp_path / "workspace", concurrency=1, beat=False, env=env) as service:
        before = processes(service)
        records.stop()
        with connect(service.settings.broker) as broker:
            broker.lpush(Queue.CONTROL, *(b"garbage %d" % number for number in range(20)))
            eventually(lambda: "message_held" in service.services["worker"].log_text(), "the first is held")
            assert broker.llen(Queue.CONTROL) == 19
        with start_redis(tmp_path / "records again", port=records.port) as again, connect(again.url) as connection:
            eventually(lambda: connection.llen(DEAD_KEY) == 20, "all are kept")
            service.client.submit([ROW]).result(timeout=30)
            assert processes(service) == before
            service.supervisor.stop()
