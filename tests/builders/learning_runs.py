"""Small runs for tests: three classes in the real simulator, a start model with a hole, forests of few trees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from builders.learning_scenarios import CLOCK
from uqueue_config.learning.runs import RunConfig, RunRecord
from uqueue_config.learning.scenario import ScenarioDefinition
from uqueue_worker.learning.engine import (
    Engine,
    ForestTrainer,
    InProcess,
    InterfaceEvaluator,
    MemoryRunStore,
    RunStore,
    SimulatedDeployment,
    Workshop,
    local_interfaces,
    strategies,
    suggestions,
)
from uqueue_worker.learning.generator import MLDataGenerator
from uqueue_worker.learning.interfaces import ScenarioRepositoryInterface
from uqueue_worker.learning.repository.memory import MemoryScenarioRepository
from uqueue_worker.learning.scenarios import BaselineOperation, CoronaDischarge, EquipmentOverheat, FamilyScenario
from uqueue_worker.learning.simulator import SensorUnit

CLASSES = ("CORONA", "NORMAL", "OVERHEATING")
_EVENTS = {
    "corona_discharge": "CORONA",
    "normal_baseline_operation": "NORMAL",
    "equipment_overheat": "OVERHEATING",
}
FEATURES = (
    "sensor_readings_map.readings.U29_TFEMF.ac_field_strength_microteslas",
    "sensor_readings_map.readings.U26_Lepton35.derived_max_temp_celsius",
    "sensor_readings_map.readings.U19_TFSGS.voc_channel_8_general_ppb",
    "sample_metadata.U21_SHT85__relative_humidity_percent",
)
MODEL = "small"
NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)


def small_config(**changes: Any) -> RunConfig:
    """Return the configuration of a run of two cycles with twelve samples each."""
    given: dict[str, Any] = {
        "model": MODEL,
        "start_samples": 30,
        "pool_samples": 40,
        "test_samples": 30,
        "max_cycles": 2,
        "patience": 9,
        "sample_budget_per_cycle": 12,
        "max_weak_spots": 3,
        "regression_guard": 1.0,
        "critical_classes": (),
        "strategy_parameters": {"n_regions": 3},
        "training": {"n_estimators": 8},
    }
    return RunConfig.read({**given, **changes})


def a_generator() -> MLDataGenerator:
    return MLDataGenerator(grid_guardian=SensorUnit(image_pixels=(8, 6)))


def scenarios(n: int, seed: int, *, humid: bool = True) -> list[ScenarioDefinition]:
    """Return n scenarios of the three classes; without `humid` no corona is met in humid air."""
    random = np.random.Generator(np.random.PCG64(seed))
    return [_scenario(f"met-{seed}-{number}", random, humid) for number in range(n)]


def _scenario(name: str, random: np.random.Generator, humid: bool) -> ScenarioDefinition:
    kind = int(random.integers(3))
    humidity = float(random.uniform(15, 98 if humid else 60))
    strength, distance = float(random.uniform(0.3, 1)), float(random.uniform(2, 20))
    place = [0.0, distance, 0.5]
    environment = {"relative_humidity_percent": round(humidity, 3)}
    shared: dict[str, Any] = {"environment": environment, "creation_timestamp_utc": CLOCK}
    made: FamilyScenario
    if kind == 0:
        parameters = {"location": place, "emf_strength_v_m": 150.0 * strength}
        made = CoronaDischarge(name, "A corona", tags=["class_CORONA"], **shared, **parameters)
    elif kind == 1:
        made = BaselineOperation(name, "Nothing", tags=["class_NORMAL"], **shared)
    else:
        parameters = {"location": place, "start_heat_w": 1500.0 * strength, "max_heat_w": 1500.0 * strength}
        made = EquipmentOverheat(name, "A hot thing", tags=["class_OVERHEATING"], **shared, **parameters)
    return made.to_definition()


def label_of(sample: Mapping[str, Any]) -> str | None:
    return _EVENTS.get(sample["labels"]["event_type"])


def a_workshop(folder: Path, repository: ScenarioRepositoryInterface | None = None, **changes: Any) -> Workshop:
    """Return a workshop of real parts, with everything below a folder."""
    repository = repository or MemoryScenarioRepository()
    generator = a_generator()
    models = folder / "models"

    def dry(n: int, seed: int) -> Sequence[ScenarioDefinition]:
        return scenarios(n, seed, humid=False)

    parts: dict[str, Any] = {
        "repository": repository,
        "evaluator": InterfaceEvaluator(local_interfaces(models, MODEL, [folder])),
        "trainer": ForestTrainer(models, FEATURES, CLASSES),
        "generator": generator,
        "deployment": SimulatedDeployment(scenarios, generator, label_of),
        "start": SimulatedDeployment(dry, generator, label_of),
        "root": folder / "runs",
        "strategy": strategies(repository),
        "suggest": suggestions(repository),
    }
    return Workshop(**{**parts, **changes})


def an_engine(folder: Path, store: RunStore | None = None, **changes: Any) -> Engine:
    """Return an engine in this process, of a workshop with these changes; its clock stands still."""
    workshop = changes.pop("workshop", None) or a_workshop(folder, **changes)
    return Engine(store or MemoryRunStore(), workshop, InProcess(), clock=lambda: NOW)


def campaign(engine: Engine, run: RunRecord) -> dict[str, Any]:
    """Return what a run came to: everything that must not depend on how it was interrupted."""
    cycles = engine.store.cycles(run.run_id)
    return {
        "status": (run.status, run.stop_reason, run.samples_spent, run.model),
        "data": [(one.name, one.content_sha256, one.ref.sha256) for one in run.datasets],
        "spots": [(number, spot.weakness_id, spot.priority) for number, spot in engine.store.spots(run.run_id)],
        "plans": [cycle.plan for cycle in cycles],
        "models": [(cycle.model_before, cycle.candidate, cycle.model_after, cycle.promoted) for cycle in cycles],
        "metrics": [cycle.evaluation_after.metrics if cycle.evaluation_after else None for cycle in cycles],
        "uses": engine.store.uses(run.run_id),
        "ended": [(cycle.state, cycle.stop_reason) for cycle in cycles],
    }
