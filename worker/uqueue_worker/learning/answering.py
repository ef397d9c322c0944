"""What the learning worker answers to its clients: one plain function per request, without Celery and Redis."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic import BaseModel

from uqueue_config.learning.answers import (
    Done,
    FieldSamplesTaken,
    ReportFile,
    ReportFormat,
    RunDetails,
    RunList,
    RunStarted,
    RunSummary,
    ScenarioChange,
    ScenarioPage,
    ScenarioVersions,
    SpotList,
    SuggestionChanged,
    SuggestionEntry,
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
from uqueue_config.learning.runs import RunConfig, RunRecord
from uqueue_config.learning.scenario import ScenarioDefinition
from uqueue_config.learning.settings import RunDefaults
from uqueue_worker.learning.engine.continuing import continuing
from uqueue_worker.learning.engine.mapping import map_suggestion
from uqueue_worker.learning.engine.run_pages import page_of_runs
from uqueue_worker.learning.engine.store import RunStore
from uqueue_worker.learning.errors import (
    ActiveLearningError,
    RunConflict,
    ScenarioNotFound,
    SuggestionNotFound,
)
from uqueue_worker.learning.interfaces import ModelInterface, ScenarioRepositoryInterface
from uqueue_worker.learning.models.datasets import open_dataset

Verdict = Literal["approved", "rejected"]


class Campaigns(Protocol):
    """What answering needs of the engine."""

    store: RunStore

    def create(
        self, config: RunConfig, *, run_id: str | None = None, idempotency_key: str | None = None
    ) -> RunRecord: ...

    def cancel(self, run_id: str) -> RunRecord: ...

    def resume(self, run_id: str) -> RunRecord: ...

    def decide(self, suggestion_id: str, verdict: Verdict) -> RunRecord: ...

    def add_field_samples(self, run_id: str, samples: Iterable[Any]) -> FieldSamplesTaken: ...


@dataclass(frozen=True)
class Services:
    """What requests are answered with.

    report      returns the report of a run as text
    defaults    what a run's configuration has where a request says nothing
    data_roots  folders that data sets given as paths must lie below
    scenarios   answers look-ups and searches of scenarios, by copies while the database is down; `repository` unless
                given, which reads for runs and writes
    """

    engine: Campaigns
    repository: ScenarioRepositoryInterface
    model: ModelInterface
    report: Callable[[str, ReportFormat], str]
    defaults: RunDefaults
    data_roots: tuple[Path, ...] = ()
    scenarios: ScenarioRepositoryInterface | None = None

    @property
    def look_up(self) -> ScenarioRepositoryInterface:
        return self.repository if self.scenarios is None else self.scenarios


def answer(request: Request[Any], services: Services) -> BaseModel:
    """Return the answer to a request. Raises an ActiveLearningError."""
    try:
        return _ANSWERS[type(request)](request, services)
    except NotImplementedError as error:
        raise ActiveLearningError(reason=str(error)) from None


def _start_run(request: StartRun, services: Services) -> RunStarted:
    named = type(services.defaults).model_fields.keys() & RunConfig.model_fields.keys()
    own = {name: getattr(services.defaults, name) for name in named}
    config = RunConfig.read({**own, **continuing(services.engine.store, request.configuration)})
    run_id = f"run-{uuid.uuid4().hex[:16]}"
    run = services.engine.create(config, run_id=run_id, idempotency_key=request.idempotency_key)
    if run.config_hash != config.config_hash:
        reason = "the idempotency key belongs to it, and it has another configuration"
        raise RunConflict(run_id=run.run_id, status=run.status, reason=reason)
    return RunStarted(run=run, created=run.run_id == run_id)


def _list_runs(request: ListRuns, services: Services) -> RunList:
    statuses = (request.status,) if request.status is not None else ()
    found = page_of_runs(services.engine.store, statuses, request.limit, request.cursor)
    return RunList(runs=tuple(map(RunSummary.of, found.runs)), next_cursor=found.cursor)


def _show_run(request: ShowRun, services: Services) -> RunDetails:
    return _details(services, services.engine.store.get_run(request.run_id))


def _cancel_run(request: CancelRun, services: Services) -> RunDetails:
    return _details(services, services.engine.cancel(request.run_id))


def _resume_run(request: ResumeRun, services: Services) -> RunDetails:
    return _details(services, services.engine.resume(request.run_id))


def _details(services: Services, run: RunRecord) -> RunDetails:
    return RunDetails(run=run, cycles=tuple(services.engine.store.cycles(run.run_id)))


def _list_spots(request: ListSpots, services: Services) -> SpotList:
    store = services.engine.store
    store.get_run(request.run_id)
    found = store.spots(request.run_id, request.cycle)
    cycle = request.cycle if request.cycle is not None else max((number for number, _ in found), default=None)
    return SpotList(run_id=request.run_id, cycle=cycle, spots=tuple(spot for number, spot in found if number == cycle))


def _list_suggestions(request: ListSuggestions, services: Services) -> SuggestionList:
    store = services.engine.store
    store.get_run(request.run_id)
    entries = (
        SuggestionEntry(cycle=cycle, suggestion=one)
        for cycle, one in store.suggestions(request.run_id, request.cycle)
        if request.state in (None, one.state)
    )
    return SuggestionList(run_id=request.run_id, suggestions=tuple(entries))


def _make_report(request: MakeReport, services: Services) -> ReportFile:
    content = services.report(request.run_id, request.format)
    return ReportFile(run_id=request.run_id, format=request.format, content=content)


def _approve(request: ApproveSuggestion, services: Services) -> SuggestionChanged:
    return _decide(services, request.suggestion_id, "approved")


def _reject(request: RejectSuggestion, services: Services) -> SuggestionChanged:
    return _decide(services, request.suggestion_id, "rejected")


def _decide(services: Services, suggestion_id: str, verdict: Verdict) -> SuggestionChanged:
    run = services.engine.decide(suggestion_id, verdict)
    found = services.engine.store.find_suggestion(suggestion_id)
    if found is None:
        raise SuggestionNotFound(suggestion_id=suggestion_id)
    return SuggestionChanged(run_id=run.run_id, run_status=run.status, suggestion=found[2])


def _map(request: MapSuggestion, services: Services) -> SuggestionChanged:
    store, repository = services.engine.store, services.repository
    run, suggestion = map_suggestion(store, repository, request.suggestion_id, request.mapping)
    return SuggestionChanged(run_id=run.run_id, run_status=run.status, suggestion=suggestion)


def _evaluate(request: Evaluate, services: Services) -> ModelPerformanceData:
    data: Any = request.dataset if request.dataset is not None else request.samples
    return services.model.get_model_performance_feedback(
        evaluation_dataset=data, model_version_tag=request.model_version
    )


def _add_field_samples(request: AddFieldSamples, services: Services) -> FieldSamplesTaken:
    if request.dataset is None:
        return services.engine.add_field_samples(request.run_id, request.samples or ())
    given = open_dataset(request.dataset, services.data_roots)
    return services.engine.add_field_samples(request.run_id, given.samples)


def _search_scenarios(request: SearchScenarios, services: Services) -> ScenarioPage:
    found = services.look_up.search(
        query=request.query, filters=request.filters or None, limit=request.limit, cursor=request.cursor
    )
    return ScenarioPage(scenarios=tuple(found.scenarios), next_cursor=found.cursor, ranked_all=found.ranked_all)


def _show_scenario(request: ShowScenario, services: Services) -> ScenarioDefinition:
    if request.version is None:
        found = services.look_up.get_scenario_by_id(request.scenario_id)
    else:
        found = services.look_up.get_version(request.scenario_id, request.version)
    return _there(found, request.scenario_id, request.version)


def _scenario_history(request: ScenarioHistory, services: Services) -> ScenarioVersions:
    found = services.look_up.get_history(request.scenario_id)
    if not found:
        raise ScenarioNotFound(scenario_id=request.scenario_id)
    return ScenarioVersions(scenario_id=request.scenario_id, versions=tuple(map(_change, reversed(found))))


def _change(entry: Mapping[str, Any]) -> ScenarioChange:
    return ScenarioChange(
        version=entry["version"],
        operation=entry["operation"],
        changed_at_utc=entry["changed_at"],
        changed_by=entry["changed_by"],
        reason=entry["reason"],
        originating_weak_spot_ids=tuple(entry["weak_spot_ids"]),
        definition=entry["snapshot"]["definition"],
    )


def _restore_scenario(request: RestoreScenario, services: Services) -> ScenarioDefinition:
    found = services.repository.restore_version(request.scenario_id, request.version)
    return _there(found, request.scenario_id, request.version)


def _archive_scenario(request: ArchiveScenario, services: Services) -> Done:
    if not services.repository.archive(request.scenario_id):
        raise ScenarioNotFound(scenario_id=request.scenario_id)
    return Done()


def _there(found: ScenarioDefinition | None, scenario_id: str, version: int | None) -> ScenarioDefinition:
    if found is None:
        wanted = scenario_id if version is None else f"{scenario_id} with a version {version}"
        raise ScenarioNotFound(scenario_id=wanted)
    return found


_ANSWERS: Mapping[type[Request[Any]], Callable[[Any, Services], BaseModel]] = {
    StartRun: _start_run,
    ListRuns: _list_runs,
    ShowRun: _show_run,
    ListSpots: _list_spots,
    ListSuggestions: _list_suggestions,
    MakeReport: _make_report,
    CancelRun: _cancel_run,
    ResumeRun: _resume_run,
    ApproveSuggestion: _approve,
    RejectSuggestion: _reject,
    MapSuggestion: _map,
    Evaluate: _evaluate,
    AddFieldSamples: _add_field_samples,
    SearchScenarios: _search_scenarios,
    ShowScenario: _show_scenario,
    ScenarioHistory: _scenario_history,
    RestoreScenario: _restore_scenario,
    ArchiveScenario: _archive_scenario,
}
