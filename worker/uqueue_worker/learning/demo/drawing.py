"""Scenarios in, labelled samples out, through the generator that everything else uses."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from uqueue_config.learning.scenario import ScenarioDefinition
from uqueue_worker.learning.demo.deployment import CLEAN, Distribution, Variant, definitions
from uqueue_worker.learning.demo.story import IMAGE_PIXELS, class_of
from uqueue_worker.learning.engine.deployment import SimulatedDeployment
from uqueue_worker.learning.engine.samples import Sample, records_of
from uqueue_worker.learning.errors import GenerationFailed
from uqueue_worker.learning.generator import MLDataGenerator
from uqueue_worker.learning.simulator import SensorUnit
from uqueue_worker.learning.simulator.sensor_unit import Imperfections

_GENERATED = datetime(2026, 1, 1, tzinfo=UTC)  # the same seed gives the same samples, whenever


def story_generator(variant: Variant = CLEAN) -> MLDataGenerator:
    """Return the generator of the demo: a small thermal camera, which is enough for its features."""
    unit = SensorUnit(image_pixels=IMAGE_PIXELS, imperfections=Imperfections(noise_scale=variant.noise_scale))
    return MLDataGenerator(unit)


def story_distribution(
    distribution: Distribution = "deployment", generator: MLDataGenerator | None = None, variant: Variant = CLEAN
) -> SimulatedDeployment:
    """Return one of the demo's distributions as the engine takes it."""

    def scenarios(n: int, seed: int) -> list[ScenarioDefinition]:
        return definitions(distribution, seed, n, variant)

    source: Any = generator or story_generator(variant)
    return SimulatedDeployment(scenarios, source, class_of)


def draw(n: int, seed: int, distribution: Distribution = "deployment") -> list[Sample]:
    """Return `n` labelled samples, one of each of as many scenarios; a function of the arguments alone.

    They are exported samples in memory, equal to those that a file would hold, with `extracted_class_label` set.
    """
    return samples_of(definitions(distribution, seed, n), seed)


def samples_of(
    scenarios: Sequence[ScenarioDefinition], seed: int, each: int = 1, generator: MLDataGenerator | None = None
) -> list[Sample]:
    """Return `each` labelled samples of every scenario. Raises GenerationFailed if one cannot run."""
    source = generator or story_generator()
    raw: Any = source.generate_training_dataset(scenarios=scenarios, samples_per_scenario=each, seed=seed)
    if not isinstance(raw, list):
        raise GenerationFailed(reason="a scenario of the demo did not run")
    return records_of(raw, story_distribution(), seed=seed, generated=_GENERATED, metadata={})
