"""From arguments to jobs that can be opened: validation, identity, message. Both clients use it.

No I/O, except that `Submission.store_payloads` writes what is too large for a message.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uqueue_config.envelope import celery_message
from uqueue_config.errors import (
    IdempotencyConflict,
    InputError,
    InvalidFeatures,
    PayloadTooLarge,
    QueueFull,
)
from uqueue_config.features import validate_features
from uqueue_config.ledger import Application, Command, LedgerCommands, Opened, Verdict
from uqueue_config.messages import PredictRequest, digest
from uqueue_config.names import Queue, Task
from uqueue_config.payload import PayloadFolder, Reference
from uqueue_config.settings import Settings
from uqueue_config.template import template
from uqueue_config.trace import current_trace

Expires = float | timedelta | datetime | None
Tables = dict[Reference, NDArray[np.float32]]
_KEYED_JOBS = uuid.uuid5(uuid.NAMESPACE_URL, "uqueue:idempotency-key")


@dataclass(frozen=True)
class Submission:
    """Validated jobs of one model, not yet accepted. `tables` must be stored before they are opened."""

    model: str
    queue: Queue
    applications: Sequence[Application]
    expires_seconds: float | None = None
    idempotency_keys: Sequence[str] = ()
    tables: Mapping[Reference, NDArray[np.float32]] = field(default_factory=dict)

    def store_payloads(self, settings: Settings) -> None:
        """Write the features that travel outside their messages. Raises ServiceUnreachable."""
        payloads = PayloadFolder.of(settings)
        if payloads is not None:
            for reference, table in self.tables.items():
                payloads.write(table, reference)

    def command(
        self, commands: LedgerCommands, settings: Settings, first: int, end: int, *, batch: bool = True
    ) -> Command[list[Opened]]:
        """Return the step that opens jobs number `first` to `end` - 1: all or none, unless they are no batch."""
        return commands.open(
            self.applications[first:end],
            model=self.model,
            queue=self.queue,
            queue_limit=settings.queue_limit,
            expires_seconds=self.expires_seconds,
            push=settings.queue_is_with_records,
            batch=batch,
        )

    def check(self, opened: Sequence[Opened], settings: Settings, first: int) -> None:
        """Raise what the ledger's verdicts on the jobs from number `first` mean, if any was not accepted."""
        for number, answer in enumerate(opened, first):
            if answer.verdict not in (Verdict.OPENED, Verdict.SAME):
                raise self._refusal(number, answer, settings)

    def _refusal(self, number: int, answer: Opened, settings: Settings) -> Exception:
        one = self.applications[number]
        match answer.verdict:
            case Verdict.CONFLICT:
                return IdempotencyConflict(key=self.idempotency_keys[number], job_id=one.job_id)
            case Verdict.COLUMNS:
                return InvalidFeatures(reason=f"model {self.model} expects {answer.detail} columns, got {one.columns}")
            case Verdict.TARGETS:
                return InputError(reason=f"target_dim is {one.targets}, the model has {answer.detail} targets")
            case _:
                return QueueFull(
                    queue=self.queue.value,
                    limit=settings.queue_limit,
                    accepted=number,
                    asked=len(self.applications),
                    retry_after_seconds=answer.detail,
                )


def prepare(
    settings: Settings,
    features: Any,
    model: str,
    *,
    seed: int | None = None,
    idempotency_key: str | None = None,
    expires: Expires = None,
    target_dim: int | None = None,
    version: str | None = None,
    sticky_key: str | None = None,
) -> Submission:
    """Check everything that can be checked here. Raises InputError and its subclasses; nothing is sent."""
    job_id = _new_id() if idempotency_key is None else keyed_job_id(idempotency_key)
    array = validate_features(features, columns=None, max_rows=settings.max_rows)
    tables: Tables = {}
    request = PredictRequest.of(array, model, seed, target_dim, version, sticky_key)
    application = _application(settings, job_id, request, array, tables)
    keys = () if idempotency_key is None else (idempotency_key,)
    return Submission(model, Queue.PREDICTIONS, [application], _seconds_left(expires), keys, tables)


