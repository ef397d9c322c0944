"""The ledger's scripts on a real server: the first writer wins, and nobody reads a half-written job."""

from __future__ import annotations

import itertools
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
from uqueue_config.errors import InternalError, InvalidFeatures, JobAbandoned, JobCancelled, JobExpired
from uqueue_config.ledger import (
    Application,
    Claim,
    JobRecord,
    Ledger,
    LedgerCommands,
    Opened,
    Outcome,
    ReplayVerdict,
    Swept,
    Verdict,
    Wish,
)
from uqueue_config.names import JobState, job_key, result_key, serving_key, wanted_key

TOKENS = itertools.count(100)
COMMANDS = LedgerCommands(result_ttl=timedelta(seconds=60), record_ttl=timedelta(seconds=600))


@pytest.fixture
def ledger(redis_url: str) -> Iterator[Ledger]:
    with connect(redis_url) as connection:
        yield Ledger(connection)


def application(job_id: str | None = None, **changes: Any) -> Application:
    defaults: dict[str, Any] = {"digest": "d", "message": "text"}
    return Application(job_id or str(uuid.uuid4()), **{**defaults, **changes})


def open_all(ledger: Ledger, *applications: Application, **changes: Any) -> list[Opened]:
    defaults: dict[str, Any] = {"model": "m", "queue": f"q-{uuid.uuid4()}", "queue_limit": 1000}
    return ledger.run(COMMANDS.open(applications, **{**defaults, **changes}))


def opened(ledger: Ledger, **changes: Any) -> str:
    one = application()
    assert [answer.verdict for answer in open_all(ledger, one, **changes)] == [Verdict.OPENED]
    return one.job_id


def commit(ledger: Ledger, job_id: str, outcome: Outcome, attempt: int | None = None) -> int:
    attempts = {} if attempt is None else {job_id: attempt}
    return ledger.run(COMMANDS.commit([(job_id, outcome)], attempts=attempts))


def begin(ledger: Ledger, job_id: str, max_attempts: int = 3, worker: str = "w") -> Any:
    return ledger.run(COMMANDS.begin(job_id, model="m", worker=worker, max_attempts=max_attempts))


def read(ledger: Ledger, job_id: str) -> JobRecord:
    record = ledger.run(COMMANDS.read(job_id, with_result=True))
    assert record is not None
    return record


def test_a_job_is_recorded_and_queued_in_one_step(ledger: Ledger) -> None:
    one, queue = application(), f"q-{uuid.uuid4()}"
    open_all(ledger, one, queue=queue)
    assert ledger.connection.lrange(queue, 0, -1) == [b"text"]
    record = read(ledger, one.job_id)
    assert (record.state, record.attempts, record.model) == (JobState.QUEUED, 0, "m")
    assert ledger.connection.ttl(job_key(one.job_id)) == -1, "an open job must not lapse"


def test_many_jobs_are_queued_in_their_order(ledger: Ledger) -> None:
    queue = f"q-{uuid.uuid4()}"
    open_all(ledger, *(application(message=str(number)) for number in range(300)), queue=queue)
    messages: Any = ledger.connection.rpop(queue, 300)
    assert [int(message) for message in messages] == list(range(300))


def test_the_same_request_again_is_the_same_job_and_another_is_a_conflict(ledger: Ledger) -> None:
    one, queue = application(), f"q-{uuid.uuid4()}"
    verdicts = [open_all(ledger, one, queue=queue)[0].verdict for _ in range(3)]
    assert verdicts == [Verdict.OPENED, Verdict.SAME, Verdict.SAME]
    other = application(one.job_id, digest="other")
    assert open_all(ledger, other, queue=queue)[0].verdict is Verdict.CONFLICT
    assert ledger.connection.llen(queue) == 1


