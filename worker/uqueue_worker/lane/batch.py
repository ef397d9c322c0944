"""From claimed messages to outcomes. Whatever one job does, the others of its batch are answered."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from uqueue_config.envelope import read_celery_message
from uqueue_config.errors import InternalError, InvalidMessage, JobTimeLimit, UqueueError
from uqueue_config.ledger import ClaimedJob, Outcome
from uqueue_config.messages import PredictRequest
from uqueue_config.names import Task
from uqueue_config.seeds import seed_from_job_id
from uqueue_config.settings import Settings
from uqueue_worker.lane.answers import result_messages
from uqueue_worker.models import IntervalModel
from uqueue_worker.models.interval_model import Float32
from uqueue_worker.units import in_target_units

#: Rows evaluated together; a job with more runs alone, with checkpoints of its own.
MAX_ROWS = 4096
ModelFor = Callable[[str, str | None], IntervalModel]
CheckpointFor = Callable[[str, int], Callable[[int], None]]
_log = structlog.get_logger("uqueue.lane")


@dataclass(frozen=True)
class Work:
    """One job that is ready to compute."""

    job: ClaimedJob
    request: PredictRequest
    model: IntervalModel
    table: Float32
    seed: int

    @property
    def alone(self) -> bool:
        """Large jobs report progress; jobs that were started before may be what ended their process."""
        sole = len(self.table) > MAX_ROWS or self.job.attempt > 1 or self.request.encoding != "lists"
        return sole or not self.model.engine.batch_independent


class Batch:
    """Answers batches with the models of one process."""

    def __init__(self, settings: Settings, model_for: ModelFor, checkpoint_for: CheckpointFor) -> None:
        self._settings = settings
        self._model_for = model_for
        self._checkpoint_for = checkpoint_for

    def outcomes(self, jobs: Sequence[ClaimedJob], wanted_version: str | None) -> Iterator[list[tuple[str, Outcome]]]:
        """Yield the outcomes of the jobs, in groups that may be committed as soon as they are there."""
        ready, refused = [], []
        for job in jobs:
            try:
                ready.append(self._read(job, wanted_version))
            except Exception as error:
                refused.append((job.id, self._failure(job.id, error)))
        if refused:
            yield refused
        for group in _grouped(ready):
            yield self._answer_alone(group[0]) if group[0].alone else self._answer_together(group)

    def _read(self, job: ClaimedJob, wanted_version: str | None) -> Work:
        task, kwargs = read_celery_message(job.message)
        if task != Task.PREDICT:
            raise InvalidMessage(reason=f"unknown task {task[:80]!r}")
        request = PredictRequest.read(kwargs)
        model = self._model_for(request.model, wanted_version)
        table = model.check(request.raw_features(), request.target_dim)
        seed = seed_from_job_id(job.id) if request.seed is None else request.seed
        return Work(job, request, model, table, seed)

    def _answer_together(self, group: Sequence[Work]) -> list[tuple[str, Outcome]]:
        model = group[0].model
        tables, seeds = [work.table for work in group], [work.seed for work in group]
        try:
            whole = model.predict_together(tables, seeds, on_progress=self._deadline(""))
            messages = result_messages(model, self._settings, whole, tables, seeds)
            return [(work.job.id, Outcome.success(message)) for work, message in zip(group, messages, strict=True)]
        except Exception:
            _log.exception("batch_failed", jobs=len(group))
            return [outcome for work in group for outcome in self._answer_alone(work)]

    def _answer_alone(self, work: Work) -> list[tuple[str, Outcome]]:
        job_id = work.job.id
        checkpoint, deadline = self._checkpoint_for(job_id, len(work.table)), self._deadline(job_id)

        def on_progress(rows_done: int) -> None:
            deadline(rows_done)
            checkpoint(rows_done)

        try:
            prediction = work.model.predict(work.table, seed=work.seed, on_progress=on_progress)
            message = in_target_units(prediction, self._settings).to_message(work.request.encoding)
            return [(job_id, Outcome.success(message))]
        except Exception as error:
            return [(job_id, self._failure(job_id, error))]

    def _deadline(self, job_id: str) -> Callable[[int], None]:
        limit = self._settings.soft_time_limit_seconds.total_seconds()
        end = time.monotonic() + limit

        def check(rows_done: int) -> None:
            if time.monotonic() > end:
                raise JobTimeLimit(job_id=job_id, limit_seconds=limit)

        return check

    def _failure(self, job_id: str, error: Exception) -> Outcome:
        if isinstance(error, UqueueError):
            _log.warning("job_failed", job_id=job_id, code=error.code, reason=error.message)
            return Outcome.failure(error)
        reference = uuid.uuid4().hex[:12]
        _log.error("job_failed_unforeseen", job_id=job_id, reference=reference, exc_info=error)
        return Outcome.failure(InternalError(job_id=job_id, reference=reference))


def _grouped(ready: Sequence[Work]) -> Iterator[list[Work]]:
    """Yield works in order, those that may be evaluated together in one list of at most MAX_ROWS rows."""
    group: list[Work] = []
    rows = 0
    for work in ready:
        if group and (work.alone or work.model is not group[0].model or rows + len(work.table) > MAX_ROWS):
            yield group
            group, rows = [], 0
        if work.alone:
            yield [work]
        else:
            group.append(work)
            rows += len(work.table)
    if group:
        yield group


def committable(outcomes: Sequence[tuple[str, Outcome]]) -> list[tuple[str, str, str, str]]:
    """Return what `LedgerCommands.commit_many` takes."""
    return [
        (job_id, outcome.state.value, outcome.celery_meta(job_id), outcome.error_json()) for job_id, outcome in outcomes
    ]


def shown_arguments(message: bytes) -> Any:
    """Return the arguments as the sender wants them shown; never the numbers themselves."""
    try:
        return json.loads(message)["headers"].get("kwargsrepr", "")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return ""
