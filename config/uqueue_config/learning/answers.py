"""What the learning worker answers, and the frame in which an answer or an error crosses Redis."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from pydantic_core import from_json, to_json

from uqueue_config.errors import UqueueError, from_wire
from uqueue_config.learning.errors import ActiveLearningError, AnswerTooLarge
from uqueue_config.learning.record import Record
from uqueue_config.learning.runs import CycleRecord, CycleState, RunRecord, RunStatus, StopReason
from uqueue_config.learning.scenario import ScenarioDefinition
from uqueue_config.learning.spots import WeakSpot
from uqueue_config.learning.suggestions import Suggestion
from uqueue_config.learning.values import Count, JsonValue

#: An answer of more bytes is refused by who would send it; a report of a long run has one or two million.
MAX_ANSWER_BYTES = 16 * 1024 * 1024
FRAME_SCHEMA = 1
ReportFormat = Literal["html", "json", "csv"]
MEDIA_TYPES: dict[ReportFormat, str] = {"html": "text/html", "json": "application/json", "csv": "text/csv"}


class Done(BaseModel):
    """It was done, and there is nothing more to say."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    done: Literal[True] = True


class RunStarted(Record):
    """The run that was started, or the one that the idempotency key had started before (`created` is false)."""

    run: RunRecord
    created: bool


class RunSummary(Record):
    """A run in a list. `value` is the target metric on the feedback pool, `test_value` on the test set."""

    run_id: str
    status: RunStatus
    cycle: Count
    max_cycles: int
    state: CycleState
    stop_reason: StopReason | None = None
    strategy: str
    target_metric: str
    value: float | None = None
    test_value: float | None = None
    samples_spent: Count
    error: str | None = None
    created_at_utc: AwareDatetime
    updated_at_utc: AwareDatetime

    @classmethod
    def of(cls, run: RunRecord) -> RunSummary:
        """Return what a list says of a run."""
        metric = run.config.target_metric
        return cls(
            run_id=run.run_id,
            status=run.status,
            cycle=run.cycle,
            max_cycles=run.config.max_cycles,
            state=run.state,
            stop_reason=run.stop_reason,
            strategy=run.config.strategy,
            target_metric=metric,
            value=run.feedback.metrics.get(metric) if run.feedback else None,
            test_value=run.test.metrics.get(metric) if run.test else None,
            samples_spent=run.samples_spent,
            error=run.error.message if run.error else None,
            created_at_utc=run.created_at_utc,
            updated_at_utc=run.updated_at_utc,
        )


class RunList(Record):
    """Some of the runs, the latest first; `next_cursor` leads on, None after the last."""

    runs: tuple[RunSummary, ...]
    next_cursor: str | None = None


class RunDetails(Record):
    """A run and its cycles so far, the first of which has the number 0."""

    run: RunRecord
    cycles: tuple[CycleRecord, ...] = ()


class SpotList(Record):
    """The weak spots of one cycle, by priority; `cycle` is None where no cycle has any yet."""

    run_id: str
    cycle: Count | None
    spots: tuple[WeakSpot, ...]


class FieldSamplesTaken(Record):
    """Samples from the field that a run holds now: `taken` new ones, beside those that it held (`known`). They count
    from `cycle` on; the first has the number 0."""

    run_id: str
    taken: Count
    known: Count
    cycle: Count


class SuggestionEntry(Record):
    """A suggestion and the cycle that made it."""

    cycle: Count
    suggestion: Suggestion


class SuggestionList(Record):
    run_id: str
    suggestions: tuple[SuggestionEntry, ...]


class SuggestionChanged(Record):
    """A suggestion after somebody decided about it or mapped it, and where its run stands."""

    run_id: str
    run_status: RunStatus
    suggestion: Suggestion


class ReportFile(Record):
    """A report, whole: one file without references to others."""

    run_id: str
    format: ReportFormat
    content: str

    @property
    def media_type(self) -> str:
        return MEDIA_TYPES[self.format]

    @property
    def file_name(self) -> str:
        """A name for the file; of the run's id only what is safe in names."""
        safe = "".join(one if (one.isalnum() and one.isascii()) or one in "-_" else "_" for one in self.run_id)
        return f"learning-{safe[:64]}.{self.format}"


class ScenarioPage(Record):
    """Some of the scenarios found; `next_cursor` leads on, None after the last.

    `ranked_all` is false if words matched more scenarios than are ranked: then the latest 1,000 matches come first, the
    best of them first, and behind them all others, the latest update first.
    """

    scenarios: tuple[ScenarioDefinition, ...]
    next_cursor: str | None = None
    ranked_all: bool = True


class ScenarioChange(Record):
    """One version of a scenario: what was done, when, by whom and why. `definition` is its content then."""

    version: int = Field(ge=1)
    operation: Literal["insert", "update", "archive", "restore"]
    changed_at_utc: AwareDatetime
    changed_by: str | None = None
    reason: str | None = None
    originating_weak_spot_ids: tuple[str, ...] = ()
    definition: dict[str, JsonValue] = Field(default_factory=dict)


class ScenarioVersions(Record):
    """The history of a scenario, the latest version first."""

    scenario_id: str
    versions: tuple[ScenarioChange, ...]


def frame_of(answer: BaseModel) -> bytes:
    """Return what crosses Redis for an answer. Raises AnswerTooLarge."""
    frame = to_json({"schema": FRAME_SCHEMA, "answer": answer.model_dump(mode="json")}, inf_nan_mode="null")
    if len(frame) > MAX_ANSWER_BYTES:
        raise AnswerTooLarge(size_bytes=len(frame), limit_bytes=MAX_ANSWER_BYTES)
    return frame


def frame_of_error(error: UqueueError) -> bytes:
    """Return what crosses Redis for an error."""
    return to_json({"schema": FRAME_SCHEMA, "error": error.to_wire()}, inf_nan_mode="null", fallback=str)


def opened(frame: bytes) -> Any:
    """Return the answer in a frame as a JSON value. Raises the error in it, or ActiveLearningError."""
    try:
        found = from_json(frame)
    except ValueError as error:
        raise ActiveLearningError(reason=f"the learning worker's answer is not JSON ({str(error)[:100]})") from None
    if not isinstance(found, dict) or found.get("schema") != FRAME_SCHEMA:
        raise ActiveLearningError(reason=f"the learning worker's answer is not of schema {FRAME_SCHEMA}")
    failure = found.get("error")
    if isinstance(failure, dict):
        raise from_wire(failure)
    if "answer" not in found:
        raise ActiveLearningError(reason="the learning worker's answer holds neither answer nor error")
    return found["answer"]
