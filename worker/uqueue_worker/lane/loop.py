"""The thread that claims, has answered, and commits.

It never waits while jobs are there: a claim takes what is queued, one job or 256, and answers at once. Only an empty
queue is waited at, by a blocking look that takes nothing off it. While a batch is computed, Redis stores the answers of
the one before and hands out the next.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import structlog
from redis.exceptions import RedisError

from uqueue_config.connections import REPLY_SECONDS
from uqueue_config.errors import JobAbandoned
from uqueue_config.ledger import Claim, Command, LedgerCommands, Outcome
from uqueue_config.names import Queue
from uqueue_config.settings import Settings
from uqueue_worker.lane.batch import Answer, Batch
from uqueue_worker.lane.events import BatchEvents
from uqueue_worker.lane.exchange import SCRIPTS, Exchange
from uqueue_worker.lane.pace import Pace
from uqueue_worker.lane.wire import Wire

MOST_BYTES = 512 * 1024
#: How long one look at an empty queue blocks; also how quickly an idle lane stops.
LOOK_SECONDS = 1.0
#: A process that met what it cannot repair ends with this code; its jobs start again elsewhere, each alone.
EX_SOFTWARE = 70
_QUEUE = Queue.PREDICTIONS.value
#: Moves the queue's oldest message onto its own place, as soon as there is one.
LOOK = ("BLMOVE", _QUEUE, _QUEUE, "RIGHT", "RIGHT", LOOK_SECONDS)
_log = structlog.get_logger("uqueue.lane")


class Watch(Protocol):
    """Somebody outside who ends this process if a computation takes too long."""

    def busy(self, job_id: str) -> None: ...

    def idle(self) -> None: ...


class Lane:
    """Answers jobs of the predictions queue until it is stopped. `worker` names this process in job records, `tracks`
    are those that it serves.

    `watch` is told when a computation begins and ends. `retire` is called when this process has answered as many jobs
    as it should.
    """

    def __init__(
        self,
        settings: Settings,
        batch: Batch,
        worker: str,
        tracks: Sequence[str],
        *,
        watch: Watch,
        retire: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._batch = batch
        self._worker = worker
        self._tracks = tuple(tracks)
        self._watch = watch
        self._retire = retire
        self._commands = LedgerCommands(settings.result_ttl_seconds, settings.record_ttl_seconds)
        self._exchange = Exchange(self._commands, self._claim, LOOK)
        self._pace = Pace()
        self._events: BatchEvents | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="uqueue-lane", daemon=True)
        self._in_hand: Claim | None = None
        self.jobs_done = 0

    def start(self, events: BatchEvents | None = None) -> None:
        self._events = events
        self._thread.start()

    def stop(self, timeout_seconds: float) -> None:
        """Finish what was claimed, claim no more."""
        self._stopping.set()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout_seconds)

    def _run(self) -> None:
        while not self._is_through():
            try:
                with Wire(self._settings.result_store, SCRIPTS, reply_seconds=LOOK_SECONDS + REPLY_SECONDS) as wire:
                    self._exchange.resume(wire)
                    while not self._is_through():
                        self._turn()
            except RedisError as error:
                _log.warning("redis_unreachable", reason=str(error))
                if self._stopping.wait(0.5):
                    return  # what is not stored starts again elsewhere
            except Exception:
                _log.exception("lane_failed")
                os._exit(EX_SOFTWARE)
        if not self._stopping.is_set():
            self._retire()

    def _is_through(self) -> bool:
        return self._is_ending() and self._in_hand is None and self._exchange.is_settled

    def _is_ending(self) -> bool:
        return self._stopping.is_set() or self.jobs_done >= (self._settings.max_jobs_per_process or math.inf)

    def _turn(self) -> None:
        """Answer what is in hand, and have the next batch handed out meanwhile."""
        exchange = self._exchange
        claim = self._in_hand
        if claim is not None:
            if self._pace.is_fast and not exchange.is_claiming and not self._is_ending():
                exchange.ask(wait=False)
            self._answer(claim)
            self._in_hand = None
        elif not exchange.is_claiming:
            if self._is_ending():
                exchange.settle()
                return
            exchange.ask(wait=True)
        if exchange.is_claiming:
            self._in_hand = self._received(exchange.receive())

    def _received(self, claim: Claim) -> Claim | None:
        failures = [
            Answer.of(job_id, Outcome.failure(JobAbandoned(job_id=job_id, attempts=self._settings.max_attempts)))
            for job_id in claim.abandoned
        ]
        if failures:
            self._exchange.commit(failures)
        return claim if claim.jobs else None

    def _answer(self, claim: Claim) -> None:
        jobs, started, begun = claim.jobs, time.time(), time.monotonic()
        self._watch.busy(jobs[0].id if len(jobs) == 1 else "")
        by_id = {job.id: job for job in jobs} if self._events else {}
        wanted = dict(zip(self._tracks, claim.wanted_versions, strict=True))
        for answers in self._batch.answers(jobs, wanted):
            event = self._events.of(answers, by_id, started) if self._events else None
            self._exchange.commit(answers, event)
        self.jobs_done += len(jobs)
        self._watch.idle()
        seconds = time.monotonic() - begun
        self._pace.note(len(jobs), seconds)
        facts: dict[str, list[str | None]] = {"job_ids": [job.id for job in jobs]}
        traced = self._batch.traced
        if traced:  # lists beside `job_ids`, since a line for each job would take longer than the job
            for name in ("traceparent", "request_id"):
                facts[f"{name}s"] = [traced.get(job.id, {}).get(name) for job in jobs]
        _log.info("batch_answered", jobs=len(jobs), seconds=round(seconds, 6), **facts)

    def _claim(self, token: int, may_retry: bool, again: bool) -> Command[Claim]:
        return self._commands.claim(
            queue=_QUEUE,
            model=self._tracks[0],
            worker=self._worker,
            token=token,
            tracks=self._tracks,
            most=self._pace.most_jobs,
            most_bytes=MOST_BYTES,
            most_message_bytes=self._settings.max_inline_bytes,
            max_attempts=self._settings.max_attempts,
            may_retry=may_retry,
            again=again,
        )
