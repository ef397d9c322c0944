"""The thread that claims, has answered, and commits.

It never waits while jobs are there: a claim takes what is queued, one job or 256, and answers at once. Only an empty
queue is waited at, by a blocking look that takes nothing off it.
"""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import redis
import structlog
from redis.exceptions import RedisError

from uqueue_config.connections import connect
from uqueue_config.errors import JobAbandoned, JobTimeLimit
from uqueue_config.ledger import Claim, Ledger, LedgerCommands, Outcome
from uqueue_config.names import DEFAULT_MODEL, Queue
from uqueue_config.settings import Settings
from uqueue_worker.lane.batch import Batch, committable
from uqueue_worker.lane.events import BatchEvents

MOST_JOBS = 256
MOST_BYTES = 8 * 1024 * 1024
#: How long one look at an empty queue blocks; also how quickly an idle lane stops.
LOOK_SECONDS = 1.0
_log = structlog.get_logger("uqueue.lane")


class Lane:
    """Answers jobs of the predictions queue until it is stopped.

    `worker` names this process in job records. A claim whose reply is lost may have started jobs that nobody here knows
    of. The lane then goes on under another name, told to `rename`, and the sweeper finds them as a dead process's.
    """

    def __init__(
        self,
        settings: Settings,
        batch: Batch,
        worker: str,
        *,
        rename: Callable[[str], None],
        retire: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._batch = batch
        self._worker = worker
        self._rename = rename
        self._retire = retire
        self._claim_was_lost = False
        self._commands = LedgerCommands(settings.result_ttl_seconds, settings.record_ttl_seconds)
        self._ledger = Ledger(connect(settings.result_store))
        self._claims = Ledger(connect(settings.result_store, retries=0))
        self._events: BatchEvents | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="uqueue-lane", daemon=True)
        self._busy: tuple[float, tuple[str, ...]] | None = None
        self.jobs_done = 0

    def start(self, events: BatchEvents | None = None) -> None:
        self._events = events
        self._thread.start()

    def stop(self, timeout_seconds: float) -> None:
        """Finish the batch at hand, claim no more."""
        self._stopping.set()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout_seconds)

    def enforce_time_limit(self) -> None:
        """End this process if its batch runs beyond the hard limit; called from another thread.

        A job that was alone has exceeded it by itself and fails. Jobs that shared a batch start again, each alone.
        """
        busy, limit = self._busy, self._settings.time_limit_seconds.total_seconds()
        if busy is None or time.monotonic() - busy[0] < limit:
            return
        if len(busy[1]) == 1:
            error = JobTimeLimit(job_id=busy[1][0], limit_seconds=limit)
            with connect(self._settings.result_store) as connection:
                Ledger(connection).run(self._commands.commit(busy[1][0], Outcome.failure(error)))
        _log.error("lane_time_limit", jobs=len(busy[1]), seconds=limit)
        os.kill(os.getpid(), signal.SIGKILL)

    def _run(self) -> None:
        with connect(self._settings.result_store, reply_seconds=LOOK_SECONDS + 10) as waiting:
            while not self._stopping.is_set():
                try:
                    if not self._turn():
                        _wait_for_message(waiting)
                    if self.jobs_done >= (self._settings.max_jobs_per_process or math.inf):
                        self._retire()
                except RedisError as error:
                    _log.warning("redis_unreachable", reason=str(error))
                    self._stopping.wait(0.5)
                except Exception:
                    _log.exception("lane_turn_failed")
                    self._stopping.wait(0.5)

    def _turn(self) -> bool:
        """Claim and answer one batch; False if the queue was empty."""
        claim = self._claim()
        for job_id in claim.abandoned:
            error = JobAbandoned(job_id=job_id, attempts=self._settings.max_attempts)
            self._persist([(job_id, Outcome.failure(error))])
        if not claim.jobs:
            return bool(claim.abandoned)
        started = time.time()
        self._busy = time.monotonic(), tuple(job.id for job in claim.jobs)
        try:
            self._answer(claim, started)
        finally:
            self._busy = None
        return True

    def _answer(self, claim: Claim, started: float) -> None:
        outcomes: list[tuple[str, Outcome]] = []
        for group in self._batch.outcomes(claim.jobs, claim.wanted_version):
            self._persist(group)
            outcomes += group
        self.jobs_done += len(outcomes)
        if self._events is not None:
            self._events.publish(claim.jobs, outcomes, started)
        seconds = round(time.time() - started, 6)
        _log.info("batch_answered", jobs=len(outcomes), seconds=seconds, job_ids=[job_id for job_id, _ in outcomes])

    def _claim(self) -> Claim:
        if self._claim_was_lost:
            process, _, number = self._worker.partition("+")
            self._worker = f"{process}+{int(number or 0) + 1}"
            self._rename(self._worker)
        command = self._commands.claim(
            queue=Queue.PREDICTIONS,
            model=DEFAULT_MODEL,
            worker=self._worker,
            most=MOST_JOBS,
            most_bytes=MOST_BYTES,
            max_attempts=self._settings.max_attempts,
        )
        self._claim_was_lost = True
        claim = self._claims.run(command)
        self._claim_was_lost = False
        return claim

    def _persist(self, outcomes: list[tuple[str, Outcome]]) -> None:
        """Commit, however long Redis is away: the answers are there, and committing twice does no harm."""
        command = self._commands.commit_many(committable(outcomes))
        while True:
            try:
                self._ledger.run(command)
            except RedisError as error:
                _log.warning("commit_retried", jobs=len(outcomes), reason=str(error))
                if self._stopping.wait(0.5):
                    raise
            else:
                return


def _wait_for_message(connection: redis.Redis) -> None:
    """Return when the queue holds a message, or after a while; moves its oldest message onto its own place."""
    wait: Any = connection.blmove
    wait(Queue.PREDICTIONS.value, Queue.PREDICTIONS.value, LOOK_SECONDS, "RIGHT", "RIGHT")
