"""What clients ask the learning worker for. Each request is small and names the class of its answer.

A request travels in a message of the task `uqueue.learning.ask`, inside an `Ask`; its answer comes back as a frame
(`uqueue_config.learning.answers`). Every program may send them, so nothing in them is trusted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Generic, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StrictInt,
    ValidationError,
    model_validator,
)
from pydantic_core import from_json, to_json

from uqueue_config.errors import InvalidMessage
from uqueue_config.learning.answers import (
    Done,
    FieldSamplesTaken,
    ReportFile,
    ReportFormat,
    RunDetails,
    RunList,
    RunStarted,
    ScenarioPage,
    ScenarioVersions,
    SpotList,
    SuggestionChanged,
    SuggestionList,
)
from uqueue_config.learning.errors import ActiveLearningError
from uqueue_config.learning.feedback import ModelPerformanceData
from uqueue_config.learning.plain_text import plain, plain_json
from uqueue_config.learning.problems import problems_of
from uqueue_config.learning.runs import RunStatus
from uqueue_config.learning.scenario import ScenarioDefinition
from uqueue_config.learning.suggestions import State

MAX_PAGE = 500
#: Samples that one evaluation may bring along; more are named by the path of a data set.
MAX_SAMPLES = 10_000
TOKEN = r"^[0-9a-f]{32}$"  # noqa: S105 - a pattern

Id = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(plain)]
Text = Annotated[str, Field(max_length=1000), AfterValidator(plain)]
Values = Annotated[dict[str, Any], AfterValidator(plain_json)]
Limit = Annotated[StrictInt, Field(ge=1, le=MAX_PAGE)]
Cursor = Annotated[str, Field(min_length=1, max_length=500), AfterValidator(plain)]
#: As the gateway takes it in its header.
Key = Annotated[str, Field(pattern=r"^[ -~]{1,300}$")]
Version = Annotated[StrictInt, Field(ge=1, le=2**31 - 1)]
Cycle = Annotated[StrictInt, Field(ge=0, le=1_000_000)]
#: Validators are built at the first use: programs that ask nothing do not wait for them.
_CONFIG = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False, defer_build=True)
Path = Annotated[str, Field(min_length=1, max_length=500), AfterValidator(plain)]
#: A suggestion modifies two parameters at most.
ParameterOfFeature = Annotated[dict[Path, Path], Field(min_length=1, max_length=2)]
Answer_co = TypeVar("Answer_co", bound=BaseModel, covariant=True)


class Request(BaseModel, Generic[Answer_co]):
    """A question or an order. Unknown members are refused."""

    model_config = _CONFIG
    answered_by: ClassVar[type[BaseModel]] = Done
    kind: str

    def read_answer(self, message: Any) -> Answer_co:
        """Return the answer that a JSON value holds. Raises ActiveLearningError."""
        try:
            return self.answered_by.model_validate(message)  # type: ignore[return-value]
        except ValidationError as error:
            reason = f"the learning worker's answer cannot be read ({problems_of(error)})"
            raise ActiveLearningError(reason=reason) from None


class StartRun(Request[RunStarted]):
    """Start a run. `configuration` changes single values of the worker's own; the same key gives the same run."""

    answered_by = RunStarted
    kind: Literal["start_run"] = "start_run"
    configuration: Values = Field(default_factory=dict)
    idempotency_key: Key | None = None


class ListRuns(Request[RunList]):
    """List runs, the latest first, a page at a time."""

    answered_by = RunList
    kind: Literal["list_runs"] = "list_runs"
    status: RunStatus | None = None
    limit: Limit = 50
    cursor: Cursor | None = None


class ShowRun(Request[RunDetails]):
    """A run with its cycles."""

    answered_by = RunDetails
    kind: Literal["show_run"] = "show_run"
    run_id: Id


class ListSpots(Request[SpotList]):
    """The weak spots of a run's cycle, by priority; of its latest that has any unless one is named."""

    answered_by = SpotList
    kind: Literal["list_spots"] = "list_spots"
    run_id: Id
    cycle: Cycle | None = None


class ListSuggestions(Request[SuggestionList]):
    """The suggestions of a run, of one cycle or in one state only where these are given."""

    answered_by = SuggestionList
    kind: Literal["list_suggestions"] = "list_suggestions"
    run_id: Id
    cycle: Cycle | None = None
    state: State | None = None


class MakeReport(Request[ReportFile]):
    """The report of a run as it stands."""

    answered_by = ReportFile
    kind: Literal["make_report"] = "make_report"
    run_id: Id
    format: ReportFormat = "html"


class CancelRun(Request[RunDetails]):
    """End a run at its next step."""

    answered_by = RunDetails
    kind: Literal["cancel_run"] = "cancel_run"
    run_id: Id


