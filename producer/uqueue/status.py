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
    """Return the result that was published, None where it has to be read from the record: a failure, or nothing yet,
    or what nobody of ours has published.
    """
    try:
        meta = from_json(announcement) if announcement else None
    except ValueError:
        return None
    if not isinstance(meta, Mapping) or meta.get("status") != CELERY_STATE[JobState.SUCCEEDED]:
        return None
    result = meta.get("result")
    return result if isinstance(result, Mapping) else None


@dataclass(frozen=True)
class ShadowComparison:
    """How a shadow's answers differ from those that were given, over all jobs since either version changed.

    jobs, failed        jobs compared; those that the shadow could not answer
    rows                rows that both answered
    midpoint_distance   mean absolute difference of the midpoints, in the model's units
    width, shadow_width mean interval widths
    outside             share of the shadow's midpoints that lie outside the interval given
    passes, shadow_passes   mean Monte Carlo passes per row
    """

    version: str
    shadow_version: str
    jobs: int
    failed: int
    rows: int
    midpoint_distance: float
    width: float
    shadow_width: float
    outside: float
    passes: float
    shadow_passes: float

    @classmethod
    def parse(cls, sums: Mapping[bytes, bytes]) -> ShadowComparison | None:
        """Read the sums that workers keep; None where there are none."""
        version, _, shadow_version = sums.get(b"versions", b"").decode().partition(" ")
        if not shadow_version:
            return None
        number = {name.decode(): float(text) for name, text in sums.items() if name != b"versions"}
        cells, rows = max(1.0, number.get("cells", 0)), max(1.0, number.get("rows", 0))
        shares: dict[str, Any] = {name: number.get(name, 0) / cells for name in ("width", "shadow_width", "outside")}
        shares |= {name: number.get(name, 0) / rows for name in ("passes", "shadow_passes")}
        counts: dict[str, Any] = {name: int(number.get(name, 0)) for name in ("jobs", "failed", "rows")}
        return cls(
            version=version,
            shadow_version=shadow_version,
            midpoint_distance=number.get("midpoint", 0) / cells,
            **counts,
            **shares,
        )


@dataclass(frozen=True)
class ModelStatus:
    """One model or track: the version every process should serve, what was refused last, and who serves what.

    shadow  how the answers of its shadow compare, None where it has none
    """

    name: str
    wanted_version: str | None
    rejected_version: str | None
    rejected_reason: str | None
    processes: tuple[Acknowledgement, ...]
    shadow: ShadowComparison | None = None

    @property
    def converged(self) -> bool:
        """Whether at least one process is there and all of them serve the wanted version, or load it on demand."""
        return bool(self.processes) and all(
            process.state == "unloaded" or (process.version is not None and process.version == self.wanted_version)
            for process in self.processes
        )


def status_from(
    name: str,
    acknowledgements: Sequence[bytes | None],
    wanted: dict[bytes, bytes],
    candidate: dict[bytes, bytes],
    comparison: dict[bytes, bytes],
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
        shadow=ShadowComparison.parse(comparison),
    )


@dataclass(frozen=True)
class ReloadReport:
    """What a reload did: the look at the artifacts, and who serves what afterwards."""

    poll: PollReport
    model: ModelStatus
