"""From arguments to a job that can be opened: validation, identity, message. No I/O; both clients use it."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from uqueue_config.envelope import celery_message
from uqueue_config.errors import (
    IdempotencyConflict,
    InputError,
    InvalidFeatures,
    PayloadTooLarge,
)
from uqueue_config.features import validate_features
from uqueue_config.ledger import Application, Opened, Verdict
from uqueue_config.messages import PredictRequest, digest
from uqueue_config.names import Queue, Task
from uqueue_config.settings import Settings

Expires = float | timedelta | datetime | None
_KEYED_JOBS = uuid.uuid5(uuid.NAMESPACE_URL, "uqueue:idempotency-key")


@dataclass(frozen=True)
class Submission:
    """A validated job, not yet accepted."""

    job_id: str
    idempotency_key: str | None
    application: Application

    def check(self, opened: Opened) -> str:
        """Return the job's id. Raises what the ledger's verdict means."""
        columns, targets = self.application.columns, self.application.targets
        match opened.verdict:
            case Verdict.CONFLICT:
                raise IdempotencyConflict(key=self.idempotency_key, job_id=self.job_id)
            case Verdict.COLUMNS:
                raise InvalidFeatures(
                    reason=f"model {self.application.model} expects {opened.expected} columns, got {columns}"
                )
            case Verdict.TARGETS:
                raise InputError(reason=f"target_dim is {targets}, the model has {opened.expected} targets")
        return self.job_id


def split(submissions: Iterable[Submission]) -> tuple[list[Submission], dict[str, list[str]]]:
    """Return the jobs as to be recorded, and their messages by queue, for a broker that is not the Redis of the ledger.

    There the record is written first and the message second. After a crash between the two the sweeper pushes the
    message that the record keeps.
    """
    records, messages = [], defaultdict(list)
    for one in submissions:
        records.append(replace(one, application=replace(one.application, push=False)))
        messages[one.application.queue].append(one.application.message)
    return records, messages


def prepare(
    settings: Settings,
    features: Any,
    model: str,
    *,
    seed: int | None = None,
    idempotency_key: str | None = None,
    expires: Expires = None,
    target_dim: int | None = None,
) -> Submission:
    """Check everything that can be checked here. Raises InputError and its subclasses; nothing is sent."""
    array = validate_features(features, columns=None, max_rows=settings.max_rows)
    kwargs = PredictRequest.of(array, model, seed, target_dim).to_kwargs()
    job_id = str(uuid.uuid4() if idempotency_key is None else uuid.uuid5(_KEYED_JOBS, idempotency_key))
    shown = f"{{'model': {model!r}, 'features': '{array.shape[0]} x {array.shape[1]} numbers'}}"
    message = celery_message(job_id, Task.PREDICT, kwargs, queue=Queue.PREDICTIONS, argsrepr=shown)
    if len(message) > settings.max_inline_bytes:
        raise PayloadTooLarge(size_bytes=len(message), limit_bytes=settings.max_inline_bytes)
    application = Application(
        model=model,
        digest=digest(kwargs),
        queue=Queue.PREDICTIONS,
        message=message,
        expires_seconds=_seconds_left(expires),
        columns=array.shape[1],
        targets=target_dim,
    )
    return Submission(job_id, idempotency_key, application)


def prepare_poll(model: str) -> Submission:
    """Return the job that makes a worker look at the artifacts now."""
    job_id = str(uuid.uuid4())
    message = celery_message(job_id, Task.POLL_ARTIFACTS, {"model": model}, queue=Queue.CONTROL, argsrepr=repr(model))
    application = Application(model=model, digest=job_id, queue=Queue.CONTROL, message=message)
    return Submission(job_id, None, application)


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
