"""A person says which parameter moves a feature of a suggestion that waits for a decision."""

from __future__ import annotations

from collections.abc import Mapping

from uqueue_config.learning.runs import RunRecord
from uqueue_config.learning.suggestions import ModifyScenario
from uqueue_worker.learning.engine.store import AnySuggestion, RunStore
from uqueue_worker.learning.errors import MappingInvalid, RunConflict, ScenarioNotFound, SuggestionNotFound
from uqueue_worker.learning.interfaces import ScenarioRepositoryInterface
from uqueue_worker.learning.repository.mapping import mapped


def map_suggestion(
    store: RunStore, repository: ScenarioRepositoryInterface, suggestion_id: str, mapping: Mapping[str, str]
) -> tuple[RunRecord, AnySuggestion]:
    """Put parameters into a suggestion (`repository.mapping.mapped`), and return its run and the suggestion.

    Raises SuggestionNotFound, ScenarioNotFound, MappingInvalid; RunConflict for one that was decided about or whose
    run does not wait for it.
    """
    found = store.find_suggestion(suggestion_id)
    if found is None:
        raise SuggestionNotFound(suggestion_id=suggestion_id[:200])
    run_id, cycle, suggestion = found
    run = store.get_run(run_id)
    _check(run, cycle, suggestion)
    if not isinstance(suggestion, ModifyScenario):
        reason = "it makes a new scenario and modifies no parameter"
        raise MappingInvalid(suggestion_id=suggestion_id, reason=reason)
    target = repository.get_scenario_by_id(scenario_id=suggestion.target_scenario_definition_id)
    if target is None:
        raise ScenarioNotFound(scenario_id=suggestion.target_scenario_definition_id)

    def change(current: AnySuggestion) -> AnySuggestion:
        _check(run, cycle, current)
        return mapped(current, mapping, target) if isinstance(current, ModifyScenario) else current

    changed = store.change_suggestion(suggestion_id, change)
    if changed is None:
        raise SuggestionNotFound(suggestion_id=suggestion_id)
    return run, changed


def _check(run: RunRecord, cycle: int, suggestion: AnySuggestion) -> None:
    if run.status != "waiting" or run.cycle != cycle:
        raise RunConflict(run_id=run.run_id, status=run.status, reason="it does not wait for this suggestion")
    if suggestion.state != "proposed":
        raise RunConflict(run_id=run.run_id, status=run.status, reason=f"the suggestion is {suggestion.state}")
