"""What the learning worker answers with, in memory: a run that is over, one that waits, scenarios, a small forest."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from builders.learning_models import written
from builders.learning_report import told_run
from builders.learning_runs import a_workshop
from builders.learning_scenarios import CLOCK
from uqueue_config.learning.runs import DatasetEntry, RunConfig, RunRecord
from uqueue_config.learning.scenario import ScenarioDefinition
from uqueue_config.learning.settings import LearningSettings
from uqueue_config.learning.suggestions import CreateScenario, ModifyScenario
from uqueue_worker.learning.answering import Services
from uqueue_worker.learning.engine import Engine, InProcess, MemoryRunStore
from uqueue_worker.learning.engine.field_records import field_records
from uqueue_worker.learning.engine.samples import register
from uqueue_worker.learning.engine.store import AnySuggestion, Transition
from uqueue_worker.learning.models.local import LocalModelInterface
from uqueue_worker.learning.reporting import report_text
from uqueue_worker.learning.repository.memory import MemoryScenarioRepository
from uqueue_worker.learning.scenarios import CoronaDischarge

OVER, WAITS, MAPS = "run-over", "run-waits", "run-maps"
MODIFY, CREATE, UNMAPPED = "sugg_0123456789ab", "sugg_ba9876543210", "sugg_00000000cafe"
SCENARIO = "corona-humid"
IN_THE_TEST_SET = "of-the-test"


def services(folder: Path) -> Services:
    """Return the services; `folder` gets the model. Nothing drives the runs."""
    written(folder / "models")
    repository = MemoryScenarioRepository()
    for scenario in _scenarios():
        repository.save_scenario_definition(scenario.to_record())
    repository.update_scenario_definition(SCENARIO, {"description": "Corona in very humid air."})
    store = _store(_test_set(folder))
    engine = Engine(store, a_workshop(folder), InProcess())
    model = LocalModelInterface(root=folder / "models", name="air", data_roots=[folder])
    return Services(engine, repository, model, partial(report_text, store, repository), LearningSettings(), (folder,))


def _scenarios() -> list[ScenarioDefinition]:
    first = CoronaDischarge(
        SCENARIO, "Corona in humid air", tags=["class_CORONA"], environment={"relative_humidity_percent": 92.0}
    )
    second = CoronaDischarge("corona-dry", "Corona in dry air", environment={"relative_humidity_percent": 30.0})
    return [first.to_definition(), second.to_definition()]


def _test_set(folder: Path) -> DatasetEntry:
    """Return a test set that is there, of one sample."""
    told = {"sample_id": IN_THE_TEST_SET, "extracted_class_label": "ARC", "sensor_readings_map": {"readings": {}}}
    records = list(field_records([told], CLOCK).values())
    return register(folder / "test.avro", records, name="test", role="test", requested=1)


def _store(test: DatasetEntry) -> MemoryRunStore:
    store, told = MemoryRunStore(), told_run(OVER)
    store.create_run(told.run.model_copy(update={"revision": 0}))
    for revision, (cycle, spots) in enumerate(zip(told.cycles, told.spots.values(), strict=True), 1):
        run = told.run.model_copy(update={"revision": revision})
        assert store.commit(Transition(run, (cycle,), spots=tuple(spots), spots_cycle=cycle.cycle))
    like = told.run.model_copy(update={"datasets": (test,)})
    _add_waiting(store, like, WAITS, _modify(), _create())
    _add_waiting(store, like, MAPS, _unmapped())
    return store


def _add_waiting(store: MemoryRunStore, like: RunRecord, run_id: str, *suggestions: AnySuggestion) -> None:
    config = RunConfig(auto_apply=False)
    changes = {"run_id": run_id, "config": config, "config_hash": config.config_hash, "stop_reason": None}
    run = like.model_copy(update={**changes, "status": "waiting", "state": "awaiting_approval", "cycle": 0})
    store.create_run(run)
    moved = run.model_copy(update={"revision": 1})
    assert store.commit(Transition(moved, spots_cycle=0, suggestions=suggestions))


def _modify() -> ModifyScenario:
    return ModifyScenario(
        **_common(MODIFY, 0.9),
        target_scenario_definition_id=SCENARIO,
        suggested_modifications_for_specific_params=(
            {"param_path": "specific_params.environment.relative_humidity_percent", "value": 92.0},  # type: ignore[arg-type]
        ),
        suggested_metadata_updates={"tags": {"value": "alm_focus_rg_misc_1"}},  # type: ignore[arg-type]
    )


def _unmapped() -> ModifyScenario:
    """Return a suggestion whose features no rule knows."""
    features = ("sensor_readings_map.readings.U30_BMI270.accel_z_g", "sample_metadata.U30_BMI270__tilt_degrees")
    asked = [{"param_path": f"heuristic_map({feature})", "value": 0.4} for feature in features]
    known = {**_modify(), **_common(UNMAPPED, 0.7), "suggested_modifications_for_specific_params": asked}
    return ModifyScenario.model_validate(known)


def _create() -> CreateScenario:
    basis = {
        "scenario_definition_id_suggestion": "alm_boost_CORONA_any",
        "name": "More corona",
        "description": "The class is missed often.",
        "category": "ACTIVE_LEARNING_CLASS_BOOST",
        "tags": ["alm_generated"],
        "specific_params_json_template": {"target_class_to_boost": "CORONA"},
    }
    return CreateScenario(**_common(CREATE, 0.4), basis_for_new_scenario=basis)  # type: ignore[arg-type]


def _common(suggestion_id: str, priority: float) -> dict[str, Any]:
    return {
        "suggestion_id": suggestion_id,
        "reason": "The model misses it.",
        "priority": priority,
        "suggestion_confidence": priority,
        "originating_weak_spot_ids": ("rg_misc_1",),
        "original_weak_spot_info": {"weakness_id": "rg_misc_1"},
    }
