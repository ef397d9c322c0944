"""The ledger's scripts on a real server: the first writer wins, and nobody reads a half-written job."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import redis

from uqueue.embedded import start_redis
from uqueue_config.connections import connect
from uqueue_config.envelope import celery_message
from uqueue_config.errors import InternalError, InvalidFeatures, JobCancelled, JobExpired
from uqueue_config.ledger import Application, Claim, JobRecord, Ledger, LedgerCommands, Outcome, Swept, Verdict
from uqueue_config.names import JobState, job_key, result_key, serving_key, wanted_key

COMMANDS = LedgerCommands(result_ttl=timedelta(seconds=60), record_ttl=timedelta(seconds=600))


@pytest.fixture
def ledger(redis_url: str) -> Iterator[Ledger]:
    with connect(redis_url) as connection:
        yield Ledger(connection)


def application(**changes: Any) -> Application:
    defaults: dict[str, Any] = {"model": "m", "digest": "d", "queue": f"q-{uuid.uuid4()}", "message": "text"}
    return Application(**{**defaults, **changes})


def opened(ledger: Ledger, **changes: Any) -> str:
    job_id = str(uuid.uuid4())
    assert ledger.run(COMMANDS.open(job_id, application(**changes))).verdict is Verdict.OPENED
    return job_id


def begin(ledger: Ledger, job_id: str, max_attempts: int = 3) -> Any:
    return ledger.run(COMMANDS.begin(job_id, model="m", worker="w", max_attempts=max_attempts))


def read(ledger: Ledger, job_id: str) -> JobRecord:
    record = ledger.run(COMMANDS.read(job_id, with_result=True))
    assert record is not None
    return record


def test_a_job_is_recorded_and_queued_in_one_step(ledger: Ledger) -> None:
    one = application()
    job_id = str(uuid.uuid4())
    ledger.run(COMMANDS.open(job_id, one))
    assert ledger.connection.lrange(one.queue, 0, -1) == [b"text"]
    record = read(ledger, job_id)
    assert (record.state, record.attempts, record.model) == (JobState.QUEUED, 0, "m")
    assert ledger.connection.ttl(job_key(job_id)) == -1, "an open job must not lapse"


def test_the_same_request_again_is_the_same_job_and_another_is_a_conflict(ledger: Ledger) -> None:
    one = application()
    job_id = str(uuid.uuid4())
    verdicts = [ledger.run(COMMANDS.open(job_id, one)).verdict for _ in range(3)]
    assert verdicts == [Verdict.OPENED, Verdict.SAME, Verdict.SAME]
    assert ledger.run(COMMANDS.open(job_id, application(digest="other"))).verdict is Verdict.CONFLICT
    assert ledger.connection.llen(one.queue) == 1


def test_a_shape_the_served_model_does_not_have_is_refused(ledger: Ledger) -> None:
    model = f"m-{uuid.uuid4()}"
    ledger.connection.hset(wanted_key(model), mapping={"version": "v", "n_features": 8, "n_targets": 2})
    for changes, verdict, expected in [
        ({"columns": 3}, Verdict.COLUMNS, 8),
        ({"columns": 8, "targets": 1}, Verdict.TARGETS, 2),
        ({"columns": 8, "targets": 2}, Verdict.OPENED, None),
    ]:
        answer = ledger.run(COMMANDS.open(str(uuid.uuid4()), application(model=model, **changes)))
        assert (answer.verdict, answer.expected) == (verdict, expected)


def test_only_the_first_outcome_stays(ledger: Ledger) -> None:
    job_id = opened(ledger)
    begin(ledger, job_id)
    assert ledger.run(COMMANDS.commit(job_id, Outcome.success({"n": 1}))) is True
    assert ledger.run(COMMANDS.commit(job_id, Outcome.success({"n": 2}))) is False
    assert ledger.run(COMMANDS.commit(job_id, Outcome.failure(InternalError(job_id=job_id, reference="r")))) is False
    record = read(ledger, job_id)
    assert record.celery_meta is not None
    assert record.celery_meta["result"] == {"n": 1}
    assert record.state is JobState.SUCCEEDED
    assert 0 < int(ledger.connection.ttl(job_key(job_id))) <= 600
    assert 0 < int(ledger.connection.ttl(result_key(job_id))) <= 60


def test_racing_writers_commit_once(ledger: Ledger, redis_url: str) -> None:
    job_id = opened(ledger)
    begin(ledger, job_id)
    wins: list[int] = []

    def write(number: int) -> None:
        with connect(redis_url) as connection:
            if Ledger(connection).run(COMMANDS.commit(job_id, Outcome.success({"n": number}))):
                wins.append(number)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    meta = read(ledger, job_id).celery_meta
    assert meta is not None
    assert wins == [meta["result"]["n"]]


def test_a_commit_announces_what_it_stores(ledger: Ledger) -> None:
    job_id = opened(ledger)
    with ledger.connection.pubsub(ignore_subscribe_messages=True) as listener:
        listener.subscribe(result_key(job_id))
        listener.get_message(timeout=1)
        ledger.run(COMMANDS.commit(job_id, Outcome.success({"n": 1})))
        message = listener.get_message(timeout=2)
    assert message["data"] == ledger.connection.get(result_key(job_id))


def test_attempts_are_counted_and_bounded(ledger: Ledger) -> None:
    job_id = opened(ledger)
    assert [begin(ledger, job_id, 2).state for _ in range(3)] == ["running", "running", "abandoned"]
    assert read(ledger, job_id).state is JobState.RUNNING, "the caller commits the failure"


def test_cancel_ends_a_queued_job_for_both_kinds_of_client(ledger: Ledger) -> None:
    job_id = opened(ledger)
    assert ledger.run(COMMANDS.cancel(job_id)) is JobState.QUEUED
    record = read(ledger, job_id)
    assert record.state is JobState.CANCELLED
    assert isinstance(record.error, JobCancelled)
    assert record.celery_meta is not None
    assert record.celery_meta["status"] == "REVOKED"
    assert begin(ledger, job_id).state == "cancelled"


def test_cancel_asks_a_running_job_at_its_next_checkpoint(ledger: Ledger) -> None:
    job_id = opened(ledger)
    begin(ledger, job_id)
    progress = COMMANDS.progress(job_id, rows_done=5, rows_total=10)
    assert ledger.run(progress) is False
    assert ledger.run(COMMANDS.cancel(job_id)) is JobState.RUNNING
    assert ledger.run(progress) is True
    record = read(ledger, job_id)
    assert (record.state, record.cancel_requested) == (JobState.RUNNING, True)
    assert (record.rows_done, record.rows_total) == (5, 10)
    assert begin(ledger, job_id).state == "cancelled", "the attempt died before its checkpoint"


def test_cancel_of_an_ended_or_unknown_job_changes_nothing(ledger: Ledger) -> None:
    job_id = opened(ledger)
    ledger.run(COMMANDS.commit(job_id, Outcome.success({})))
    assert ledger.run(COMMANDS.cancel(job_id)) is JobState.SUCCEEDED
    assert read(ledger, job_id).state is JobState.SUCCEEDED
    unknown = str(uuid.uuid4())
    assert ledger.run(COMMANDS.cancel(unknown)) is None
    assert ledger.run(COMMANDS.read(unknown, with_result=True)) is None
    assert not ledger.connection.exists(job_key(unknown))


def test_whoever_looks_first_expires_an_overdue_job(ledger: Ledger) -> None:
    for look in (lambda job_id: begin(ledger, job_id).state, lambda job_id: ledger.run(COMMANDS.cancel(job_id))):
        job_id = opened(ledger, expires_seconds=0.001)
        deadline = read(ledger, job_id).expires_at
        assert deadline is not None
        wait_until_redis_clock_passes(ledger.connection, deadline.timestamp())
        assert look(job_id) == "expired"
        record = read(ledger, job_id)
        assert record.state is JobState.EXPIRED
        assert isinstance(record.error, JobExpired)


def wait_until_redis_clock_passes(connection: redis.Redis, moment: float) -> None:
    while True:
        seconds, micros = connection.time()  # type: ignore[misc]
        if seconds + micros / 1e6 > moment:
            return


def test_a_job_of_a_foreign_program_gets_its_record_when_it_begins(ledger: Ledger) -> None:
    job_id = str(uuid.uuid4())
    assert begin(ledger, job_id).state == "running"
    assert read(ledger, job_id).model == "m"


def test_begin_answers_the_wanted_version(ledger: Ledger) -> None:
    model = f"m-{uuid.uuid4()}"
    job_id = opened(ledger, model=model)
    ledger.connection.hset(wanted_key(model), "version", "v2")
    attempt = ledger.run(COMMANDS.begin(job_id, model=model, worker="w", max_attempts=3))
    assert attempt.wanted_version == "v2"


def test_failures_keep_code_and_facts(ledger: Ledger) -> None:
    job_id = opened(ledger)
    ledger.run(COMMANDS.commit(job_id, Outcome.failure(InvalidFeatures(reason="expected 8 columns, got 3", got=3))))
    record = read(ledger, job_id)
    assert isinstance(record.error, InvalidFeatures)
    assert record.error.got == 3
    meta = json.loads(json.dumps(record.celery_meta))
    assert meta["status"] == "FAILURE"
    assert meta["result"]["exc_type"] == "InvalidFeatures"


def test_scripts_survive_a_server_that_forgot_them(ledger: Ledger) -> None:
    job_id = opened(ledger)
    ledger.connection.script_flush()
    assert begin(ledger, job_id).state == "running"
    ledger.connection.script_flush()
    assert ledger.run_many([COMMANDS.commit(job_id, Outcome.success({}))]) == [True]


# --- the sweeper ---


def sweep(ledger: Ledger, *, max_attempts: int = 3, queue_is_here: bool = True) -> Swept:
    return ledger.run(
        COMMANDS.sweep(grace_seconds=0, most=1000, max_attempts=max_attempts, queue_is_here=queue_is_here)
    )


@pytest.fixture
def swept_ledger(tmp_path: Path) -> Iterator[Ledger]:
    """A Redis of the test's own, since a sweep looks at every open job."""
    with start_redis(tmp_path) as server, connect(server.url) as connection:
        yield Ledger(connection)


