"""A manager with real parts: a forest with a hole, its pool, a crafter, the simulator, and a repository as given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builders.learning_runs import CLASSES, FEATURES, NOW, label_of, scenarios, small_config
from builders.learning_scenarios import a_generator
from uqueue_config.learning.feedback import ModelPerformanceData
from uqueue_config.learning.model_manifest import ModelManifest
from uqueue_config.learning.scenario import ScenarioDefinition
from uqueue_worker.learning.avro import sample_record
from uqueue_worker.learning.crafting import ClassFamilies, ScenarioCrafter
from uqueue_worker.learning.crafting.levers import focus_parameter
from uqueue_worker.learning.engine.adapters import strategies
from uqueue_worker.learning.manager import ActiveLearningManager
from uqueue_worker.learning.models.evaluation import EvaluationOptions
from uqueue_worker.learning.models.local import LocalModelInterface
from uqueue_worker.learning.models.training import ForestSettings, train
from uqueue_worker.learning.models.writing import write_forest
from uqueue_worker.learning.repository import ScenarioRepository
from uqueue_worker.learning.targeting.cycle import Cycle

MODEL = "small"
FAMILIES = ClassFamilies.of_events(
    {
        "corona_discharge": "CORONA",
        "normal_baseline_operation": "NORMAL",
        "equipment_overheat": "OVERHEATING",
    }
)
_EVERYTHING = EvaluationOptions(
    uncertainty_threshold=0.0, max_uncertain=None, max_misclassified=None, max_explained=1000
)


@dataclass(frozen=True)
class Pool:
    """What a forest that never saw a humid corona makes of scenarios among which there are some."""

    folder: Path
    known: list[dict[str, Any]]
    drawn: list[ScenarioDefinition]
    samples: list[dict[str, Any]]
    model: LocalModelInterface
    feedback: ModelPerformanceData


def a_pool(folder: Path) -> Pool:
    known, drawn = labelled(folder, scenarios(40, 1, humid=False), 1), scenarios(60, 2)
    trained(folder, known)
    model = LocalModelInterface(root=folder, name=MODEL, options=_EVERYTHING, default_version="latest")
    samples = labelled(folder, drawn, 2)
    feedback = model.get_model_performance_feedback(evaluation_dataset=samples, model_version_tag=None)
    return Pool(folder, known, drawn, samples, model, feedback)


def trained(folder: Path, samples: Sequence[dict[str, Any]], parent: str | None = None) -> ModelManifest:
    """Train a forest on samples and write it as the latest version."""
    forest = train(samples, FEATURES, CLASSES, seed=0, settings=ForestSettings(8))
    return write_forest(folder, MODEL, forest, parent_version=parent)


def labelled(folder: Path, definitions: Sequence[Any], seed: int) -> list[dict[str, Any]]:
    """Return one labelled sample of each scenario."""
    raw = a_generator(folder).generate_training_dataset(scenarios=definitions, samples_per_scenario=1, seed=seed)
    assert isinstance(raw, list)
    return [
        sample_record({**one, "extracted_class_label": label_of(one)}, seed=seed, index=place, generated=NOW)
        for place, one in enumerate(raw)
    ]


def a_crafter() -> dict[str, Any]:
    """Return what a repository is given so that it crafts."""
    return {"crafter": ScenarioCrafter(families=FAMILIES), "focus_parameter": focus_parameter}


def a_manager(pool: Pool, repository: ScenarioRepository, folder: Path) -> ActiveLearningManager:
    """Return a manager of the first cycle of a run; the scenarios of the pool are in its repository."""
    for definition in pool.drawn:
        repository.save_scenario_definition(scenario_def=definition)
    return ActiveLearningManager(
        data_generator=a_generator(folder),
        scenario_repository=repository,
        model_interface=pool.model,
        prioritization_strategy=strategies(repository)(small_config()),
        families=FAMILIES,
        cycle=Cycle("run-1", 0),
        clock=lambda: NOW,
    )
