"""What a process with a lane does: the turns of `Lane`, over the real `Exchange` and `Pace`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from redis.exceptions import ConnectionError

from simulation.network import Link, NotYet
from simulation.process import Ended, Process, Steps
from simulation.requests import TAKE_TIME, Kind, answer_to, unforeseen
from simulation.server import QUEUE
from uqueue_config.envelope import read_celery_message
from uqueue_config.errors import InvalidMessage, JobAbandoned, JobCancelled, JobTimeLimit
from uqueue_config.ledger import Claim, ClaimedJob, Command, Outcome
from uqueue_config.names import DEFAULT_MODEL, Task, lane_of
from uqueue_worker.lane.batch import Answer
from uqueue_worker.lane.exchange import Exchange
from uqueue_worker.lane.loop import LOOK, MOST_BYTES
from uqueue_worker.lane.pace import Pace

#: Jobs that are evaluated together, so that a claim is answered in several groups.
GROUP = 3
Work = tuple[ClaimedJob, dict[str, Any]]


class SimulatedLane:
    """Mirrors `Lane._run` and `Batch.answers` step by step; where they wait, this yields."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._worker = lane_of(process.name)
        self._world = process.world
        self._commands = self._world.commands
        self._exchange: Exchange = self._world.exchange_class(self._commands, self._claim, LOOK)
        self._pace = Pace()
        self._claimed: Claim | None = None
        self._busy: tuple[int, Sequence[ClaimedJob]] | None = None

    def run(self) -> Steps[None]:
        while not self._is_through():
            try:
                with self._process.connect() as link:
                    self._exchange.resume(link)
                    while not self._is_through():
                        yield from self._turn(link)
            except ConnectionError:
                yield 500
                if self._process.is_ending:
                    return  # what is not stored starts again elsewhere
        self._world.book.retires(self._worker)

    def _is_through(self) -> bool:
        return self._process.is_ending and self._claimed is None and self._exchange.is_settled

    def enforce_time_limit(self, _: Process) -> Steps[None]:
        """What `Warden` does: end a process whose batch takes too long, and fail a job that was alone."""
        busy, limit = self._busy, self._world.time_limit_ms
        if busy is None or self._world.elapsed_ms - busy[0] < limit:
            return
        jobs = busy[1]
        if len(jobs) == 1:
            outcome = Outcome.failure(JobTimeLimit(job_id=jobs[0].id, limit_seconds=limit / 1000))
            with contextlib.suppress(ConnectionError):
                yield from self._process.call(self._commands.commit([(jobs[0].id, outcome)]))
        raise Ended("time limit")

    def _turn(self, link: Link) -> Steps[None]:
        exchange = self._exchange
        claim = self._claimed
        if claim is not None:
            if self._pace.is_fast and not exchange.is_claiming and not self._process.is_ending:
                exchange.ask(wait=False)
                yield None
            yield from self._answer(claim)
            self._claimed = None
        elif not exchange.is_claiming:
            if self._process.is_ending:
                yield from self._settle(link)
                return
            exchange.ask(wait=True)
        if exchange.is_claiming:
            received = yield from self._receive(link)
            self._claimed = self._received(received)

    def _receive(self, link: Link) -> Steps[Claim]:
        while True:
            try:
                return self._exchange.receive()
            except NotYet:
                yield link

    def _settle(self, link: Link) -> Steps[None]:
        while True:
            try:
                return self._exchange.settle()
            except NotYet:
                yield link

    def _received(self, claim: Claim) -> Claim | None:
        failures = [
            Answer.of(job_id, Outcome.failure(JobAbandoned(job_id=job_id, attempts=self._world.max_attempts)))
            for job_id in claim.abandoned
        ]
        if failures:
            self._exchange.commit(failures)
        return claim if claim.jobs else None

    def _answer(self, claim: Claim) -> Steps[None]:
        started = self._world.elapsed_ms
        self._busy = started, claim.jobs
        ready: list[Work] = []
        refused: list[Answer] = []
        for job in claim.jobs:
            try:
                ready.append((job, _kwargs(job)))
            except InvalidMessage as error:
                refused.append(Answer.of(job.id, Outcome.failure(error), job.attempt))
        if refused:
            self._commit(refused)
            yield None
        for group in _grouped(ready):
            answers = []
            for job, kwargs in group:
                outcome = yield from self._compute(job, kwargs)
                answers.append(Answer.of(job.id, outcome, job.attempt))
            self._commit(answers)
            yield None
        self._busy = None
        self._pace.note(len(claim.jobs), (self._world.elapsed_ms - started) / 1000)

    def _compute(self, job: ClaimedJob, kwargs: dict[str, Any]) -> Steps[Outcome]:
        world = self._world
        world.compute(self._worker, job.id, kwargs)
        if kwargs["kind"] == Kind.STUCK:
            yield world.forever_ms
        if kwargs["kind"] in TAKE_TIME:
            yield from world.spend(self._process)
            if job.attempt > 1:
                command = self._commands.progress(job.id, rows_done=1, rows_total=2)
                try:
                    is_over = yield from self._process.call(command)
                except ConnectionError:
                    if not world.is_patient:
                        return unforeseen(job.id)
                    is_over = False
                if is_over:
                    return Outcome.failure(JobCancelled(job_id=job.id))
        return answer_to(kwargs, job.id, kwargs["kind"] == Kind.FLAKY and world.draws(0.5))

    def _commit(self, answers: Sequence[Answer]) -> None:
        self._world.book.answered(self._worker, [answer.job_id for answer in answers])
        self._exchange.commit(answers)

    def _claim(self, token: int, may_retry: bool, again: bool) -> Command[Claim]:
        return self._commands.claim(
            queue=QUEUE,
            model=DEFAULT_MODEL,
            worker=self._worker,
            token=token,
            most=min(self._pace.most_jobs, self._world.most_jobs),
            most_bytes=MOST_BYTES,
            most_message_bytes=4 * 1024 * 1024,
            max_attempts=self._world.max_attempts,
            may_retry=may_retry,
            again=again,
        )


def _kwargs(job: ClaimedJob) -> dict[str, Any]:
    task, kwargs = read_celery_message(job.message)
    if task != Task.PREDICT:
        raise InvalidMessage(reason=f"unknown task {task[:80]!r}")
    return kwargs


def _grouped(ready: Sequence[Work]) -> Iterator[list[Work]]:
    group: list[Work] = []
    for work in ready:
        alone = work[0].attempt > 1
        if group and (alone or len(group) == GROUP):
            yield group
            group = []
        if alone:
            yield [work]
        else:
            group.append(work)
    if group:
        yield group