def envelope(job_id: str) -> str:
    return celery_message(job_id, "uqueue.predict", {}, queue="q", argsrepr="")


def submit(ledger: Ledger, queue: str = "q") -> str:
    job_id = str(uuid.uuid4())
    ledger.run(COMMANDS.open(job_id, application(queue=queue, message=envelope(job_id))))
    return job_id


def alive(ledger: Ledger, worker: str = "w") -> None:
    ledger.connection.set(serving_key("m", worker), "{}", ex=60)


def queued_ids(ledger: Ledger, queue: str = "q") -> list[str]:
    messages: Any = ledger.connection.lrange(queue, 0, -1)
    return [json.loads(message)["headers"]["id"] for message in reversed(messages)]


def test_jobs_in_the_queue_are_left_there(swept_ledger: Ledger) -> None:
    ids = [submit(swept_ledger) for _ in range(5)]
    sweep(swept_ledger)
    assert queued_ids(swept_ledger) == ids


def test_a_message_that_vanished_is_published_again(swept_ledger: Ledger) -> None:
    ids = [submit(swept_ledger) for _ in range(3)]
    swept_ledger.connection.rpop("q", 3)
    wait_until_redis_clock_passes(swept_ledger.connection, read(swept_ledger, ids[-1]).created_at.timestamp() + 0.002)
    sweep(swept_ledger)
    assert sorted(queued_ids(swept_ledger)) == sorted(ids)
    sweep(swept_ledger)
    assert len(queued_ids(swept_ledger)) == 3, "once, not at every sweep"


