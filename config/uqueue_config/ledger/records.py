"""What the ledger answers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Self

from uqueue_config.errors import JobCancelled, JobExpired, UqueueError, from_wire
from uqueue_config.names import CELERY_STATE, JobState


class Verdict(StrEnum):
    """What became of an application."""

    OPENED = "opened"
    SAME = "same"  # this very request was accepted before
    CONFLICT = "conflict"  # the id belongs to another request
    COLUMNS = "columns"  # the served model expects another number of features
    TARGETS = "targets"  # … of targets


@dataclass(frozen=True)
class Opened:
    """The answer to `open`. `expected` is the number the served model has, for the verdicts columns and targets."""

    verdict: Verdict
    expected: int | None

    @classmethod
    def parse(cls, reply: Any) -> Self:
        verdict, expected = reply
        return cls(Verdict(verdict.decode()), int(expected) if expected else None)


@dataclass(frozen=True)
class Attempt:
    """The answer to `begin`. Only `state` "running" may compute; "abandoned" is one attempt too many,
    "elsewhere" a second delivery of a job that another process is computing; every other state has ended.
    """

    state: str
    number: int
    wanted_version: str | None
    holder: str | None

    @classmethod
    def parse(cls, reply: Any) -> Self:
        state, number, rest = reply
        text = rest.decode() or None
        elsewhere = state == b"elsewhere"
        return cls(state.decode(), int(number), None if elsewhere else text, text if elsewhere else None)


@dataclass(frozen=True)
class ClaimedJob:
    """One message taken off a queue, and the attempt that was started for it."""

    id: str
    attempt: int
    message: bytes


@dataclass(frozen=True)
class Claim:
    """The answer to `claim`: jobs to compute, and jobs that were started too often."""

    wanted_version: str | None
    jobs: tuple[ClaimedJob, ...]
    abandoned: tuple[str, ...]

    @classmethod
    def parse(cls, reply: Any) -> Self:
        wanted, flat, abandoned = reply
        triples = zip(flat[::3], flat[1::3], flat[2::3], strict=True)
        jobs = tuple(ClaimedJob(job_id.decode(), int(attempt), message) for job_id, attempt, message in triples)
        return cls(wanted.decode() or None, jobs, tuple(job_id.decode() for job_id in abandoned))


@dataclass(frozen=True)
class Swept:
    """What a sweep left to its caller: jobs to give up, and messages to push where the queue is in another Redis."""

    abandoned: tuple[str, ...]
    messages: tuple[tuple[str, bytes], ...]

    @classmethod
    def parse(cls, reply: Any) -> Self:
        abandoned, flat = reply
        messages = tuple((queue.decode(), text) for queue, text in zip(flat[::2], flat[1::2], strict=True))
        return cls(tuple(job_id.decode() for job_id in abandoned), messages)


@dataclass(frozen=True)
class JobStatus:
    """One job at one moment. Times are aware datetimes by the Redis server's clock; rows count progress when known."""

    id: str
    state: JobState
    attempts: int
    model: str
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    expires_at: datetime | None
    worker: str | None
    rows_done: int | None
    rows_total: int | None
    cancel_requested: bool
    error: UqueueError | None


@dataclass(frozen=True)
class JobRecord(JobStatus):
    """A status with the Celery record of the result: None unless it was asked for and is still kept."""

    celery_meta: Mapping[str, Any] | None

    @classmethod
    def parse(cls, job_id: str, reply: Any) -> Self | None:
        flat, meta = reply
        fields = {key.decode(): value.decode() for key, value in zip(flat[::2], flat[1::2], strict=True)}
        if "state" not in fields:
            return None
        number = {name: int(fields[name]) if name in fields else None for name in ("rows_done", "rows_total")}
        return cls(
            id=job_id,
            state=JobState(fields["state"]),
            attempts=int(fields.get("attempts", 0)),
            model=fields.get("model", ""),
            created_at=_moment(fields.get("created_at")) or datetime.fromtimestamp(0, UTC),
            started_at=_moment(fields.get("started_at")),
            finished_at=_moment(fields.get("finished_at")),
            expires_at=_moment(fields.get("expires_at")),
            worker=fields.get("worker"),
            rows_done=number["rows_total"] if fields["state"] == JobState.SUCCEEDED else number["rows_done"],
            rows_total=number["rows_total"],
            cancel_requested="cancel_requested" in fields,
            error=from_wire(json.loads(fields["error"])) if "error" in fields else _revoked(job_id, fields["state"]),
            celery_meta=json.loads(meta) if meta else None,
        )


def _moment(milliseconds: str | None) -> datetime | None:
    return datetime.fromtimestamp(int(milliseconds) / 1000, UTC) if milliseconds else None


def _revoked(job_id: str, state: str) -> UqueueError | None:
    causes = {JobState.CANCELLED: JobCancelled, JobState.EXPIRED: JobExpired}
    cause = causes.get(JobState(state))
    return cause(job_id=job_id) if cause else None


@dataclass(frozen=True)
class Outcome:
    """How a job ends: exactly one of `result` (JSON-able) and `error` is set."""

    state: JobState
    result: Any = None
    error: UqueueError | None = None

    @classmethod
    def success(cls, result: Any) -> Self:
        return cls(JobState.SUCCEEDED, result=result)

    @classmethod
    def failure(cls, error: UqueueError) -> Self:
        states: dict[type[UqueueError], JobState] = {JobCancelled: JobState.CANCELLED, JobExpired: JobState.EXPIRED}
        return cls(states.get(type(error), JobState.FAILED), error=error)

    def celery_meta(self, job_id: str) -> str:
        """Return the record that Celery's Redis result backend would have written."""
        meta: dict[str, Any] = {
            "status": CELERY_STATE[self.state],
            "result": self.result if self.error is None else _celery_exception(self.error, self.state),
            "traceback": None,
            "children": [],
            "date_done": datetime.now(UTC).isoformat(),
            "task_id": job_id,
        }
        return json.dumps(meta, separators=(",", ":"), allow_nan=False)

    def error_json(self) -> str:
        return json.dumps(self.error.to_wire()) if self.error and self.state is JobState.FAILED else ""


def _celery_exception(error: UqueueError, state: JobState) -> dict[str, Any]:
    if state is JobState.FAILED:
        return {"exc_type": type(error).__name__, "exc_message": [error.message], "exc_module": type(error).__module__}
    return {"exc_type": "TaskRevokedError", "exc_message": [state.value], "exc_module": "celery.exceptions"}
