"""The small runs of `learning_runs` as what a learning worker learns about."""

from __future__ import annotations

from collections.abc import Sequence

from builders.learning_runs import CLASSES, FEATURES, MODEL, a_generator, label_of, scenarios, small_config
from uqueue_config.learning.scenario import ScenarioDefinition
from uqueue_worker.learning.engine import SimulatedDeployment
from uqueue_worker.learning.subject import Subject

NAMED = "builders.learning_subject:small"
DEPLOYMENT = "small_deployment"


def small() -> Subject:
    """Return three classes, a start model with a hole, and the configuration of a run of seconds."""
    generator = a_generator()
    defaults = small_config().model_dump(mode="json", exclude={"model", "deployment"})

    def dry(n: int, seed: int) -> Sequence[ScenarioDefinition]:
        return scenarios(n, seed, humid=False)

    return Subject(
        model=MODEL,
        name=DEPLOYMENT,
        classes=CLASSES,
        features=FEATURES,
        generator=generator,
        deployment=SimulatedDeployment(scenarios, generator, label_of),
        start=SimulatedDeployment(dry, generator, label_of),
        defaults=defaults,
    )