def test_a_message_that_vanished_while_others_wait_is_published_again(swept_ledger: Ledger) -> None:
    lost = submit(swept_ledger)
    swept_ledger.connection.rpop("q")
    wait_until_redis_clock_passes(swept_ledger.connection, read(swept_ledger, lost).created_at.timestamp() + 0.002)
    waiting = submit(swept_ledger)
    sweep(swept_ledger)
    assert queued_ids(swept_ledger) == [waiting, lost]


def test_a_job_goes_back_when_its_process_is_gone(swept_ledger: Ledger) -> None:
    job_id = submit(swept_ledger)
    swept_ledger.connection.rpop("q")
    alive(swept_ledger)
    begin(swept_ledger, job_id)
    sweep(swept_ledger)
    assert queued_ids(swept_ledger) == []
    swept_ledger.connection.delete(serving_key("m", "w"))
    sweep(swept_ledger)
    assert queued_ids(swept_ledger) == [job_id]
    assert read(swept_ledger, job_id).state is JobState.QUEUED


def test_a_second_delivery_waits_for_the_first_to_die(swept_ledger: Ledger) -> None:
    job_id = submit(swept_ledger)
    alive(swept_ledger, "other")
    swept_ledger.run(COMMANDS.begin(job_id, model="m", worker="other", max_attempts=3))
    assert begin(swept_ledger, job_id).state == "elsewhere"
    assert read(swept_ledger, job_id).attempts == 1
    swept_ledger.connection.delete(serving_key("m", "other"))
    assert begin(swept_ledger, job_id).state == "running"


