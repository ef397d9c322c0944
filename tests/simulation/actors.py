"""What processes without a lane do: producers ask, ordinary workers answer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from redis.exceptions import ConnectionError

from simulation.process import Ended, Process, Steps
from simulation.requests import TAKE_TIME, Kind, Request, answer_to, digest_of, unforeseen
from simulation.server import QUEUE, Violation
from uqueue_config.envelope import read_celery_message
from uqueue_config.errors import InvalidMessage, JobAbandoned, JobCancelled, JobTimeLimit
from uqueue_config.ledger import Attempt, Outcome, Verdict
from uqueue_config.names import DEFAULT_MODEL, JobState, Task, process_of, serving_key

_SHOWN_ID = re.compile(rb'"id": ?"([A-Za-z0-9_.:-]{1,128})"')


# --- producers ---


@dataclass(frozen=True)
class Submission:
    """Requests that are submitted together, after a pause; some are cancelled later."""

    requests: Sequence[Request]
    pause_ms: int
    expires_seconds: float | None = None
    cancelled: Sequence[str] = ()
    also_as: Request | None = None  # somebody else's request under an id of these


def produce(process: Process, submissions: Sequence[Submission], queue_limit: int) -> Steps[None]:
    for one in submissions:
        yield one.pause_ms
        if (yield from _submitted(process, one, queue_limit)):
            yield from _follow(process, one)


def _submitted(process: Process, submission: Submission, queue_limit: int) -> Steps[bool]:
    """Submit until it is known what became of it; False if there was no room in the end."""
    world = process.world
    applications = [request.application() for request in submission.requests]
    for _ in range(4):
        command = world.commands.open(
            applications,
            model=DEFAULT_MODEL,
            queue=QUEUE,
            queue_limit=queue_limit,
            expires_seconds=submission.expires_seconds,
        )
        opened = yield from process.call_patiently(command)
        verdicts = {one.verdict for one in opened}
        if not verdicts <= {Verdict.OPENED, Verdict.SAME, Verdict.FULL} or len(verdicts) > 1:
            raise Violation(f"a batch was answered {[one.verdict.value for one in opened]}")
        if Verdict.FULL not in verdicts:
            return True
        yield 1000 * (opened[0].detail or 1)
    return False


def _follow(process: Process, submission: Submission) -> Steps[None]:
    world = process.world
    if submission.also_as is not None:
        command = world.commands.open(
            [submission.also_as.application()], model=DEFAULT_MODEL, queue=QUEUE, queue_limit=1000
        )
        [opened] = yield from process.call_patiently(command)
        if opened.verdict is not Verdict.CONFLICT:
            raise Violation(f"another request under the id {submission.also_as.job_id} was {opened.verdict.value}")
    for job_id in submission.cancelled:
        yield world.rng.randrange(2000)
        yield from process.call_patiently(world.commands.cancel(job_id))
    record = yield from process.call_patiently(world.commands.read(submission.requests[0].job_id, with_result=True))
    if record is None or record.state.terminal != (record.celery_meta is not None):
        raise Violation(f"{submission.requests[0].job_id} was accepted and reads as {record}")


# --- ordinary workers ---


def work(process: Process) -> Steps[None]:
    """Pop as kombu does, then answer as `JobRunner` and `LedgerBackend` do."""
    world = process.world
    while not process.is_ending:
        yield lambda: world.server.queue_length > 0 or process.is_ending
        try:
            message = yield from process.ask(("RPOP", QUEUE), retries=0)
        except ConnectionError:
            world.book.lost_in_gap(process)
            yield 500
            continue
        process.in_hand = message
        if message is not None:
            yield None  # kombu has popped it and not noted it: killed now, it is gone
            process.unacked = message
            world.book.noted(message)
            yield from _serve(process, message)
            process.unacked = process.in_hand = None
    world.book.retires(process.name)


def _serve(process: Process, message: bytes) -> Steps[None]:
    world = process.world
    try:
        task, kwargs = read_celery_message(message)
        if task != Task.PREDICT:
            raise InvalidMessage(reason=f"unknown task {task[:80]!r}")
    except InvalidMessage as error:
        shown = _SHOWN_ID.search(message)
        job_id = shown[1].decode() if shown else None
        yield from process.call_patiently(world.commands.bury(QUEUE, message, error.reason, job_id))
        return
    shown = _SHOWN_ID.search(message)
    assert shown is not None
    job_id = shown[1].decode()
    try:
        attempt = yield from _begun(process, job_id, kwargs)
    except ConnectionError:
        yield from process.call_patiently(world.commands.commit([(job_id, unforeseen(job_id))]))
        return
    if attempt.state == "forged":
        reason = "a job with this id was submitted with another request"
        yield from process.call_patiently(world.commands.bury(QUEUE, message, reason, job_id))
    elif attempt.state == "abandoned":
        outcome = Outcome.failure(JobAbandoned(job_id=job_id, attempts=world.max_attempts))
        yield from process.call_patiently(world.commands.commit([(job_id, outcome)]))
    elif attempt.state == JobState.RUNNING:
        outcome = yield from _computed(process, job_id, kwargs)
        world.book.answered(process.name, [job_id])
        yield from process.call_patiently(world.commands.commit([(job_id, outcome)]))


def _begun(process: Process, job_id: str, kwargs: dict[str, Any]) -> Steps[Attempt]:
    world = process.world
    command = world.commands.begin(
        job_id, model=DEFAULT_MODEL, worker=process.name, max_attempts=world.max_attempts, digest=digest_of(kwargs)
    )
    attempt = yield from process.call_as_told(command)
    if attempt.holder and world.is_known_to_be_dead(attempt.holder, process):
        yield from process.ask(("DEL", serving_key(DEFAULT_MODEL, process_of(attempt.holder))), retries=100)
        attempt = yield from process.call_as_told(command)
    return attempt


def _computed(process: Process, job_id: str, kwargs: dict[str, Any]) -> Steps[Outcome]:
    world = process.world
    process.computing = job_id, world.elapsed_ms
    world.compute(process.name, job_id, kwargs)
    if kwargs["kind"] == Kind.STUCK:
        yield world.forever_ms
    if kwargs["kind"] in TAKE_TIME:
        yield from world.spend(process)
        command = world.commands.progress(job_id, rows_done=1, rows_total=2)
        try:
            if (yield from process.call_as_told(command)):
                return Outcome.failure(JobCancelled(job_id=job_id))
        except ConnectionError:
            return unforeseen(job_id)
    process.computing = None
    return answer_to(kwargs, job_id, kwargs["kind"] == Kind.FLAKY and world.draws(0.5))


def enforce_time_limit(process: Process) -> Steps[None]:
    """What Celery's main process does: it fails the job, and ends the process that computes it."""
    world, since = process.world, process.computing
    if since is None or world.elapsed_ms - since[1] < world.time_limit_ms:
        return
    outcome = Outcome.failure(JobTimeLimit(job_id=since[0], limit_seconds=world.time_limit_ms / 1000))
    yield from process.call(world.commands.commit([(since[0], outcome)]))
    raise Ended("time limit")