def prepare_many(
    settings: Settings,
    tables: Iterable[Any],
    model: str,
    *,
    idempotency_keys: Iterable[str] | None = None,
    expires: Expires = None,
    version: str | None = None,
    sticky_key: str | None = None,
) -> Submission:
    """Check the features of many jobs. Raises as `prepare` does, naming the first job that is wrong."""
    applications: list[Application] = []
    together: Tables = {}
    keys = None if idempotency_keys is None else tuple(idempotency_keys)
    for number, features in enumerate(tables):
        array = validate_features(features, columns=None, max_rows=settings.max_rows)
        request = PredictRequest.of(array, model, version=version, sticky_key=sticky_key)
        job_id = keyed_job_id(keys[number]) if keys is not None and number < len(keys) else _new_id()
        applications.append(_application(settings, job_id, request, array, together))
    if keys is not None and len(keys) != len(applications):
        raise InputError(reason=f"idempotency_keys: expected one for each of {len(applications)} jobs, got {len(keys)}")
    return Submission(model, Queue.PREDICTIONS, applications, _seconds_left(expires), keys or (), together)


def together(submissions: Sequence[Submission]) -> Submission:
    """Return jobs of the same model, queue and expiry that several callers prepared as one submission."""
    first = submissions[0]
    applications = [application for one in submissions for application in one.applications]
    return Submission(first.model, first.queue, applications, first.expires_seconds)


def prepare_poll(model: str) -> Submission:
    """Return the job that makes a worker look at the artifacts now."""
    job_id = _new_id()
    message = celery_message(job_id, Task.POLL_ARTIFACTS, {"model": model}, queue=Queue.CONTROL, argsrepr=repr(model))
    return Submission(model, Queue.CONTROL, [Application(job_id, job_id, message)])


def _application(
    settings: Settings, job_id: str, request: PredictRequest, array: NDArray[np.float32], tables: Tables
) -> Application:
    """Return the application of one job; features that are too large for its message go to `tables`."""
    inline = _with_message(job_id, request, array)
    size = len(inline.message)
    if size <= settings.max_inline_bytes:
        return inline
    if settings.payload_dir is None:
        raise PayloadTooLarge(size_bytes=size, limit_bytes=settings.max_inline_bytes)
    if array.nbytes > settings.max_payload_bytes:
        limit = settings.max_payload_bytes
        message = (
            f"The features take {array.nbytes} bytes; UQUEUE_MAX_PAYLOAD_BYTES allows {limit}. Split the rows into "
            "several jobs."
        )
        raise PayloadTooLarge(message, size_bytes=array.nbytes, limit_bytes=limit)
    reference = Reference.to(array)
    tables[reference] = array
    return _with_message(job_id, request.by_reference(reference), array)


def _with_message(job_id: str, request: PredictRequest, array: NDArray[np.float32]) -> Application:
    rows, columns = array.shape
    kwargs = request.to_json()
    shown = f"{{'model': {request.model!r}, 'features': '{rows} x {columns} numbers'}}"
    message = template(Task.PREDICT, Queue.PREDICTIONS, shown).message(job_id, kwargs, current_trace.get())
    if request.version is not None:  # may have another shape than the version that the ledger knows
        return Application(job_id, digest(kwargs), message)
    return Application(job_id, digest(kwargs), message, columns, request.target_dim)


def keyed_job_id(idempotency_key: str) -> str:
    """Return the id of every job that is submitted with this key."""
    return str(uuid.uuid5(_KEYED_JOBS, idempotency_key))


def _new_id() -> str:
    return str(uuid.UUID(bytes=os.urandom(16), version=4))


def _seconds_left(expires: Expires) -> float | None:
    match expires:
        case None:
            return None
        case datetime():
            if expires.tzinfo is None:
                raise InputError(reason="expires: expected a datetime with a time zone")
            seconds = (expires - datetime.now(UTC)).total_seconds()
        case timedelta():
            seconds = expires.total_seconds()
        case bool() | str():
            raise InputError(reason=f"expires: expected seconds, a timedelta or a datetime, got {expires!r}")
        case _:
            seconds = float(expires)
    if not 0 < seconds < 10 * 365 * 86400:
        raise InputError(reason=f"expires: expected a moment in the future, got {seconds:g} s from now")
    return seconds