def test_a_job_started_too_often_is_handed_over_for_failure(swept_ledger: Ledger) -> None:
    job_id = submit(swept_ledger)
    swept_ledger.connection.rpop("q")
    begin(swept_ledger, job_id)
    assert sweep(swept_ledger, max_attempts=1).abandoned == (job_id,)
    assert queued_ids(swept_ledger) == []


def test_ended_jobs_leave_no_message_and_are_not_swept(swept_ledger: Ledger) -> None:
    job_id = submit(swept_ledger)
    swept_ledger.run(COMMANDS.commit(job_id, Outcome.success({})))
    swept_ledger.run(COMMANDS.cancel(submit(swept_ledger)))
    swept_ledger.connection.delete("q")
    sweep(swept_ledger)
    assert queued_ids(swept_ledger) == []
    assert not swept_ledger.connection.hexists(job_key(job_id), "message")
    assert swept_ledger.connection.zcard("uqueue:open") == 0


def test_where_the_queue_is_elsewhere_the_caller_pushes(swept_ledger: Ledger) -> None:
    job_id = str(uuid.uuid4())
    swept_ledger.run(COMMANDS.open(job_id, application(queue="q", message="text", push=False)))
    assert not swept_ledger.connection.exists("q")
    assert sweep(swept_ledger, queue_is_here=False).messages == (("q", b"text"),)


# --- the lane's claim ---


def claim(ledger: Ledger, most: int = 10) -> Claim:
    return ledger.run(COMMANDS.claim(queue="q", model="m", worker="w", most=most, most_bytes=10**6, max_attempts=2))


def test_a_claim_starts_what_it_takes_in_order(swept_ledger: Ledger) -> None:
    ids = [submit(swept_ledger) for _ in range(5)]
    first, rest = claim(swept_ledger, most=3), claim(swept_ledger)
    assert [job.id for job in (*first.jobs, *rest.jobs)] == ids
    assert {job.attempt for job in first.jobs} == {1}
    assert read(swept_ledger, ids[0]).state is JobState.RUNNING
    assert claim(swept_ledger).jobs == ()


def test_a_claim_stops_at_its_bytes(swept_ledger: Ledger) -> None:
    ids = [submit(swept_ledger) for _ in range(3)]
    command = COMMANDS.claim(queue="q", model="m", worker="w", most=10, most_bytes=1, max_attempts=2)
    assert [job.id for job in swept_ledger.run(command).jobs] == ids[:1]


def test_a_claim_drops_what_has_ended_and_gives_up_what_started_too_often(swept_ledger: Ledger) -> None:
    cancelled, worn, fresh = (submit(swept_ledger) for _ in range(3))
    swept_ledger.run(COMMANDS.cancel(cancelled))
    for _ in range(2):
        begin(swept_ledger, worn)
    claimed = claim(swept_ledger)
    assert [job.id for job in claimed.jobs] == [fresh]
    assert claimed.abandoned == (worn,)


def test_a_forged_message_cannot_change_another_job(swept_ledger: Ledger) -> None:
    job_id = submit(swept_ledger)
    swept_ledger.connection.delete("q")
    forged = celery_message(job_id, "uqueue.predict", {"features": [[666.0]]}, queue="q", argsrepr="")
    swept_ledger.connection.lpush("q", forged)
    [job] = claim(swept_ledger).jobs
    assert json.loads(job.message)["body"] == json.loads(envelope(job_id))["body"]


def test_a_message_without_a_job_goes_to_the_dead_list(swept_ledger: Ledger) -> None:
    for garbage in (b"", b"\xff\x00", b'{"id": "a b"}', b'{"id": 5}'):
        swept_ledger.connection.lpush("q", garbage)
    assert claim(swept_ledger).jobs == ()
    assert swept_ledger.connection.llen("dead") == 4


def test_many_outcomes_are_committed_once_each(swept_ledger: Ledger) -> None:
    ids = [submit(swept_ledger) for _ in range(3)]
    outcome = Outcome.success({"n": 1})
    rows = [(job_id, outcome.state.value, outcome.celery_meta(job_id), "") for job_id in ids]
    assert swept_ledger.run(COMMANDS.commit_many(rows[:2])) == 2
    assert swept_ledger.run(COMMANDS.commit_many(rows)) == 1
    assert {read(swept_ledger, job_id).state for job_id in ids} == {JobState.SUCCEEDED}
