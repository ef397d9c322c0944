"""From claimed messages to answers. Whatever one job does, the others of its batch are answered."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import structlog

from uqueue_config.classification import Classification
from uqueue_config.envelope import is_overdue, read_headers
from uqueue_config.errors import (
    InternalError,
    InvalidMessage,
    JobExpired,
    JobTimeLimit,
    ModelOutputInvalid,
    UqueueError,
)
from uqueue_config.ledger import ClaimedJob, Outcome, success_meta, timestamp
from uqueue_config.localization import Localization
from uqueue_config.messages import PredictRequest
from uqueue_config.names import JobState, Task
from uqueue_config.payload import PayloadFolder
from uqueue_config.prediction import IntervalPrediction
from uqueue_config.seeds import seed_from_job_id
from uqueue_config.settings import Settings
from uqueue_config.trace import trace_facts
from uqueue_worker.classification import Classifier
from uqueue_worker.lane.answers import results_json
from uqueue_worker.localization import Localizer
from uqueue_worker.models import IntervalModel
from uqueue_worker.models.catalog import Served, Wanted
from uqueue_worker.models.comparison import Comparisons
from uqueue_worker.models.interval_model import Float32
from uqueue_worker.models.kinds import AnyModel
from uqueue_worker.units import in_target_units

#: Rows evaluated together; a job with more runs alone, with checkpoints of its own.
MAX_ROWS = 4096
ModelFor = Callable[[PredictRequest, str, Wanted], Served]
CheckpointFor = Callable[[str, int], Callable[[int], None]]
_log = structlog.get_logger("uqueue.lane")


class Answer(NamedTuple):
    """How one job ends, as `LedgerCommands.commit_prepared` takes it."""

    job_id: str
    state: str
    celery_meta: bytes
    error_json: str
    dead_reason: str
    fence: int | str

    @classmethod
    def of(cls, job_id: str, outcome: Outcome, attempt: int | None = None) -> Answer:
        return cls(*outcome.committable(job_id, attempt))


@dataclass(frozen=True, slots=True)
class Work:
    """One job that was read: `features` as they came, to be checked by the model that serves it."""

    job: ClaimedJob
    request: PredictRequest
    features: Any
    served: Served
    seed: int

    @property
    def model(self) -> AnyModel:
        return self.served.model

    @property
    def alone(self) -> bool:
        """Large jobs report progress; jobs that were started before may be what ended their process."""
        model, request = self.served.model, self.request
        if isinstance(model, IntervalModel):
            sole = self.job.attempt > 1 or request.encoding != "lists" or len(self.features) > MAX_ROWS
            return sole or not model.engine.batch_independent
        return self.job.attempt > 1 or len(self.features) > model.rows_together


class Batch:
    """Answers batches with the models of one process. What their shadows answer goes to `comparisons`."""

    def __init__(
        self, settings: Settings, model_for: ModelFor, checkpoint_for: CheckpointFor, comparisons: Comparisons
    ) -> None:
        self._settings = settings
        self._model_for = model_for
        self._checkpoint_for = checkpoint_for
        self._comparisons = comparisons
        self._payloads = PayloadFolder.of(settings)
        #: For the log: the headers of those jobs of the last batch that say which request they come from.
        self.traced: dict[str, Mapping[str, Any]] = {}

    def answers(self, jobs: Sequence[ClaimedJob], wanted: Wanted) -> Iterator[list[Answer]]:
        """Yield the answers of the jobs, in groups that may be committed as soon as they are there."""
        self.traced = {}
        ready, refused = [], []
        for job in jobs:
            try:
                ready.append(self._read(job, wanted))
            except Exception as error:
                refused.append(self._failure(job, error))
        if refused:
            yield refused
        for group in _grouped(ready):
            if group[0].alone:
                yield from self._answer_alone(group[0])
            else:
                yield from self._answer_together(group)

    def _read(self, job: ClaimedJob, wanted: Wanted) -> Work:
        headers, kwargs = read_headers(job.message)
        if "traceparent" in headers or "request_id" in headers:
            self.traced[job.id] = headers
        if headers["task"] != Task.PREDICT:
            raise InvalidMessage(reason=f"unknown task {headers['task'][:80]!r}")
        if job.attempt == 1 and is_overdue(headers):
            raise JobExpired(job_id=job.id)
        request = PredictRequest.read(kwargs)
        served = self._model_for(request, job.id, wanted)
        seed = seed_from_job_id(job.id) if request.seed is None else request.seed
        return Work(job, request, request.raw_features(self._payloads), served, seed)

    def _answer_together(self, group: Sequence[Work]) -> Iterator[list[Answer]]:
        served = group[0].served
        if not isinstance(served.model, IntervalModel):
            yield from self._run_together(group, served.model)
            return
        model = served.model
        table = _one_table(group, model)
        if table is None:
            yield from chain.from_iterable(map(self._answer_alone, group))
            return
        lengths, seeds = [len(work.features) for work in group], [work.seed for work in group]
        try:
            whole = model.predict_together(table, lengths, seeds, on_progress=self._deadline(""))
            results = list(results_json(model, served.spec, whole, lengths, seeds))
        except Exception:
            _log.exception("batch_failed", jobs=len(group))
            yield from chain.from_iterable(map(self._answer_alone, group))
            return
        state, now = JobState.SUCCEEDED.value, timestamp()
        yield [
            Answer(work.job.id, state, success_meta(work.job.id, result, now), "", "", "")
            for work, result in zip(group, results, strict=True)
        ]
        shadow = served.shadow
        if shadow is not None:
            self._comparisons.compare(
                len(group), model, whole.prediction, shadow,
                lambda: shadow.predict_together(table, lengths, seeds, on_progress=self._deadline("")).prediction,
            )  # fmt: skip

    def _run_together(self, group: Sequence[Work], model: Localizer | Classifier) -> Iterator[list[Answer]]:
        """Answer jobs of one ONNX model part by part; a job that does not fit, or whose answer cannot be, fails by
        itself."""
        checked: list[tuple[Work, Float32]] = []
        refused = []
        for work in group:
            try:
                checked.append((work, model.check(work.features, work.request.target_dim)))
            except Exception as error:
                refused.append(self._failure(work.job, error))
        if refused:
            yield refused
        most_rows = self._settings.max_onnx_batch if isinstance(model, Localizer) else model.rows_together
        for some in _in_runs(checked, most_rows):
            try:
                table, lengths = np.concatenate([rows for _, rows in some]), [len(rows) for _, rows in some]
                found = model.predict_together(table, lengths, on_progress=self._deadline(""))
            except Exception:
                _log.exception("batch_failed", jobs=len(some))
                yield from chain.from_iterable(self._answer_alone(work) for work, _ in some)
                continue
            yield [self._answered(work, answer) for (work, _), answer in zip(some, found, strict=True)]

    def _answered(self, work: Work, answer: Localization | Classification | ModelOutputInvalid) -> Answer:
        if isinstance(answer, ModelOutputInvalid):
            return self._failure(work.job, answer)
        return Answer.of(work.job.id, Outcome.success(answer.to_message(work.request.encoding)))

    def _answer_alone(self, work: Work) -> Iterator[list[Answer]]:
        job_id, served = work.job.id, work.served
        deadline = self._deadline(job_id)
        try:
            table = work.model.check(work.features, work.request.target_dim)
            checkpoint = self._checkpoint_for(job_id, len(table))

            def on_progress(rows_done: int) -> None:
                deadline(rows_done)
                checkpoint(rows_done)

            prediction = work.model.predict(table, seed=work.seed, on_progress=on_progress)
            message = in_target_units(prediction, served.spec).to_message(work.request.encoding)
        except Exception as error:
            yield [self._failure(work.job, error)]
            return
        yield [Answer.of(job_id, Outcome.success(message))]
        shadow, model = served.shadow, work.model
        if shadow is not None and isinstance(prediction, IntervalPrediction) and isinstance(model, IntervalModel):
            self._comparisons.compare(
                1, model, prediction, shadow,
                lambda: shadow.predict(table, seed=work.seed, on_progress=self._deadline(job_id)),
            )  # fmt: skip

    def _deadline(self, job_id: str) -> Callable[[int], None]:
        limit = self._settings.soft_time_limit_seconds.total_seconds()
        end = time.monotonic() + limit

        def check(rows_done: int) -> None:
            if time.monotonic() > end:
                raise JobTimeLimit(job_id=job_id, limit_seconds=limit)

        return check

    def _failure(self, job: ClaimedJob, error: Exception) -> Answer:
        trace = trace_facts(self.traced.get(job.id, {}))
        if isinstance(error, UqueueError):
            _log.warning("job_failed", job_id=job.id, code=error.code, reason=error.message, **trace)
            return Answer.of(job.id, Outcome.failure(error), job.attempt)
        reference = uuid.uuid4().hex[:12]
        _log.error("job_failed_unforeseen", job_id=job.id, reference=reference, exc_info=error, **trace)
        return Answer.of(job.id, Outcome.failure(InternalError(job_id=job.id, reference=reference)), job.attempt)


def _grouped(ready: Sequence[Work]) -> Iterator[list[Work]]:
    """Yield the works that may be evaluated together in one list of at most MAX_ROWS rows, the others by themselves."""
    groups: dict[int, tuple[list[Work], int]] = {}
    for work in ready:
        if work.alone:
            yield [work]
            continue
        key, more = id(work.model), len(work.features)
        group, rows = groups.get(key, ([], 0))
        if group and rows + more > MAX_ROWS:
            yield group
            group, rows = [], 0
        group.append(work)
        groups[key] = group, rows + more
    for group, _ in groups.values():
        yield group


def _in_runs(checked: Sequence[tuple[Work, Float32]], most_rows: int) -> Iterator[list[tuple[Work, Float32]]]:
    """Yield the jobs in parts of at most so many rows, so that the first are answered soon."""
    some: list[tuple[Work, Float32]] = []
    rows = 0
    for work, table in checked:
        if some and rows + len(table) > most_rows:
            yield some
            some, rows = [], 0
        some.append((work, table))
        rows += len(table)
    if some:
        yield some


def _one_table(group: Sequence[Work], model: IntervalModel) -> Float32 | None:
    """Return the rows of all works as one checked table; None where one of them may not fit the model.

    What is plainly right is recognised for all at once. Whatever is not is left to `IntervalModel.check`, job by job.
    """
    rows = list(chain.from_iterable(work.features for work in group))
    if not all(type(row) is list and len(row) == model.n_features for row in rows):
        return None
    cells = list(chain.from_iterable(rows))
    targets = {None, model.n_targets}
    if not {float, int}.issuperset(map(type, cells)) or not targets.issuperset(w.request.target_dim for w in group):
        return None
    if not all(work.features for work in group):
        return None
    try:
        with np.errstate(over="ignore"):
            table = np.array(cells, np.float64).astype(np.float32).reshape(len(rows), model.n_features)
    except OverflowError:  # a whole number beyond float64
        return None
    return table if np.isfinite(table).all() else None