def test_a_shape_the_served_model_does_not_have_is_refused(ledger: Ledger) -> None:
    model = f"m-{uuid.uuid4()}"
    ledger.connection.hset(wanted_key(model), mapping={"version": "v", "n_features": 8, "n_targets": 2})
    for changes, verdict, expected in [
        ({"columns": 3}, Verdict.COLUMNS, 8),
        ({"columns": 8, "targets": 1}, Verdict.TARGETS, 2),
        ({"columns": 8, "targets": 2}, Verdict.OPENED, None),
    ]:
        [answer] = open_all(ledger, application(**changes), model=model)
        assert (answer.verdict, answer.detail) == (verdict, expected)


@pytest.mark.parametrize("push", [True, False])
def test_a_full_queue_takes_no_more_and_says_when_to_come_back(ledger: Ledger, push: bool) -> None:
    queue = f"q-{uuid.uuid4()}"
    waiting = [application() for _ in range(3)]
    limits = {"queue": queue, "queue_limit": 5, "push": push}
    open_all(ledger, *waiting, **limits)
    answers = open_all(ledger, *(application() for _ in range(3)), **limits)
    assert {answer.verdict for answer in answers} == {Verdict.FULL}, "all or none of a batch"
    assert all(answer.detail and 1 <= answer.detail <= 60 for answer in answers)
    assert [answer.verdict for answer in open_all(ledger, *waiting, **limits)] == [Verdict.SAME] * 3
    assert [one.verdict for one in open_all(ledger, application(), application(), **limits)] == [Verdict.OPENED] * 2


def test_jobs_that_only_travel_together_fill_a_queue_to_its_limit(ledger: Ledger) -> None:
    answers = open_all(ledger, *(application() for _ in range(8)), queue_limit=5, batch=False)
    assert [answer.verdict for answer in answers] == [Verdict.OPENED] * 5 + [Verdict.FULL] * 3


def test_only_the_first_outcome_stays(ledger: Ledger) -> None:
    job_id = opened(ledger)
    begin(ledger, job_id)
    assert commit(ledger, job_id, Outcome.success({"n": 1})) == 1
    assert commit(ledger, job_id, Outcome.success({"n": 2})) == 0
    assert commit(ledger, job_id, Outcome.failure(InternalError(job_id=job_id, reference="r"))) == 0
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
            if commit(Ledger(connection), job_id, Outcome.success({"n": number})):
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
        commit(ledger, job_id, Outcome.success({"n": 1}))
        message = listener.get_message(timeout=2)
    assert message["data"] == ledger.connection.get(result_key(job_id))


def test_attempts_are_counted_and_bounded(ledger: Ledger) -> None:
    job_id = opened(ledger)
    assert [begin(ledger, job_id, 2, one).state for one in "abc"] == ["running", "running", "abandoned"]
    assert read(ledger, job_id).state is JobState.RUNNING, "the caller commits the failure"


def test_a_process_that_asks_again_lost_only_the_reply(ledger: Ledger) -> None:
    job_id = opened(ledger)
    assert [begin(ledger, job_id).number for _ in range(3)] == [1, 1, 1]


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
    commit(ledger, job_id, Outcome.success({}))
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


def test_begin_and_claim_answer_the_wanted_versions(swept_ledger: Ledger) -> None:
    model = f"m-{uuid.uuid4()}"
    tracks = (model, f"{model}@canary", f"{model}@shadow")
    number = 1_795_000_000_123
    swept_ledger.connection.hset(wanted_key(model), mapping={"version": "v2", "fence": number})
    swept_ledger.connection.hset(wanted_key(tracks[2]), "version", "v3")
    wishes = (Wish("v2", number), None, Wish("v3"))
    begin = COMMANDS.begin(submit(swept_ledger), model=model, worker="w", max_attempts=3, tracks=tracks)
    assert swept_ledger.run(begin).wanted_versions == wishes
    assert claim(swept_ledger, tracks=tracks).wanted_versions == wishes
    assert claim(swept_ledger).wanted_versions == ()


def test_failures_keep_code_and_facts(ledger: Ledger) -> None:
    job_id = opened(ledger)
    commit(ledger, job_id, Outcome.failure(InvalidFeatures(reason="expected 8 columns, got 3", got=3)))
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
    assert commit(ledger, job_id, Outcome.success({})) == 1


# --- the sweeper ---


