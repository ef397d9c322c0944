"""The deployment distribution: where the model will be used, as far as anybody knows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from uqueue_config.learning.scenario import ScenarioDefinition
from uqueue_worker.learning.errors import GenerationFailed
from uqueue_worker.learning.interfaces import MLDataGeneratorInterface

RawSample = dict[str, Any]


class DeploymentDistribution(Protocol):
    """What is met in service. Both draws are pure functions of the count and the seed, and belong together:
    `draw(n, seed)` has one labelled sample of each scenario of `draw_scenarios(n, seed)`, in that order."""

    def draw_scenarios(self, n: int, seed: int) -> Sequence[ScenarioDefinition]:
        """Return n scenarios; their ids differ from those of any other seed."""
        ...

    def draw(self, n: int, seed: int) -> Sequence[RawSample]:
        """Return n raw samples (`timestamp_scenario_seconds`, `scenario_id`, `sensor_readings`, `labels`, …)."""
        ...

    def label_of(self, sample: Mapping[str, Any]) -> str | None:
        """Return the class of a raw sample, for `extracted_class_label`; None where its event type is the class."""
        ...


class SimulatedDeployment:
    """A deployment distribution whose samples come from the data generator, one of each scenario drawn.

    `scenarios(n, seed)` draws the scenarios; `label_of(raw sample)` names the class. A start set with blind spots is
    another distribution of the same kind.
    """

    def __init__(
        self,
        scenarios: Callable[[int, int], Sequence[ScenarioDefinition]],
        generator: MLDataGeneratorInterface,
        label_of: Callable[[Mapping[str, Any]], str | None] = lambda sample: None,
    ) -> None:
        self._scenarios = scenarios
        self._generator = generator
        self._label_of = label_of

    def draw_scenarios(self, n: int, seed: int) -> Sequence[ScenarioDefinition]:
        return self._scenarios(n, seed)

    def draw(self, n: int, seed: int) -> Sequence[RawSample]:
        """Return the samples. Raises GenerationFailed where the simulator failed or gave another number."""
        samples = self._generator.generate_training_dataset(
            scenarios=list(self.draw_scenarios(n, seed)), samples_per_scenario=1, seed=seed
        )
        if not isinstance(samples, list) or len(samples) != n:
            got = "nothing" if samples is None else f"{len(samples)} samples"
            raise GenerationFailed(reason=f"{got} for {n} scenarios of the deployment distribution")
        return samples

    def label_of(self, sample: Mapping[str, Any]) -> str | None:
        return self._label_of(sample)
