"""A person says which parameter moves a feature: what is checked, when it may be done, and that it can be applied."""

from __future__ import annotations

from typing import Any

import pytest

from builders.learning_services import MAPS, MODIFY, SCENARIO, UNMAPPED, services
from builders.scenario_rows import a_creation
from uqueue_config.learning.requests import ApproveSuggestion, ListSuggestions, MapSuggestion, RejectSuggestion
from uqueue_config.learning.suggestions import ModifyScenario
from uqueue_worker.learning.answering import Services, answer
from uqueue_worker.learning.engine.store import Transition
from uqueue_worker.learning.errors import (
    MappingInvalid,
    RunConflict,
    ScenarioInvalid,
    ScenarioNotFound,
    SuggestionNotFound,
)

VIBRATION = "sensor_readings_map.readings.U30_BMI270.accel_z_g"
TILT = "sample_metadata.U30_BMI270__tilt_degrees"


@pytest.fixture
def kept(tmp_path_factory: pytest.TempPathFactory) -> Services:
    return services(tmp_path_factory.mktemp("services"))


def mapped(kept: Services, mapping: dict[str, str], suggestion_id: str = UNMAPPED) -> Any:
    return answer(MapSuggestion(suggestion_id=suggestion_id, mapping=mapping), kept)


def paths(kept: Services) -> list[str]:
    found: Any = answer(ListSuggestions(run_id=MAPS), kept)
    (entry,) = found.suggestions
    return [one.param_path for one in entry.suggestion.suggested_modifications_for_specific_params]


def test_what_was_mapped_is_shown_approved_and_applied(kept: Services) -> None:
    first = mapped(kept, {VIBRATION: "environment.machinery"})
    assert (first.run_id, first.run_status, first.suggestion.state) == (MAPS, "waiting", "proposed")
    assert first.suggestion.needs_mapping
    last = mapped(kept, {f"heuristic_map({TILT})": "specific_params.emf_strength_v_m"})
    assert not last.suggestion.needs_mapping
    assert paths(kept) == ["environment.machinery", "emf_strength_v_m"]
    decided: Any = answer(ApproveSuggestion(suggestion_id=UNMAPPED), kept)
    assert decided.suggestion.state == "approved"
    before = kept.repository.get_scenario_by_id(SCENARIO)
    applied = kept.repository.apply(decided.suggestion)
    assert before is not None
    assert applied is not None
    assert applied.version == before.version + 1
    moved = applied.specific_params
    assert moved["environment"]["machinery"] != before.specific_params["environment"].get("machinery")
    assert moved["emf_strength_v_m"] != before.specific_params.get("emf_strength_v_m")


def test_a_mapping_may_be_repeated_and_corrected(kept: Services) -> None:
    for _ in range(2):
        mapped(kept, {VIBRATION: "environment.machinery"})
    mapped(kept, {VIBRATION: "environment.traffic"})
    mapped(kept, {"environment.traffic": "location.0"})
    assert paths(kept) == ["location.0", f"heuristic_map({TILT})"]


def test_what_is_not_mapped_is_neither_approved_nor_applied(kept: Services) -> None:
    with pytest.raises(RunConflict, match="names no parameter for a feature; map it first, or reject it"):
        answer(ApproveSuggestion(suggestion_id=UNMAPPED), kept)
    found = kept.engine.store.find_suggestion(UNMAPPED)
    assert found is not None
    assert found[2].state == "proposed"
    with pytest.raises(ScenarioInvalid, match="names no parameter yet"):
        kept.repository.apply(found[2])
    rejected: Any = answer(RejectSuggestion(suggestion_id=UNMAPPED), kept)
    assert rejected.suggestion.state == "rejected"


def test_everything_that_is_wrong_is_named_with_what_is_nearest(kept: Services) -> None:
    with pytest.raises(MappingInvalid) as raised:
        mapped(kept, {VIBRATION: "environment.machines", "wind": "emf_strength_v_m"})
    told = str(raised.value)
    assert "CoronaDischarge has no number 'environment.machines' that varies; nearest are environment.machinery" in told
    assert f"it modifies nothing for 'wind', but {VIBRATION}, {TILT}" in told
    for path in ("location", "zzzz", "environment", "heuristic_map(x)"):
        with pytest.raises(MappingInvalid, match="nearest are"):
            mapped(kept, {VIBRATION: path})
    with pytest.raises(MappingInvalid, match=r"two modifications would move environment\.machinery"):
        mapped(kept, {VIBRATION: "environment.machinery", TILT: "specific_params.environment.machinery"})
    assert paths(kept) == [f"heuristic_map({VIBRATION})", f"heuristic_map({TILT})"]


def test_only_what_is_proposed_and_waited_for_is_mapped(kept: Services) -> None:
    with pytest.raises(SuggestionNotFound):
        mapped(kept, {VIBRATION: "environment.machinery"}, "sugg_000000000000")
    answer(ApproveSuggestion(suggestion_id=MODIFY), kept)
    path = "specific_params.environment.relative_humidity_percent"
    with pytest.raises(RunConflict, match="the suggestion is approved"):
        mapped(kept, {path: "environment.machinery"}, MODIFY)
    kept.engine.cancel(MAPS)
    with pytest.raises(RunConflict, match="does not wait for this suggestion"):
        mapped(kept, {VIBRATION: "environment.machinery"})


def test_what_has_no_parameters_has_nothing_to_map(kept: Services) -> None:
    store, repository = kept.engine.store, kept.repository
    run = store.get_run(MAPS)
    found = store.find_suggestion(UNMAPPED)
    assert found is not None
    aimed = {**found[2], "target_scenario_definition_id": "gone", "suggestion_id": "sugg_00000000000a"}
    repository.save_scenario_definition({"scenario_definition_id": "draft", "name": "Draft"})
    drafted = {**aimed, "target_scenario_definition_id": "draft", "suggestion_id": "sugg_00000000000b"}
    made = (ModifyScenario.model_validate(aimed), ModifyScenario.model_validate(drafted))
    creation = a_creation().model_copy(update={"state": "proposed"})
    moved = run.model_copy(update={"revision": run.revision + 1})
    assert store.commit(Transition(moved, spots_cycle=0, suggestions=(*made, creation)))
    with pytest.raises(ScenarioNotFound, match="gone"):
        mapped(kept, {VIBRATION: "environment.machinery"}, "sugg_00000000000a")
    with pytest.raises(ScenarioInvalid, match="a draft without a family"):
        mapped(kept, {VIBRATION: "environment.machinery"}, "sugg_00000000000b")
    with pytest.raises(MappingInvalid, match="modifies no parameter"):
        mapped(kept, {VIBRATION: "environment.machinery"}, creation.suggestion_id)
