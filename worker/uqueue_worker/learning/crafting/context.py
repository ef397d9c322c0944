"""What a crafting strategy is told, and how it answers."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from uqueue_config.learning.scenario import ScenarioDefinition
from uqueue_worker.learning.crafting.drafts import Draft, RepositoryView
from uqueue_worker.learning.crafting.families import ClassFamilies, Family
from uqueue_worker.learning.crafting.forward import ForwardModel, Meter
from uqueue_worker.learning.crafting.levers import WeakFeature, weak_features
from uqueue_worker.learning.crafting.placing import ordinary_parameters, with_surroundings
from uqueue_worker.learning.errors import ActiveLearningError
from uqueue_worker.learning.scenarios import BaseScenario, FamilyScenario
from uqueue_worker.learning.scenarios.parameters import FamilyParameters
from uqueue_worker.learning.simulator.runs import derived_seed


@dataclass(frozen=True)
class CraftingLimits:
    """max_simulator_calls  for one strategy and one weak spot
    deadline_seconds     the same in time; it is there for simulators that hang, and a run that meets it depends on
                         the machine
    max_residual         how far the features of an inverse design may be from those wanted, in standard deviations
    candidates           stored scenarios that are looked at, at most
    sigma                spread of what is jittered, as a share of each parameter's range
    """

    max_simulator_calls: int = 200
    deadline_seconds: float = 20.0
    max_residual: float = 0.25
    candidates: int = 50
    sigma: float = 0.05


@dataclass(frozen=True)
class CraftingContext:
    """A weak spot as crafting sees it. `seed` begins every random stream; `spot` adds the region, if it is known."""

    features_summary: Mapping[str, Any]
    base_id: str
    target_class: str | None = None
    sensor_type: str | None = None
    repository: RepositoryView | None = None
    spot: Mapping[str, Any] | None = None
    seed: int = 0
    families: ClassFamilies = field(default_factory=ClassFamilies)
    forward: ForwardModel = field(default_factory=ForwardModel)
    limits: CraftingLimits = field(default_factory=CraftingLimits)
    clock: Callable[[], float] = time.monotonic

    @cached_property
    def features(self) -> list[WeakFeature]:
        """The features that have a number, the most important first."""
        return weak_features(self.features_summary)

    @cached_property
    def class_family(self) -> Family | None:
        """The family of the target class: by the table, or else that of the latest stored scenario of the class."""
        stored = next((type(scenario) for _, scenario in self.runnable), None)
        return self.families.of_class(self.target_class) or stored

    @cached_property
    def family(self) -> Family | None:
        """The family of the target class, or else that of the type of sensor."""
        return self.class_family or self.families.of_sensor_type(self.sensor_type)

    @cached_property
    def stored(self) -> Sequence[ScenarioDefinition]:
        """Stored scenarios of the target class, with this type of sensor if there are such, the latest first."""
        if self.repository is None or self.target_class is None:
            return ()
        told: dict[str, Any] = {"class_label": self.target_class, "num_to_get": self.limits.candidates}
        found = self.repository.get_scenarios_by_class_label(sensor_type=self.sensor_type, **told)
        if not found and self.sensor_type is not None:
            found = self.repository.get_scenarios_by_class_label(sensor_type=None, **told)
        return found

    @cached_property
    def runnable(self) -> list[tuple[ScenarioDefinition, FamilyScenario]]:
        """Those of the stored scenarios that can run here, with the scenarios built."""
        found = []
        for definition in self.stored:
            try:
                scenario = BaseScenario.from_scenario_definition_dict(definition)
            except ActiveLearningError:
                continue
            if isinstance(scenario, FamilyScenario):
                found.append((definition, scenario))
        return found

    def ordinary(self, family: Family) -> FamilyParameters:
        """Return parameters of an ordinary scenario of a family: the latest stored one of the class, or defaults."""
        for _, scenario in self.runnable:
            if type(scenario) is family:
                return with_surroundings(family, scenario.parameters.to_dict())
        return ordinary_parameters(family)

    def meter(self) -> Meter:
        """Return the forward model with the calls and the time of one strategy."""
        return Meter(self.forward, self.limits.max_simulator_calls, self.limits.deadline_seconds, self.clock)

    def random(self, *names: Any) -> np.random.Generator:
        """Return a random stream of these names: the same for the same seed and spot."""
        return np.random.Generator(np.random.PCG64(self.stream(*names)))

    def stream(self, *names: Any) -> int:
        """Return the seed of a stream, 0 <= seed < 2**53."""
        return derived_seed(self.seed, self.base_id, *names)


class CraftingStrategy(ABC):
    """A way to make scenarios; stateless."""

    name: ClassVar[str]
    version: ClassVar[str] = "1"

    @abstractmethod
    def supports(self, context: CraftingContext) -> float:
        """Return how well this strategy suits a weak spot, 0 (it cannot) to 1."""

    @abstractmethod
    def craft(self, context: CraftingContext, n: int) -> Sequence[Draft]:
        """Return up to `n` drafts, the best first. Raises CraftingFailed, saying why, where it has none."""