class ResumeRun(Request[RunDetails]):
    """Let a run that failed or was cancelled go on after its last finished step."""

    answered_by = RunDetails
    kind: Literal["resume_run"] = "resume_run"
    run_id: Id


class ApproveSuggestion(Request[SuggestionChanged]):
    """Have a suggestion applied."""

    answered_by = SuggestionChanged
    kind: Literal["approve_suggestion"] = "approve_suggestion"
    suggestion_id: Id


class RejectSuggestion(Request[SuggestionChanged]):
    """Have a suggestion dropped, with what was made for it."""

    answered_by = SuggestionChanged
    kind: Literal["reject_suggestion"] = "reject_suggestion"
    suggestion_id: Id


class MapSuggestion(Request[SuggestionChanged]):
    """Say which parameter moves a feature of a suggestion: from feature, or `param_path` as it is, to parameter."""

    answered_by = SuggestionChanged
    kind: Literal["map_suggestion"] = "map_suggestion"
    suggestion_id: Id
    mapping: ParameterOfFeature


class Evaluate(Request[ModelPerformanceData]):
    """Evaluate a model version once: on a data set that the worker can read, or on the samples given here."""

    answered_by = ModelPerformanceData
    kind: Literal["evaluate"] = "evaluate"
    dataset: Text | None = None
    samples: Annotated[list[Values], Field(min_length=1, max_length=MAX_SAMPLES)] | None = None
    model_version: Id | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.dataset is None) == (self.samples is None):
            raise ValueError("expected either `dataset` or `samples`")
        return self


class AddFieldSamples(Request[FieldSamplesTaken]):
    """Have a run go after labelled samples from the field that its model gets wrong: of a data set that the worker can
    read, or those given here. Samples that it holds already change nothing.
    """

    answered_by = FieldSamplesTaken
    kind: Literal["add_field_samples"] = "add_field_samples"
    run_id: Id
    dataset: Text | None = None
    samples: Annotated[list[Values], Field(min_length=1, max_length=MAX_SAMPLES)] | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.dataset is None) == (self.samples is None):
            raise ValueError("expected either `dataset` or `samples`")
        return self


class SearchScenarios(Request[ScenarioPage]):
    """Scenarios that a text and filters match; `filters` are those of the repository."""

    answered_by = ScenarioPage
    kind: Literal["search_scenarios"] = "search_scenarios"
    query: Text | None = None
    filters: Values = Field(default_factory=dict)
    limit: Limit = 50
    cursor: Cursor | None = None


class ShowScenario(Request[ScenarioDefinition]):
    """A scenario, as it is or as it was at a version."""

    answered_by = ScenarioDefinition
    kind: Literal["show_scenario"] = "show_scenario"
    scenario_id: Id
    version: Version | None = None


class ScenarioHistory(Request[ScenarioVersions]):
    """Every version of a scenario, the latest first."""

    answered_by = ScenarioVersions
    kind: Literal["scenario_history"] = "scenario_history"
    scenario_id: Id


class RestoreScenario(Request[ScenarioDefinition]):
    """Make a new version of a scenario with the content of an old one."""

    answered_by = ScenarioDefinition
    kind: Literal["restore_scenario"] = "restore_scenario"
    scenario_id: Id
    version: Version


class ArchiveScenario(Request[Done]):
    """Take a scenario out of use; its history stays."""

    kind: Literal["archive_scenario"] = "archive_scenario"
    scenario_id: Id


AnyRequest = (
    StartRun
    | ListRuns
    | ShowRun
    | ListSpots
    | ListSuggestions
    | MakeReport
    | CancelRun
    | ResumeRun
    | ApproveSuggestion
    | RejectSuggestion
    | MapSuggestion
    | Evaluate
    | AddFieldSamples
    | SearchScenarios
    | ShowScenario
    | ScenarioHistory
    | RestoreScenario
    | ArchiveScenario
)


class Ask(BaseModel):
    """The keyword arguments of `uqueue.learning.ask`: a request, and where its answer is waited for."""

    model_config = _CONFIG

    message_schema: Literal[1] = Field(1, alias="schema")
    token: Annotated[str, Field(pattern=TOKEN)]
    request: Annotated[AnyRequest, Field(discriminator="kind")]

    @classmethod
    def read(cls, kwargs: Mapping[str, Any]) -> Self:
        """Check what came out of a queue. Raises InvalidMessage saying what is wrong."""
        try:
            return cls.model_validate(dict(kwargs))
        except ValidationError as error:
            raise InvalidMessage(reason=problems_of(error)) from None

    def to_message(self) -> dict[str, Any]:
        """Return the keyword arguments as JSON values."""
        message: dict[str, Any] = from_json(to_json(self.model_dump(by_alias=True)))
        return message


REQUESTS: tuple[type[Request[Any]], ...] = AnyRequest.__args__
