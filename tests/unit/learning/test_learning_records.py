"""Weak spots, suggestions, references and settings: what they take and refuse."""

from __future__ import annotations

import json
from typing import Any

import pytest

from uqueue_config.errors import SettingsError
from uqueue_config.learning.errors import ActiveLearningError, QueueTimeout
from uqueue_config.learning.references import DatasetRef, JobRef, ModelRef, ScenarioRef, SpotRef
from uqueue_config.learning.settings import LearningSettings
from uqueue_config.learning.spots import WeakSpot
from uqueue_config.learning.suggestions import CreateScenario, ModifyScenario, read_suggestion
from uqueue_config.settings import Settings
from uqueue_worker.learning import errors

SPOT = {"weakness_id": "rt_unc_a", "type": "high_uncertainty_sample", "priority": 0.763, "details": {"x": [1]}}
COMMON = {
    "suggestion_id": "sugg_0123456789ab",
    "reason": "uncertain",
    "priority": 0.5,
    "suggestion_confidence": 0.6,
    "originating_weak_spot_ids": ["rt_unc_a"],
    "original_weak_spot_info": SPOT,
}
MODIFY = COMMON | {
    "kind": "modify_existing_scenario",
    "target_scenario_definition_id": "s",
    "suggested_modifications_for_specific_params": [{"param_path": "heuristic_map(a.b)", "value": 1.9}],
    "suggested_metadata_updates": {"tags": {"value": "alm_focus_rt_unc_a"}},
}
CREATE = COMMON | {
    "kind": "create_new_scenario",
    "basis_for_new_scenario": {
        "scenario_definition_id_suggestion": "alm_boost_X_any",
        "name": "n",
        "description": "d",
        "category": "ACTIVE_LEARNING_CLASS_BOOST",
        "tags": ["alm_generated", "sensor_any", "class_X"],
        "specific_params_json_template": {"target_class_to_boost": "X", "target_sensor_type": None},
    },
}


def test_a_spot_is_a_mapping_that_json_can_carry() -> None:
    spot = WeakSpot.model_validate(SPOT)
    assert (spot["priority"], spot.get("sensor_id", "?"), spot["details"]) == (0.763, None, {"x": [1]})
    assert WeakSpot.model_validate(json.loads(spot.model_dump_json())) == spot


@pytest.mark.parametrize(
    "change", [{"priority": 1.1}, {"priority": float("nan")}, {"type": "bored"}, {"module": "os"}, {"weakness_id": ""}]
)
def test_a_spot_that_cannot_be_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        WeakSpot.model_validate(SPOT | change)


def test_suggestions_are_told_apart_by_kind() -> None:
    modify, create = read_suggestion(MODIFY), read_suggestion(CREATE)
    assert isinstance(modify, ModifyScenario)
    assert isinstance(create, CreateScenario)
    assert create.basis_for_new_scenario.author == "ActiveLearningManager"
    assert read_suggestion(json.loads(modify.model_dump_json())) == modify


def test_a_suggestion_goes_from_state_to_state() -> None:
    approved = read_suggestion(CREATE).moved_to("approved")
    assert approved.moved_to("applied").state == "applied"
    for suggestion, state in ((read_suggestion(CREATE), "applied"), (approved, "rejected"), (approved, "proposed")):
        with pytest.raises(ValueError, match="cannot become"):
            suggestion.moved_to(state)  # type: ignore[arg-type]


def test_what_a_person_must_map_is_not_applied() -> None:
    with pytest.raises(ValueError, match="heuristic_map"):
        read_suggestion(MODIFY).moved_to("approved").moved_to("applied")
    mapped = MODIFY | {"suggested_modifications_for_specific_params": [{"param_path": "distance", "value": 1.9}]}
    assert read_suggestion(mapped).moved_to("approved").moved_to("applied").state == "applied"


@pytest.mark.parametrize("change", [{"kind": "delete"}, {"suggestion_id": "sugg_1"}, {"originating_weak_spot_ids": []}])
def test_a_suggestion_that_cannot_be_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        read_suggestion(MODIFY | change)


@pytest.mark.parametrize(
    "reference",
    [
        ModelRef(name="airguard", version="7", sha="a" * 64),
        DatasetRef(uri="pool.avro", sha256="b" * 64, n=400, schema_fingerprint="0585824cf339b390"),
        ScenarioRef(id="s", version=1),
        SpotRef(run="r", cycle=0, id="rt_unc_a"),
        JobRef(id="j"),
    ],
    ids=lambda one: type(one).__name__,
)
def test_references_travel_as_json(reference: Any) -> None:
    assert type(reference).model_validate(json.loads(reference.model_dump_json())) == reference
    with pytest.raises(ValueError, match="extra"):
        type(reference).model_validate({**reference, "path": "/etc/passwd"})


def test_settings_are_read_from_their_own_variables() -> None:
    environ = {"UQUEUE_LEARNING_MAX_CYCLES": "3", "UQUEUE_LEARNING_CRAFTER_ORDER": "rule, explore", "HOME": "/root"}
    settings = LearningSettings.load(environ, patience=4)
    assert (settings.max_cycles, settings.crafter_order, settings.patience) == (3, ("rule", "explore"), 4)
    assert settings.strategy == "region"


def test_unknown_and_wrong_settings_are_all_named() -> None:
    environ = {"UQUEUE_LEARNING_MAX_CYCLE": "3", "UQUEUE_LEARNING_PATIENCE": "0", "UQUEUE_LEARNING_STRATEGY": "best"}
    with pytest.raises(SettingsError) as raised:
        LearningSettings.load(environ)
    assert "UQUEUE_LEARNING_MAX_CYCLE: no such setting; did you mean UQUEUE_LEARNING_MAX_CYCLES?" in str(raised.value)
    assert "UQUEUE_LEARNING_PATIENCE: " in str(raised.value)
    assert "UQUEUE_LEARNING_STRATEGY: " in str(raised.value)


def test_the_queues_own_settings_leave_them_alone() -> None:
    assert Settings.load({"UQUEUE_LEARNING_MAX_CYCLES": "3"}) == Settings.load({})
    with pytest.raises(SettingsError, match="UQUEUE_LEARNIN_MAX_CYCLES"):
        Settings.load({"UQUEUE_LEARNIN_MAX_CYCLES": "3"})


def test_the_library_has_every_error_and_says_which_ones_to_try_again() -> None:
    defined = {cls.__name__: cls for cls in (ActiveLearningError, *ActiveLearningError.__subclasses__())}
    assert {name: getattr(errors, name) for name in errors.__all__} == defined
    retryable = {name for name, cls in defined.items() if cls.retryable}
    assert retryable == {
        "EndpointUnavailable",
        "EndpointTimeout",
        "QueueTimeout",
        "RepositoryUnavailable",
        "CircuitOpen",
        "NoLearningWorker",
        "LearningBusy",
        "AnswerLate",
    }
    error = QueueTimeout(timeout_seconds=3, reason="no worker", run_id="r")
    assert error.context == {"timeout_seconds": 3, "reason": "no worker", "run_id": "r"}
    assert error.code == "queue_timeout"
