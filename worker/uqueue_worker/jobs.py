"""One job, from its message to its answer, on whichever path it came."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import structlog
from celery.exceptions import SoftTimeLimitExceeded
from pydantic_core import to_json
from redis.exceptions import RedisError

from uqueue_config.errors import (
    InternalError,
    InvalidMessage,
    JobAbandoned,
    JobCancelled,
    JobTimeLimit,
    UqueueError,
)
from uqueue_config.ledger import Attempt, Command, Ledger, LedgerCommands
from uqueue_config.messages import PredictRequest
from uqueue_config.names import DEFAULT_MODEL, JobState, Queue, process_of, serving_key
from uqueue_config.payload import PayloadFolder
from uqueue_config.prediction import IntervalPrediction
from uqueue_config.seeds import seed_from_job_id
from uqueue_config.settings import Settings
from uqueue_worker.models import IntervalModel
from uqueue_worker.models.catalog import Served, Wanted
from uqueue_worker.models.comparison import Comparisons
from uqueue_worker.units import in_target_units

#: Progress is written, and a wish to cancel noticed, at most this often.
CHECKPOINT_SECONDS = 0.1
#: How long a job waits before it asks an unreachable Redis again.
RETRY_SECONDS = 0.5
ModelFor = Callable[[PredictRequest, str, Wanted], Served]
_log = structlog.get_logger("uqueue.jobs")


class JobHasEnded(Exception):
    """The job was cancelled, expired or answered elsewhere; this delivery of it is surplus."""


class JobRunner:
    """Runs jobs through the ledger with a model that somebody else keeps."""

    def __init__(self, settings: Settings, ledger: Ledger, worker: str, tracks: Sequence[str]) -> None:
        self._settings = settings
        self._ledger = ledger
        self._commands = LedgerCommands(settings.result_ttl_seconds, settings.record_ttl_seconds)
        self._worker = worker
        self._tracks = tuple(tracks)
        self._payloads = PayloadFolder.of(settings)

    def run(
        self, job_id: str, kwargs: Mapping[str, Any], model_for: ModelFor, comparisons: Comparisons
    ) -> dict[str, Any]:
        """Return the result message of one job.

        `model_for(request, job_id, wanted)` gives the loaded model, `comparisons` takes what its shadow answers. Raises
        JobHasEnded, or the UqueueError that ends the job; anything unforeseen is logged and becomes InternalError with
        a reference.
        """
        attempt = self._begin(job_id, kwargs)
        with structlog.contextvars.bound_contextvars(job_id=job_id, attempt=attempt.number):
            try:
                return self._answer(job_id, kwargs, attempt, model_for, comparisons)
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
        limit, model = self._settings.max_attempts, str(kwargs.get("model", DEFAULT_MODEL))
        command = self._commands.begin(
            job_id,
            model=model,
            worker=self._worker,
            max_attempts=limit,
            digest=_digest(kwargs),
            tracks=self._tracks,
        )
        attempt = self._patiently(command)
        if attempt.holder and self._is_gone(attempt.holder):
            self._ledger.connection.delete(serving_key(model, process_of(attempt.holder)))
            attempt = self._patiently(command)
        if attempt.state == "forged":
            reason = "a job with this id was submitted with another request"
            self._ledger.run(self._commands.bury(Queue.PREDICTIONS, to_json(kwargs), reason, job_id))
        if attempt.state == "abandoned":
            raise JobAbandoned(job_id=job_id, attempts=limit)
        if attempt.state != JobState.RUNNING:
            raise JobHasEnded(attempt.state)
        return attempt

    def _patiently(self, command: Command[Attempt]) -> Attempt:
        """Run a command until Redis answers: it may have begun the job, and then nobody else does."""
        while True:
            try:
                return self._ledger.run(command)
            except RedisError as error:
                _log.warning("redis_unreachable", reason=str(error))
                time.sleep(RETRY_SECONDS)

    def _is_gone(self, process: str) -> bool:
        """Whether a process of this host has ended; its acknowledgement would hold the job for some seconds more."""
        if process_of(process) == self._worker:
            return False
        host, pid = _host_and_pid(process)
        my_host, my_pid = _host_and_pid(self._worker)
        return host == my_host and (pid == my_pid or not _exists(pid))

    def _answer(
        self,
        job_id: str,
        kwargs: Mapping[str, Any],
        attempt: Attempt,
        model_for: ModelFor,
        comparisons: Comparisons,
    ) -> dict[str, Any]:
        started = time.perf_counter()
        request = PredictRequest.read(kwargs)
        served = model_for(request, job_id, dict(zip(self._tracks, attempt.wanted_versions, strict=True)))
        model, shadow = served.model, served.shadow
        seed = seed_from_job_id(job_id) if request.seed is None else request.seed
        with structlog.contextvars.bound_contextvars(model=request.model, model_version=model.identity.version):
            features = request.raw_features(self._payloads)
            prediction = model.predict(
                features,
                seed=seed,
                target_dim=request.target_dim,
                on_progress=self.checkpoint(job_id, len(features)),
            )
            seconds = round(time.perf_counter() - started, 6)
            passes = {"passes": int(prediction.passes_used.sum())} if isinstance(prediction, IntervalPrediction) else {}
            _log.info("job_answered", rows=len(prediction), **passes, seconds=seconds)
        if shadow is not None and isinstance(prediction, IntervalPrediction) and isinstance(model, IntervalModel):
            comparisons.compare(1, model, prediction, shadow, lambda: shadow.predict(features, seed=seed))
        return in_target_units(prediction, served.spec).to_message(request.encoding)

    def checkpoint(self, job_id: str, rows_total: int) -> Callable[[int], None]:
        """Return what the model calls between chunks of passes with the rows it has finished."""
        last = time.monotonic()

        def checkpoint(rows_done: int) -> None:
            nonlocal last
            if time.monotonic() - last < CHECKPOINT_SECONDS:
                return
            try:
                if self._ledger.run(self._commands.progress(job_id, rows_done=rows_done, rows_total=rows_total)):
                    raise JobCancelled(job_id=job_id)
            except RedisError as error:  # no reason to give up what is half computed
                _log.warning("redis_unreachable", reason=str(error))
            last = time.monotonic()

        return checkpoint


def _digest(kwargs: Mapping[str, Any]) -> str:
    """Return the digest of the request, or what no request has."""
    try:
        return PredictRequest.read(kwargs).digest()
    except InvalidMessage:
        return "invalid"


def _host_and_pid(process: str) -> tuple[str, int]:
    rest, _, pid = process.rpartition(":")
    return rest.rpartition("/")[0], int(pid)


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
