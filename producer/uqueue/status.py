"""What a client learns about jobs and models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from pydantic_core import from_json

from uqueue_config.errors import JobFailed, JobNotFinished, JobNotFound, ResultExpired
from uqueue_config.ledger import JobRecord, JobStatus
from uqueue_config.messages import Acknowledgement, PollReport
from uqueue_config.names import CELERY_STATE, JobState


def job_status(job_id: str, record: JobRecord | None) -> JobStatus:
    """Return a record without its result. Raises JobNotFound for an id that was never accepted."""
    if record is None:
        raise JobNotFound(job_id=job_id)
    return JobStatus(**{field.name: getattr(record, field.name) for field in fields(JobStatus)})


def raw_result(job_id: str, record: JobRecord | None, *, waited_seconds: float | None = None) -> Mapping[str, Any]:
    """Return the stored result of an ended job, or raise what happened instead."""
    status = job_status(job_id, record)
    if not status.state.terminal:
        raise JobNotFinished(job_id=job_id, state=status.state.value, timeout_seconds=f"{waited_seconds or 0:g}")
    if status.error is not None:
        raise status.error
    meta = record.celery_meta if record else None
    if meta is None:
        raise ResultExpired(job_id=job_id, state=status.state.value)
    result = meta.get("result")
    if status.state is not JobState.SUCCEEDED or not isinstance(result, Mapping):
        raise JobFailed(job_id=job_id, reason="its result cannot be read")
    return result


def announced_result(announcement: bytes | None) -> Mapping[str, Any] | None:
    """Return the result that was published, None where it has to be read from the record: a failure, or nothing yet."""
    meta = from_json(announcement) if announcement else {}
    result = meta.get("result")
    return result if meta.get("status") == CELERY_STATE[JobState.SUCCEEDED] and isinstance(result, Mapping) else None


@dataclass(frozen=True)
class ModelStatus:
    """One model: the version every process should serve, what was refused last, and who serves what."""

    name: str
    wanted_version: str | None
    rejected_version: str | None
    rejected_reason: str | None
    processes: tuple[Acknowledgement, ...]

    @property
    def converged(self) -> bool:
        """Whether at least one process is there and all of them serve the wanted version."""
        return bool(self.processes) and all(
            process.version is not None and process.version == self.wanted_version for process in self.processes
        )


def status_from(
    name: str, acknowledgements: Sequence[bytes | None], wanted: dict[bytes, bytes], candidate: dict[bytes, bytes]
) -> ModelStatus:
    """Put together what Redis answered; a process whose acknowledgement has lapsed (None) is left out."""

    def text(fields: dict[bytes, bytes], field: bytes) -> str | None:
        return fields[field].decode() if field in fields else None

    return ModelStatus(
        name=name,
        wanted_version=text(wanted, b"version"),
        rejected_version=text(candidate, b"version") or None,
        rejected_reason=text(candidate, b"reason"),
        processes=tuple(Acknowledgement.model_validate_json(one) for one in acknowledgements if one),
    )


@dataclass(frozen=True)
class ReloadReport:
    """What a reload did: the look at the artifacts, and who serves what afterwards."""

    poll: PollReport
    model: ModelStatus
