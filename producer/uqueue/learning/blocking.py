"""Active learning for programs that wait: `client.learning`."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel

from uqueue.learning.calls import TRANSIENT, Wait, made
from uqueue.learning.conversation import TIMEOUT_SECONDS, conversation
from uqueue_config.connections import connect, translated
from uqueue_config.learning.answers import (
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
from uqueue_config.learning.feedback import ModelPerformanceData
from uqueue_config.learning.requests import (
    AddFieldSamples,
    ApproveSuggestion,
    ArchiveScenario,
    CancelRun,
    Evaluate,
    ListRuns,
    ListSpots,
    ListSuggestions,
    MakeReport,
    MapSuggestion,
    RejectSuggestion,
    Request,
    RestoreScenario,
    ResumeRun,
    ScenarioHistory,
    SearchScenarios,
    ShowRun,
    ShowScenario,
    StartRun,
)
from uqueue_config.learning.runs import RunStatus
from uqueue_config.learning.scenario import ScenarioDefinition
from uqueue_config.learning.suggestions import State

if TYPE_CHECKING:
    from uqueue.client import Client

Answer = TypeVar("Answer", bound=BaseModel)


class Learning:
    """Asks the learning worker, over the client's connection. Safe to share between threads.

    Where no worker takes a request it raises NoLearningWorker after some seconds, where all are busy LearningBusy, and
    AnswerLate where one began and did not answer; what the worker raises comes back as the same error.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    def ask(self, request: Request[Answer], timeout: float = TIMEOUT_SECONDS) -> Answer:
        """Return the answer to a request, after at most `timeout` seconds."""
        settings, ledger, *_ = self._client._parts()
        steps = conversation(request, timeout, settings.max_inline_bytes)
        with ExitStack() as opened:
            queue = ledger.connection
            if not settings.queue_is_with_records:
                queue = opened.enter_context(connect(settings.broker))
            servers = {"records": (ledger.connection, settings.result_store), "queue": (queue, settings.broker)}
            reply: Any = None
            while True:
                try:
                    step = steps.send(reply)
                except StopIteration as end:
                    return request.read_answer(end.value)
                connection, url = servers[step.where]
                with translated(url):
                    reply = connection.execute_command(*step.command)  # type: ignore[no-untyped-call]

    # --- runs ---

    def start_run(
        self, configuration: Mapping[str, Any] | None = None, *, idempotency_key: str | None = None
    ) -> RunStarted:
        """Start a run. `configuration` changes single values of the worker's own (`RunConfig` has them all); the same
        key and configuration give the same run. Raises RunConfigInvalid, RunConflict.
        """
        request = made(StartRun, configuration=configuration and dict(configuration), idempotency_key=idempotency_key)
        return self.ask(request)

    def runs(self, *, status: RunStatus | None = None, limit: int | None = None, cursor: str | None = None) -> RunList:
        """Return runs, the latest first; 50 unless `limit` says otherwise. `cursor` is `next_cursor` of the page
        before. Raises InputError for a wrong one.
        """
        return self.ask(made(ListRuns, status=status, limit=limit, cursor=cursor))

    def run(self, run_id: str) -> RunDetails:
        """Return a run with its cycles. Raises RunNotFound."""
        return self.ask(made(ShowRun, run_id=run_id))

    def wait_for_run(
        self, run_id: str, timeout: float | None = None, *, on_look: Callable[[RunDetails], None] | None = None
    ) -> RunDetails:
        """Wait until a run has ended or waits for approval, at most `timeout` seconds (for ever if None), and return
        it as it then is. `on_look` is called at every look. Lives through restarts of the learning worker. Raises
        RunNotFound.
        """
        wait = Wait(timeout)
        while True:
            try:
                details = self.run(run_id)
            except TRANSIENT as error:
                wait.note(error)
            else:
                wait.forgive()
                if on_look is not None:
                    on_look(details)
                if wait.is_over(details):
                    return details
            time.sleep(wait.pause_seconds)

    def cancel(self, run_id: str) -> RunDetails:
        """End a run at its next step. Raises RunNotFound, RunConflict."""
        return self.ask(made(CancelRun, run_id=run_id))

    def resume(self, run_id: str) -> RunDetails:
        """Let a run go on that failed or was cancelled. Raises RunNotFound, RunConflict."""
        return self.ask(made(ResumeRun, run_id=run_id))

    # --- what a run found ---

    def weak_spots(self, run_id: str, *, cycle: int | None = None) -> SpotList:
        """Return the weak spots of a cycle, by priority; of the latest that has any unless one is named."""
        return self.ask(made(ListSpots, run_id=run_id, cycle=cycle))

    def suggestions(self, run_id: str, *, cycle: int | None = None, state: State | None = None) -> SuggestionList:
        """Return the suggestions of a run, of one cycle or in one state only where these are given."""
        return self.ask(made(ListSuggestions, run_id=run_id, cycle=cycle, state=state))

    def approve(self, suggestion_id: str) -> SuggestionChanged:
        """Have a suggestion applied. Raises SuggestionNotFound, RunConflict; also where it must be mapped first."""
        return self.ask(made(ApproveSuggestion, suggestion_id=suggestion_id))

    def reject(self, suggestion_id: str) -> SuggestionChanged:
        """Have a suggestion dropped. Raises SuggestionNotFound, RunConflict."""
        return self.ask(made(RejectSuggestion, suggestion_id=suggestion_id))

    def map_suggestion(self, suggestion_id: str, mapping: Mapping[str, str]) -> SuggestionChanged:
        """Say which parameter of its scenario moves a feature for which a suggestion knows none: {feature path, or
        `param_path` as it is: parameter's path}. Possible as long as nobody decided about it, also to correct it.
        Raises SuggestionNotFound, MappingInvalid, RunConflict, and ScenarioNotFound.
        """
        return self.ask(made(MapSuggestion, suggestion_id=suggestion_id, mapping=dict(mapping)))

    def report(self, run_id: str, format: ReportFormat = "html") -> ReportFile:
        """Return the report of a run as it stands: `content` is one whole HTML, JSON or CSV file."""
        return self.ask(made(MakeReport, run_id=run_id, format=format))

    def feedback(
        self,
        dataset: str | None = None,
        *,
        samples: Sequence[Mapping[str, Any]] | None = None,
        model_version: str | None = None,
        timeout: float = 600.0,
    ) -> ModelPerformanceData:
        """Evaluate a model version once, on a data set that the worker can read or on the samples given. Raises
        DatasetNotFound, ModelVersionNotFound and others that the model interface has.
        """
        given = [dict(one) for one in samples] if samples is not None else None
        request = made(Evaluate, dataset=dataset, samples=given, model_version=model_version)
        return self.ask(request, timeout)

    def add_field_samples(
        self,
        run_id: str,
        dataset: str | None = None,
        *,
        samples: Sequence[Mapping[str, Any]] | None = None,
        timeout: float = 600.0,
    ) -> FieldSamplesTaken:
        """Have a run go after labelled samples from the field that its model gets wrong, from its next cycle on: of a
        data set that the worker can read, or those given. Samples that it holds already change nothing, and nothing is
        trained on them. Raises RunNotFound, RunConflict for a run that would not go after them, DatasetNotFound and
        DatasetFormat.
        """
        given = [dict(one) for one in samples] if samples is not None else None
        request = made(AddFieldSamples, run_id=run_id, dataset=dataset, samples=given)
        return self.ask(request, timeout)

    # --- scenarios ---

    def search_scenarios(
        self,
        query: str | None = None,
        *,
        filters: Mapping[str, Any] | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> ScenarioPage:
        """Return scenarios that a text and filters match; a page at a time. Raises ScenarioInvalid for a filter."""
        given = dict(filters) if filters is not None else None
        return self.ask(made(SearchScenarios, query=query, filters=given, limit=limit, cursor=cursor))

    def scenario(self, scenario_id: str, *, version: int | None = None) -> ScenarioDefinition:
        """Return a scenario, as it is or as it was at a version. Raises ScenarioNotFound."""
        return self.ask(made(ShowScenario, scenario_id=scenario_id, version=version))

    def scenario_history(self, scenario_id: str) -> ScenarioVersions:
        """Return every version of a scenario, the latest first. Raises ScenarioNotFound."""
        return self.ask(made(ScenarioHistory, scenario_id=scenario_id))

    def restore_scenario(self, scenario_id: str, version: int) -> ScenarioDefinition:
        """Make a new version of a scenario with the content of an old one. Raises ScenarioNotFound."""
        return self.ask(made(RestoreScenario, scenario_id=scenario_id, version=version))

    def archive_scenario(self, scenario_id: str) -> None:
        """Take a scenario out of use; its history stays. Raises ScenarioNotFound."""
        self.ask(made(ArchiveScenario, scenario_id=scenario_id))