def sweep(ledger: Ledger, *, max_attempts: int = 3, queue_is_here: bool = True) -> Swept:
    return ledger.run(
        COMMANDS.sweep(["q"], grace_seconds=0, most=1000, max_attempts=max_attempts, queue_is_here=queue_is_here)
    )


@pytest.fixture
def swept_ledger(tmp_path: Path) -> Iterator[Ledger]:
    """A Redis of the test's own, since a sweep looks at every open job."""
    with start_redis(tmp_path) as server, connect(server.url) as connection:
        yield Ledger(connection)


def envelope(job_id: str) -> str:
    return celery_message(job_id, "uqueue.predict", {}, queue="q", argsrepr="")


def wait_a_moment(ledger: Ledger) -> None:
    """Let Redis' clock, which counts milliseconds, move on."""
    seconds, micros = ledger.connection.time()  # type: ignore[misc]
    wait_until_redis_clock_passes(ledger.connection, seconds + micros / 1e6 + 0.002)


def submit(ledger: Ledger, queue: str = "q") -> str:
    job_id = str(uuid.uuid4())
    open_all(ledger, application(job_id, message=envelope(job_id)), queue=queue)
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
    wait_a_moment(swept_ledger)
    sweep(swept_ledger)
    assert sorted(queued_ids(swept_ledger)) == sorted(ids)
    sweep(swept_ledger)
    assert len(queued_ids(swept_ledger)) == 3, "once, not at every sweep"


def test_a_message_that_vanished_while_others_wait_is_published_again(swept_ledger: Ledger) -> None:
    lost = submit(swept_ledger)
    swept_ledger.connection.rpop("q")
    wait_a_moment(swept_ledger)
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
    commit(swept_ledger, job_id, Outcome.success({}))
    swept_ledger.run(COMMANDS.cancel(submit(swept_ledger)))
    swept_ledger.connection.delete("q")
    sweep(swept_ledger)
    assert queued_ids(swept_ledger) == []
    assert swept_ledger.connection.hget(job_key(job_id), "message") == b""
    assert not swept_ledger.connection.exists("uqueue:running", "uqueue:queued:q")


def test_where_the_queue_is_elsewhere_the_caller_pushes(swept_ledger: Ledger) -> None:
    open_all(swept_ledger, application(), queue="q", push=False)
    wait_a_moment(swept_ledger)
    assert not swept_ledger.connection.exists("q")
    assert sweep(swept_ledger, queue_is_here=False).messages == (("q", b"text"),)


# --- the lane's claim ---


def claim(ledger: Ledger, most: int = 10, **changes: Any) -> Claim:
    defaults = {"queue": "q", "model": "m", "worker": "w", "token": next(TOKENS), "most": most}
    limits = {"most_bytes": 10**6, "most_message_bytes": 10**5, "max_attempts": 2}
    return ledger.run(COMMANDS.claim(**{**defaults, **limits, **changes}))


def die(ledger: Ledger, *job_ids: str) -> None:
    """Let the process that holds these jobs vanish, and the sweeper find out."""
    wait_a_moment(ledger)
    sweep(ledger)
    assert set(job_ids) <= set(queued_ids(ledger))


def test_a_claim_starts_what_it_takes_in_order(swept_ledger: Ledger) -> None:
    ids = [submit(swept_ledger) for _ in range(5)]
    first, rest = claim(swept_ledger, most=3), claim(swept_ledger)
    assert [job.id for job in (*first.jobs, *rest.jobs)] == ids
    assert {job.attempt for job in first.jobs} == {1}
    assert read(swept_ledger, ids[0]).state is JobState.RUNNING
    assert claim(swept_ledger).jobs == ()


def test_a_claim_stops_at_its_bytes(swept_ledger: Ledger) -> None:
    ids = [submit(swept_ledger) for _ in range(3)]
    assert [job.id for job in claim(swept_ledger, most_bytes=1).jobs] == ids[:1]


