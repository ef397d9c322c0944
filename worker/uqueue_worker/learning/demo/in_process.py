"""The targeted policy in one process: the engine's own run, with everything but its data files in memory.

That is what many paired seeds are compared with in short time; a run through the queue does the same with workers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from uqueue_config.learning.feedback import ModelPerformanceData
from uqueue_config.learning.references import DatasetRef, ModelRef
from uqueue_config.learning.runs import CycleRecord, RunConfig, RunRecord
from uqueue_worker.learning.avro import read_samples
from uqueue_worker.learning.demo.arms import Budget
from uqueue_worker.learning.demo.deployment import CLEAN, Variant
from uqueue_worker.learning.demo.drawing import story_distribution, story_generator
from uqueue_worker.learning.demo.story import CLASSES, FEATURE_SPEC, NAME
from uqueue_worker.learning.engine import (
    Engine,
    InProcess,
    MemoryRunStore,
    RunStore,
    Workshop,
    run_to_end,
    strategies,
)
from uqueue_worker.learning.engine.adapters import EVERY_SAMPLE, NUMBERS_ONLY, suggestions
from uqueue_worker.learning.engine.checking import class_problems, forest_problems
from uqueue_worker.learning.engine.samples import Sample
from uqueue_worker.learning.errors import ModelVersionNotFound
from uqueue_worker.learning.interfaces import ScenarioRepositoryInterface
from uqueue_worker.learning.models.in_process import function_model
from uqueue_worker.learning.models.local import LocalModelInterface
from uqueue_worker.learning.models.training import FittedForest, ForestSettings, train
from uqueue_worker.learning.repository import MemoryScenarioRepository


class Shelf:
    """Data sets that were read, and models that were trained, in memory: the engine's evaluator and its trainer."""

    classes: Sequence[str] = CLASSES

    def __init__(self) -> None:
        self._models: dict[str, FittedForest] = {}
        self._samples = cache(_read)

    def evaluate(self, dataset: str, model: ModelRef, *, n_samples: int, every_sample: bool) -> ModelPerformanceData:
        """Return what the local interface says of a model on a data set."""
        fitted = self._models[model.version]
        options = EVERY_SAMPLE if every_sample else NUMBERS_ONLY
        loaded = function_model(
            fitted.members, CLASSES, fitted.features, members=len(fitted.forest.estimators_), version=model.version
        )
        return LocalModelInterface.of(loaded, options=options).get_model_performance_feedback(
            evaluation_dataset=self._samples(dataset), model_version_tag=None
        )

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
        """Return the model that the key names, trained on these data sets."""
        if key not in self._models:
            samples = [sample for one in datasets for sample in self._samples(one.uri)]
            settings = ForestSettings(**hyper_parameters)
            self._models[key] = train(samples, FEATURE_SPEC, CLASSES, seed=seed, settings=settings)
        return ModelRef(name=model, version=key)

    def find(self, model: str, version: str) -> ModelRef:
        """Return a model that was trained. Raises ModelVersionNotFound."""
        if version not in self._models:
            raise ModelVersionNotFound(model=model, version=version)
        return ModelRef(name=model, version=version)

    def promote(self, model: ModelRef) -> None:
        """Do nothing: nobody is served from here."""

    def problems(self, config: RunConfig) -> Sequence[str]:
        """Return what is wrong with the hyper-parameters and classes that a run names."""
        return [*forest_problems(config.training), *class_problems(config, CLASSES)]


def run_config(budget: Budget, **changes: Any) -> RunConfig:
    """Return the default configuration with a budget that is spent whole: no run ends early for want of gain."""
    return RunConfig.read(
        {
            "model": NAME,
            "deployment": NAME,
            "random_seed": budget.seed,
            "max_cycles": budget.cycles,
            "patience": budget.cycles,
            "sample_budget_per_cycle": budget.samples_per_cycle,
            "start_samples": budget.start_samples,
            "pool_samples": budget.pool_samples,
            "test_samples": budget.test_samples,
            **changes,
        }
    )


@dataclass(frozen=True)
class Campaign:
    """A run that has ended, with what keeps its records."""

    run: RunRecord
    store: RunStore
    repository: ScenarioRepositoryInterface

    @property
    def cycles(self) -> list[CycleRecord]:
        return self.store.cycles(self.run.run_id)


def play_targeted(budget: Budget, folder: Path, variant: Variant = CLEAN, **changes: Any) -> Campaign:
    """Run the engine to its end; `changes` are those of the run's configuration. Files of the run go to `folder`."""
    shelf, store, repository = Shelf(), MemoryRunStore(), MemoryScenarioRepository()
    generator = story_generator(variant)
    workshop = Workshop(
        repository=repository,
        evaluator=shelf,
        trainer=shelf,
        generator=generator,
        deployment=story_distribution("deployment", generator, variant),
        deployment_name=NAME,
        start=story_distribution("start", generator, variant),
        root=folder,
        strategy=strategies(repository),
        suggest=suggestions(repository),
    )
    engine = Engine(store, workshop, InProcess())
    run = run_to_end(engine, engine.create(run_config(budget, **changes)).run_id)
    return Campaign(run, store, repository)


def curve_of(cycles: Sequence[CycleRecord], metric: str = "macro_f1_score") -> list[float]:
    """Return the metric on the test set of the start model and of what each cycle trained, promoted or not."""
    first = cycles[0].test_before
    after = [cycle.test_after for cycle in cycles]
    return [one.metrics[metric] for one in (first, *after) if one is not None]


def _read(path: str) -> list[Sample]:
    return read_samples(path)
