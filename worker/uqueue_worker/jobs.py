"""One job, from its message to its answer, on whichever path it came."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

import structlog
from celery.exceptions import SoftTimeLimitExceeded

from uqueue_config.errors import InternalError, JobAbandoned, JobCancelled, JobTimeLimit, UqueueError
from uqueue_config.ledger import Attempt, Ledger, LedgerCommands
from uqueue_config.messages import PredictRequest
from uqueue_config.names import DEFAULT_MODEL, JobState, serving_key
from uqueue_config.seeds import seed_from_job_id
from uqueue_config.settings import Settings
from uqueue_worker.models import IntervalModel
from uqueue_worker.units import in_target_units

#: Progress is written, and a wish to cancel noticed, at most this often.
CHECKPOINT_SECONDS = 0.1
_log = structlog.get_logger("uqueue.jobs")


class JobHasEnded(Exception):
    """The job was cancelled, expired or answered elsewhere; this delivery of it is surplus."""


class JobRunner:
    """Runs jobs through the ledger with a model that somebody else keeps."""

    def __init__(self, settings: Settings, ledger: Ledger, worker: str) -> None:
        self._settings = settings
        self._ledger = ledger
        self._commands = LedgerCommands(settings.result_ttl_seconds, settings.record_ttl_seconds)
        self._worker = worker

    def run(
        self, job_id: str, kwargs: Mapping[str, Any], model_for: Callable[[str, str | None], IntervalModel]
    ) -> dict[str, Any]:
        """Return the result message of one job.

        `model_for(name, wanted_version)` gives the loaded model. Raises JobHasEnded, or the UqueueError that ends the
        job; anything unforeseen is logged and becomes InternalError with a reference.
        """
        attempt = self._begin(job_id, kwargs)
        with structlog.contextvars.bound_contextvars(job_id=job_id, attempt=attempt.number):
            try:
                return self._answer(job_id, kwargs, attempt, model_for)
            except SoftTimeLimitExceeded:
                limit = self._settings.soft_time_limit_seconds.total_seconds()
                raise JobTimeLimit(job_id=job_id, limit_seconds=limit) from None
            except UqueueError as error:
                _log.warning("job_failed", code=error.code, reason=error.message)
                raise
            except Exception as error:
                reference = uuid.uuid4().hex[:12]
                _log.exception("job_failed_unforeseen", reference=reference)
                raise InternalError(job_id=job_id, reference=reference) from error

    def _begin(self, job_id: str, kwargs: Mapping[str, Any]) -> Attempt:
        limit = self._settings.max_attempts
        command = self._commands.begin(
            job_id, model=str(kwargs.get("model", DEFAULT_MODEL)), worker=self._worker, max_attempts=limit
        )
        attempt = self._ledger.run(command)
        if attempt.holder and self._is_gone(attempt.holder):
            self._ledger.connection.delete(serving_key(str(kwargs.get("model", DEFAULT_MODEL)), attempt.holder))
            attempt = self._ledger.run(command)
        if attempt.state == "abandoned":
            raise JobAbandoned(job_id=job_id, attempts=limit)
        if attempt.state != JobState.RUNNING:
            raise JobHasEnded(attempt.state)
        return attempt

    def _is_gone(self, process: str) -> bool:
        """Whether a process of this host has ended; its acknowledgement would hold the job for some seconds more."""
        host, _, pid = process.partition("+")[0].rpartition(":")
        return host == self._worker.rpartition(":")[0] and not _exists(int(pid))

    def _answer(
        self,
        job_id: str,
        kwargs: Mapping[str, Any],
        attempt: Attempt,
        model_for: Callable[[str, str | None], IntervalModel],
    ) -> dict[str, Any]:
        started = time.perf_counter()
        request = PredictRequest.read(kwargs)
        model = model_for(request.model, attempt.wanted_version)
        with structlog.contextvars.bound_contextvars(model=request.model, model_version=model.identity.version):
            features = request.raw_features()
            prediction = model.predict(
                features,
                seed=seed_from_job_id(job_id) if request.seed is None else request.seed,
                target_dim=request.target_dim,
                on_progress=self.checkpoint(job_id, len(features)),
            )
            seconds = round(time.perf_counter() - started, 6)
            _log.info("job_answered", rows=len(prediction), passes=int(prediction.passes_used.sum()), seconds=seconds)
        return in_target_units(prediction, self._settings).to_message(request.encoding)

    def checkpoint(self, job_id: str, rows_total: int) -> Callable[[int], None]:
        """Return what the model calls between chunks of passes with the rows it has finished."""
        last = time.monotonic()

        def checkpoint(rows_done: int) -> None:
            nonlocal last
            if time.monotonic() - last < CHECKPOINT_SECONDS:
                return
            if self._ledger.run(self._commands.progress(job_id, rows_done=rows_done, rows_total=rows_total)):
                raise JobCancelled(job_id=job_id)
            last = time.monotonic()

        return checkpoint


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