def test_a_message_longer_than_a_job_is_no_job(swept_ledger: Ledger) -> None:
    known, unknown = submit(swept_ledger), str(uuid.uuid4())
    swept_ledger.connection.lpush("q", envelope(unknown))
    assert [job.id for job in claim(swept_ledger, most_message_bytes=100).jobs] == [known], "its client knew a limit"
    letter = swept_ledger.run(COMMANDS.letter("1"))
    assert letter is not None
    assert (letter.job_id, letter.reason) == (unknown, "the message is longer than a job may be")


def test_a_claim_that_comes_late_takes_nothing(swept_ledger: Ledger) -> None:
    claim(swept_ledger, token=7, again=True)
    submit(swept_ledger)
    assert claim(swept_ledger, token=6).jobs == claim(swept_ledger, token=7).jobs == ()


def test_a_claim_whose_reply_was_lost_is_answered_again(swept_ledger: Ledger) -> None:
    ids = [submit(swept_ledger) for _ in range(3)]
    lost = claim(swept_ledger, most=2, token=7)
    assert claim(swept_ledger, token=7, again=True) == lost
    assert [job.id for job in claim(swept_ledger, token=8, again=True).jobs] == ids[2:], "that claim took nothing"
    assert read(swept_ledger, ids[0]).attempts == 1


def test_a_claim_that_was_answered_again_leaves_out_what_has_ended(swept_ledger: Ledger) -> None:
    ids = [submit(swept_ledger) for _ in range(2)]
    claim(swept_ledger, token=7)
    commit(swept_ledger, ids[0], Outcome.success({}))
    assert [job.id for job in claim(swept_ledger, token=7, again=True).jobs] == ids[1:]


def test_a_claim_drops_what_has_ended_and_gives_up_what_started_too_often(swept_ledger: Ledger) -> None:
    cancelled, worn, fresh = (submit(swept_ledger) for _ in range(3))
    swept_ledger.run(COMMANDS.cancel(cancelled))
    for _ in range(2):
        begin(swept_ledger, worn)
        swept_ledger.connection.hset(job_key(worn), "state", "queued")
    claimed = claim(swept_ledger)
    assert [job.id for job in claimed.jobs] == [fresh]
    assert claimed.abandoned == (worn,)


def test_jobs_that_started_before_are_handed_out_alone(swept_ledger: Ledger) -> None:
    tried = [submit(swept_ledger) for _ in range(2)]
    assert len(claim(swept_ledger).jobs) == 2
    die(swept_ledger, *tried)
    fresh = submit(swept_ledger)
    assert claim(swept_ledger, may_retry=False).jobs == (), "somebody who holds others gets none"
    order = [[job.id for job in claim(swept_ledger).jobs] for _ in range(3)]
    assert sorted(order[:2]) == sorted([one] for one in tried)
    assert order[2] == [fresh]


def test_a_surplus_message_of_a_job_that_is_computed_is_dropped(swept_ledger: Ledger) -> None:
    job_id = submit(swept_ledger)
    claim(swept_ledger)
    swept_ledger.connection.lpush("q", envelope(job_id))
    assert claim(swept_ledger).jobs == ()
    assert queued_ids(swept_ledger) == []


def test_a_forged_message_cannot_change_another_job(swept_ledger: Ledger) -> None:
    job_id = submit(swept_ledger)
    swept_ledger.connection.delete("q")
    forged = celery_message(job_id, "uqueue.predict", {"features": [[666.0]]}, queue="q", argsrepr="")
    swept_ledger.connection.lpush("q", forged)
    [job] = claim(swept_ledger).jobs
    assert json.loads(job.message)["body"] == json.loads(envelope(job_id))["body"]


def test_another_request_under_the_id_of_a_job_does_not_begin(swept_ledger: Ledger) -> None:
    job_id = submit(swept_ledger)
    command = COMMANDS.begin(job_id, model="m", worker="w", max_attempts=3, digest="of another request")
    assert swept_ledger.run(command).state == "forged"
    assert read(swept_ledger, job_id).state is JobState.QUEUED


# --- outcomes of many, stale outcomes, dead letters ---


