"""What a run works with: one value that holds every collaborator of the engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from uqueue_config.learning.feedback import ModelPerformanceData
from uqueue_config.learning.references import DatasetRef, ModelRef
from uqueue_config.learning.runs import RunConfig
from uqueue_config.learning.spots import WeakSpot
from uqueue_config.learning.suggestions import CreateScenario, ModifyScenario
from uqueue_worker.learning.engine.deployment import DeploymentDistribution
from uqueue_worker.learning.engine.parts import NotYet
from uqueue_worker.learning.generator import MLDataGenerator
from uqueue_worker.learning.interfaces import PrioritizationStrategyInterface, ScenarioRepositoryInterface
from uqueue_worker.learning.targeting.cycle import Cycle


class Evaluator(Protocol):
    """Evaluates a version of a model on an Avro file, in whatever way."""

    def evaluate(
        self, dataset: str, model: ModelRef, *, n_samples: int, every_sample: bool
    ) -> ModelPerformanceData | NotYet:
        """Return feedback, about every sample if asked for; or NotYet where jobs in the queue do the work.

        Called again with the same arguments it goes on with the same jobs. Raises an ActiveLearningError.
        """
        ...


class Trainer(Protocol):
    """Makes model versions and puts them into service. `classes` are those of the model."""

    @property
    def classes(self) -> Sequence[str]: ...

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
        """Return a new version, whole and stored; where the key made one before, that one is returned."""
        ...

    def find(self, model: str, version: str) -> ModelRef:
        """Return a stored version. Raises ModelNotFound or ModelVersionNotFound."""
        ...

    def promote(self, model: ModelRef) -> None:
        """Put a version into service; doing it twice is doing it once."""
        ...

    def problems(self, config: RunConfig) -> Sequence[str]:
        """Return what speaks against training for a run of this configuration, each with the name of its value."""
        ...


Suggest = Callable[[Sequence[WeakSpot], Cycle], Sequence[ModifyScenario | CreateScenario]]
StrategyOf = Callable[[RunConfig], PrioritizationStrategyInterface]


@dataclass(frozen=True)
class Workshop:
    """deployment  what pool, test set and exploration are drawn from; runs may ask for it by its `deployment_name`
    start       what the first training set is drawn from: the same, unless the start model is to have blind spots
    root        folder of the runs' files; shared by all processes that take part
    strategy    makes the strategy of a configuration
    suggest     what to do about weak spots, in their order
    """

    repository: ScenarioRepositoryInterface
    evaluator: Evaluator
    trainer: Trainer
    generator: MLDataGenerator
    deployment: DeploymentDistribution
    root: Path
    strategy: StrategyOf
    suggest: Suggest
    start: DeploymentDistribution | None = None
    deployment_name: str | None = None

    @property
    def start_distribution(self) -> DeploymentDistribution:
        return self.start or self.deployment

    def folder(self, run_id: str, kind: str) -> Path:
        """Return the folder of a run's files of one kind: `data`, `parts`, `feedback`."""
        return self.root / run_id / kind
