"""The library's own parts as collaborators of the engine: model interfaces, the training hook, strategies."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from functools import cache
from pathlib import Path
from typing import Any

from uqueue_config.learning.feedback import ModelPerformanceData
from uqueue_config.learning.model_manifest import Feature
from uqueue_config.learning.references import DatasetRef, ModelRef
from uqueue_config.learning.runs import RunConfig
from uqueue_config.learning.spots import WeakSpot
from uqueue_config.learning.suggestions import CreateScenario, ModifyScenario
from uqueue_worker.learning.crafting.families import ClassFamilies
from uqueue_worker.learning.engine.checking import class_problems, forest_problems
from uqueue_worker.learning.engine.parts import NotYet
from uqueue_worker.learning.engine.samples import read_registered
from uqueue_worker.learning.engine.workshop import StrategyOf, Suggest
from uqueue_worker.learning.errors import ModelNotFound, ModelVersionNotFound
from uqueue_worker.learning.interfaces import (
    ModelInterface,
    PrioritizationStrategyInterface,
    ScenarioRepositoryInterface,
)
from uqueue_worker.learning.models.evaluation import EvaluationOptions
from uqueue_worker.learning.models.local import LocalModelInterface
from uqueue_worker.learning.models.training import ForestSettings, train
from uqueue_worker.learning.models.writing import model_ref, set_alias, version_name, write_forest
from uqueue_worker.learning.sensors import sensor_types
from uqueue_worker.learning.strategies import make_strategy
from uqueue_worker.learning.suggestions import Suggester
from uqueue_worker.learning.targeting.cycle import Cycle

InterfaceOf = Callable[[EvaluationOptions], ModelInterface]
PRODUCTION = "production"
EXPLAINED = 50
#: What a run asks for about its pool: every sample, explanations of the first ones only.
EVERY_SAMPLE = EvaluationOptions(
    uncertainty_threshold=0.0, max_uncertain=None, max_misclassified=None, max_explained=EXPLAINED
)
#: What it asks for about its test set: numbers.
NUMBERS_ONLY = EvaluationOptions(max_uncertain=0, max_misclassified=0, max_explained=0)


class InterfaceEvaluator:
    """Evaluates through model interfaces, which `interface_of(options)` makes, and waits for them. Runs whose models
    are evaluated by jobs of the queue have `QueueEvaluator` instead."""

    def __init__(self, interface_of: InterfaceOf) -> None:
        self._everything = cache(lambda: interface_of(EVERY_SAMPLE))
        self._numbers = cache(lambda: interface_of(NUMBERS_ONLY))

    def evaluate(
        self, dataset: str, model: ModelRef, *, n_samples: int, every_sample: bool
    ) -> ModelPerformanceData | NotYet:
        interface = self._everything() if every_sample else self._numbers()
        return interface.get_model_performance_feedback(evaluation_dataset=dataset, model_version_tag=model.version)


def local_interfaces(root: str | Path, model: str, data_roots: Sequence[str | Path]) -> InterfaceOf:
    """Return what makes local interfaces of a model; those with other options share the versions that are loaded."""
    shared = LocalModelInterface(root=root, name=model, data_roots=data_roots)

    def interface_of(options: EvaluationOptions) -> ModelInterface:
        view = copy(shared)
        view.options = options
        return view

    return interface_of


class ForestTrainer:
    """The default training hook: a random forest, written as a version of the model below `root`.

    features  paths, or entries of a manifest, in the order of the model's columns
    classes   in the order of its outputs
    """

    def __init__(self, root: str | Path, features: Sequence[Feature | str], classes: Sequence[str]) -> None:
        self._root = Path(root)
        self._features = tuple(features)
        self.classes: Sequence[str] = tuple(classes)

    def train(
        self,
        *,
        model: str,
        key: str,
        datasets: Sequence[DatasetRef],
        parent: ModelRef | None,
        seed: int,
        hyper_parameters: Mapping[str, Any],
    ) -> ModelRef:
        """Train and write the version that the key names, or return it if it is there. Raises as `models.training`.

        Hyper-parameters are those of `ForestSettings`; an unknown one raises TypeError.
        """
        try:
            return model_ref(self._root, model, version_name(key))
        except (ModelNotFound, ModelVersionNotFound):
            settings = ForestSettings(**hyper_parameters)
        samples = [sample for one in datasets for sample in read_registered(one)]
        fitted = train(samples, self._features, self.classes, seed=seed, settings=settings)
        name = ", ".join(Path(one.uri).stem for one in datasets)
        parent_version = None if parent is None else parent.version
        manifest = write_forest(self._root, model, fitted, key=key, parent_version=parent_version, dataset=name[:200])
        return ModelRef(name=manifest.model, version=manifest.version, sha=manifest.sha256)

    def find(self, model: str, version: str) -> ModelRef:
        """Return the version that a tag names now. Raises ModelNotFound and ModelVersionNotFound."""
        return model_ref(self._root, model, version)

    def promote(self, model: ModelRef) -> None:
        """Let the alias `production` name this version."""
        set_alias(self._root, model.name, PRODUCTION, model.version)

    def problems(self, config: RunConfig) -> Sequence[str]:
        """Return what is wrong with the hyper-parameters, classes and start version that a run names."""
        found = [*forest_problems(config.training), *class_problems(config, self.classes)]
        if config.start_version is not None:
            try:
                self.find(config.model, config.start_version)
            except (ModelNotFound, ModelVersionNotFound) as error:
                found.append(f"start_version: {error.message.rstrip('.')}")
        return found


def strategies(repository: ScenarioRepositoryInterface, **parameters: Any) -> StrategyOf:
    """Return what makes the strategy of a configuration; `parameters` are those that every run gets, unless its own
    say otherwise. The region strategy finds the parameters of scenarios in the repository."""

    def strategy_of(config: RunConfig) -> PrioritizationStrategyInterface:
        if "parameters_of" in config.strategy_parameters:
            raise ValueError("parameters_of is code, which no configuration holds")
        given: dict[str, Any] = {**parameters, **config.strategy_parameters}
        if config.strategy == "region":
            given = {"seed": config.random_seed, "parameters_of": _parameters_of(repository), **given}
        return make_strategy(config.strategy, **given)

    return strategy_of


def suggestions(
    repository: ScenarioRepositoryInterface,
    sensor_map: Mapping[str, str] | None = None,
    families: ClassFamilies | None = None,
) -> Suggest:
    """Return what makes the suggestions of a cycle; with the default maps of sensors and classes unless others are
    given."""

    def suggest(spots: Sequence[WeakSpot], cycle: Cycle) -> Sequence[ModifyScenario | CreateScenario]:
        return Suggester(sensor_types(sensor_map), families, repository, cycle).suggest(spots)

    return suggest


def _parameters_of(repository: ScenarioRepositoryInterface) -> Callable[[str], Mapping[str, Any] | None]:
    @cache
    def parameters_of(scenario_id: str) -> Mapping[str, Any] | None:
        found = repository.get_scenario_by_id(scenario_id=scenario_id)
        return None if found is None else found.specific_params

    return parameters_of