def test_many_outcomes_are_committed_once_each(swept_ledger: Ledger) -> None:
    ids = [submit(swept_ledger) for _ in range(3)]
    outcomes = [(job_id, Outcome.success({"n": 1})) for job_id in ids]
    assert swept_ledger.run(COMMANDS.commit(outcomes[:2])) == 2
    assert swept_ledger.run(COMMANDS.commit(outcomes)) == 1
    assert {read(swept_ledger, job_id).state for job_id in ids} == {JobState.SUCCEEDED}


def test_the_failure_of_an_attempt_that_was_taken_over_does_not_count(swept_ledger: Ledger) -> None:
    job_id = submit(swept_ledger)
    claim(swept_ledger)
    die(swept_ledger, job_id)
    claim(swept_ledger)
    assert commit(swept_ledger, job_id, Outcome.failure(InternalError(job_id=job_id, reference="r")), attempt=1) == 0
    assert read(swept_ledger, job_id).state is JobState.RUNNING
    assert commit(swept_ledger, job_id, Outcome.success({"n": 1}), attempt=1) == 1, "its answer would be the same"


def given_up(ledger: Ledger) -> str:
    job_id = submit(ledger)
    claim(ledger)
    commit(ledger, job_id, Outcome.failure(JobAbandoned(job_id=job_id, attempts=1)))
    return job_id


def test_a_job_that_is_given_up_becomes_a_dead_letter(swept_ledger: Ledger) -> None:
    job_id = given_up(swept_ledger)
    letter = swept_ledger.run(COMMANDS.letter(job_id))
    assert letter is not None
    assert (letter.number, letter.queue, letter.job_id) == (1, "q", job_id)
    assert "given up after 1 attempts" in letter.reason
    assert letter.message == envelope_like(letter.message, job_id)
    assert swept_ledger.run(COMMANDS.letter("1")) == letter


def envelope_like(message: bytes | None, job_id: str) -> bytes | None:
    return message if message and json.loads(message)["headers"]["id"] == job_id else None


def test_a_replayed_job_is_open_again_and_its_letter_gone(swept_ledger: Ledger) -> None:
    job_id = given_up(swept_ledger)
    assert swept_ledger.run(COMMANDS.replay(1, queue_is_here=True)).verdict is ReplayVerdict.REPLAYED
    record = read(swept_ledger, job_id)
    assert (record.state, record.attempts, record.error, record.celery_meta) == (JobState.QUEUED, 0, None, None)
    assert [job.id for job in claim(swept_ledger).jobs] == [job_id]
    assert commit(swept_ledger, job_id, Outcome.success({})) == 1
    assert swept_ledger.run(COMMANDS.letters(0, 10)).total == 0
    assert swept_ledger.run(COMMANDS.replay(1, queue_is_here=True)).verdict is ReplayVerdict.UNKNOWN


def test_messages_without_a_job_become_dead_letters(swept_ledger: Ledger) -> None:
    garbage = [b"", b"\xff\x00", b'{"id": "a b"}', b'{"id": 5}']
    for one in garbage:
        swept_ledger.connection.lpush("q", one)
    assert claim(swept_ledger).jobs == ()
    page = swept_ledger.run(COMMANDS.letters(1, 2))
    assert (page.total, [letter.number for letter in page.letters]) == (4, [3, 2])
    kept = [swept_ledger.run(COMMANDS.letter(str(number))) for number in range(1, 5)]
    assert [letter.message for letter in kept if letter] == garbage
    assert swept_ledger.run(COMMANDS.drop([1, 2, 77])) == 2
    assert swept_ledger.connection.llen("dead") == 2


def test_a_letter_too_large_to_be_kept_whole_is_not_replayed(swept_ledger: Ledger) -> None:
    number = swept_ledger.run(COMMANDS.bury("q", b"x" * 100_000, "too large"))
    letter = swept_ledger.run(COMMANDS.letter(str(number)))
    assert letter is not None
    assert (letter.size_bytes, len(letter.message or b"")) == (100_000, 65_536)
    assert swept_ledger.run(COMMANDS.replay(number, queue_is_here=True)).verdict is ReplayVerdict.CUT
    assert not swept_ledger.connection.exists("q")
