"""What the ledger answers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, ClassVar, NamedTuple, Self

from uqueue_config.errors import InvalidMessage, JobAbandoned, JobCancelled, JobExpired, UqueueError, from_wire
from uqueue_config.names import CELERY_STATE, JobState


class Verdict(StrEnum):
    """What became of an application."""

    OPENED = "opened"
    SAME = "same"  # this very request was accepted before
    CONFLICT = "conflict"  # the id belongs to another request
    COLUMNS = "columns"  # the served model expects another number of features
    TARGETS = "targets"  # … of targets
    FULL = "full"  # the queue has no room


@dataclass(frozen=True)
class Opened:
    """The answer to `open`. `detail` is the number the served model has, for the verdicts columns and targets, and the
    seconds after which to try again for the verdict full.
    """

    verdict: Verdict
    detail: int | None

    @classmethod
    def parse_all(cls, reply: Any) -> list[Self]:
        pairs = zip(reply[::2], reply[1::2], strict=True)
        return [cls(Verdict(verdict.decode()), int(detail) if detail else None) for verdict, detail in pairs]


class Wish(NamedTuple):
    """A version that every process should serve, and the number of the look at the source that found it.

    A wish with a lower number than one that was followed is an old one.
    """

    version: str
    number: int = 0


@dataclass(frozen=True)
class Attempt:
    """The answer to `begin`. Only `state` "running" may compute; "abandoned" is one attempt too many,
    "elsewhere" a second delivery of a job that another process is computing, "forged" a message with another request
    than the job was opened with; every other state has ended.
    """

    state: str
    number: int
    wanted_versions: tuple[Wish | None, ...]
    holder: str | None

    @classmethod
    def parse(cls, reply: Any) -> Self:
        state, number, versions, holder = reply
        return cls(state.decode(), int(number), _versions(versions), holder.decode() or None)


@dataclass(frozen=True)
class ClaimedJob:
    """One message taken off a queue, and the attempt that was started for it."""

    id: str
    attempt: int
    message: bytes


@dataclass(frozen=True)
class Claim:
    """The answer to `claim`: jobs to compute, jobs that were started too often, and the versions to compute with."""

    wanted_versions: tuple[Wish | None, ...]
    jobs: tuple[ClaimedJob, ...]
    abandoned: tuple[str, ...]

    @classmethod
    def parse(cls, reply: Any) -> Self:
        wanted, flat, abandoned = reply
        triples = zip(flat[::3], flat[1::3], flat[2::3], strict=True)
        jobs = tuple(ClaimedJob(job_id.decode(), int(attempt), message) for job_id, attempt, message in triples)
        return cls(_versions(wanted), jobs, tuple(job_id.decode() for job_id in abandoned))


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

    FIELDS: ClassVar = (
        *("state", "attempts", "model", "created_at", "started_at", "finished_at", "expires_at", "worker"),
        *("rows_done", "rows_total", "cancel_requested", "error"),
    )

    celery_meta: Mapping[str, Any] | None

    @classmethod
    def parse(cls, job_id: str, reply: Any) -> Self | None:
        values, meta = reply
        found = zip(cls.FIELDS, values, strict=True)
        fields = {name: value.decode() for name, value in found if value is not None}
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


def _versions(reply: Any) -> tuple[Wish | None, ...]:
    pairs = zip(reply[::2], reply[1::2], strict=True)
    return tuple(Wish(version.decode(), int(number)) if version else None for version, number in pairs)


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

    def celery_meta(self, job_id: str) -> bytes:
        """Return the record that Celery's Redis result backend would have written. Raises ValueError for NaN."""
        if self.error is None:
            result = json.dumps(self.result, separators=(",", ":"), allow_nan=False)
            return success_meta(job_id, result.encode(), timestamp())
        meta: dict[str, Any] = {
            "status": CELERY_STATE[self.state],
            "result": _celery_exception(self.error, self.state),
            "traceback": None,
            "children": [],
            "date_done": timestamp(),
            "task_id": job_id,
        }
        return json.dumps(meta, separators=(",", ":")).encode()

    def error_json(self) -> str:
        return json.dumps(self.error.to_wire()) if self.error and self.state is JobState.FAILED else ""

    @property
    def dead_reason(self) -> str:
        """Why the message is kept as a dead letter: nobody could answer it, and not for what it asks. Empty if not."""
        return self.error.message if isinstance(self.error, JobAbandoned | InvalidMessage) else ""

    def committable(self, job_id: str, attempt: int | None = None) -> tuple[str, str, bytes, str, str, int | str]:
        """Return what `LedgerCommands.commit_prepared` takes."""
        fence = "" if attempt is None or self.error is None else attempt
        return (job_id, self.state.value, self.celery_meta(job_id), self.error_json(), self.dead_reason, fence)


def success_meta(job_id: str, result_json: bytes, date_done: str) -> bytes:
    """Return what Celery's Redis result backend would write for a result that is JSON already."""
    return b'{"status":"SUCCESS","result":%b,"traceback":null,"children":[],"date_done":"%b","task_id":%b}' % (
        result_json,
        date_done.encode(),
        json.dumps(job_id).encode(),
    )


def timestamp() -> str:
    """Return the time now as Celery writes it."""
    return datetime.now(UTC).isoformat()


def _celery_exception(error: UqueueError, state: JobState) -> dict[str, Any]:
    if state is JobState.FAILED:
        return {"exc_type": type(error).__name__, "exc_message": [error.message], "exc_module": type(error).__module__}
    return {"exc_type": "TaskRevokedError", "exc_message": [state.value], "exc_module": "celery.exceptions"}
