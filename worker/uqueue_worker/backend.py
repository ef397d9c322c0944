"""Celery's result backend, writing through the ledger: whatever Celery wants to store, the first outcome stays."""

from __future__ import annotations

import math
import time
import uuid
from functools import cached_property
from typing import Any

import structlog
from celery import states
from celery.backends.redis import RedisBackend
from celery.exceptions import SoftTimeLimitExceeded, TimeLimitExceeded
from redis.exceptions import RedisError

from uqueue_config.connections import connect
from uqueue_config.errors import InternalError, JobCancelled, JobExpired, JobTimeLimit, UqueueError
from uqueue_config.ledger import Ledger, LedgerCommands, Outcome
from uqueue_config.settings import Settings
from uqueue_worker import process

#: How long the main process of a pool waits for an unreachable Redis before it gives a commit up. A process that serves
#: never does: nobody would start its job again while it is alive.
PARENT_PATIENCE_SECONDS = 60.0
_log = structlog.get_logger("uqueue.backend")


class LedgerBackend(RedisBackend):  # type: ignore[misc]
    """Reads as the Redis backend does; stores by `commit`, atomically and once."""

    @cached_property
    def _settings(self) -> Settings:
        return process.current().settings

    @cached_property
    def _ledger(self) -> Ledger:
        return Ledger(connect(self._settings.result_store))

    def store_result(self, task_id: str, result: Any, state: str, *_: Any, **__: Any) -> Any:
        """Commit a terminal state; the others (STARTED, RETRY) are the ledger's own business."""
        outcome = outcome_of(task_id, result, state)
        if outcome is not None:
            self._commit(task_id, outcome)
        return result

    def _commit(self, task_id: str, outcome: Outcome) -> None:
        commands = LedgerCommands(self._settings.result_ttl_seconds, self._settings.record_ttl_seconds)
        command = commands.commit([(task_id, outcome)])
        give_up = time.monotonic() + (math.inf if process.current().is_serving else PARENT_PATIENCE_SECONDS)
        while True:
            try:
                first = self._ledger.run(command)
            except RedisError as error:
                if time.monotonic() >= give_up:
                    raise
                _log.warning("commit_retried", job_id=task_id, reason=str(error))
                time.sleep(0.5)
            else:
                _log.info("job_committed" if first else "commit_was_second", job_id=task_id, state=outcome.state.value)
                return


def outcome_of(task_id: str, result: Any, state: str) -> Outcome | None:
    """Return what a Celery state means for the job, or None if the job goes on."""
    if state == states.SUCCESS:
        return Outcome.success(result)
    if state == states.FAILURE:
        return Outcome.failure(_as_uqueue_error(task_id, result))
    if state == states.REVOKED:
        cause = JobExpired if "expired" in str(result) else JobCancelled
        return Outcome.failure(cause(job_id=task_id))
    return None


def _as_uqueue_error(task_id: str, error: Any) -> UqueueError:
    if isinstance(error, UqueueError):
        return error
    limits = process.current().settings
    if isinstance(error, TimeLimitExceeded):
        return JobTimeLimit(job_id=task_id, limit_seconds=limits.time_limit_seconds.total_seconds())
    if isinstance(error, SoftTimeLimitExceeded):  # struck after the computation, while the answer was on its way
        return JobTimeLimit(job_id=task_id, limit_seconds=limits.soft_time_limit_seconds.total_seconds())
    reference = uuid.uuid4().hex[:12]
    _log.error("job_failed_unforeseen", job_id=task_id, reference=reference, error=repr(error))
    return InternalError(job_id=task_id, reference=reference)
