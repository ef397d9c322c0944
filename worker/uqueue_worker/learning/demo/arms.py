"""Other policies beside the targeted one: the same start, budget, test set and training, but samples from elsewhere.

random box           scenarios even over all classes and all ranges
random deployment    more of what is met in service
more of the same     more of what the start model was trained on
errors first         the most confident errors of the pool once more, their scenarios unchanged
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from uqueue_config.learning.scenario import ScenarioDefinition
from uqueue_worker.learning.demo.deployment import CLEAN, Distribution, Variant, definitions
from uqueue_worker.learning.demo.drawing import samples_of, story_generator
from uqueue_worker.learning.demo.story import CLASSES, FEATURE_SPEC
from uqueue_worker.learning.engine.samples import Sample
from uqueue_worker.learning.metrics import FloatArray, confusion_matrix, overall_scores
from uqueue_worker.learning.models.features import FeatureSpec, feature_values, model_matrix
from uqueue_worker.learning.models.training import FittedForest, train_on
from uqueue_worker.learning.simulator.runs import derived_seed

#: What the arms are called, for people.
TITLES = {
    "targeted": "targeted (region strategy)",
    "random_box": "random box",
    "random_deployment": "random deployment",
    "same": "more of the same",
    "errors_first": "errors first",
}
_SPEC = FeatureSpec(FEATURE_SPEC)
_ERROR_SCENARIOS = 12


@dataclass(frozen=True, eq=False)
class Data:
    """Samples as a model reads them: float64 (N, features), and their classes."""

    values: FloatArray
    labels: tuple[str, ...]

    @classmethod
    def of(cls, samples: Sequence[Sample]) -> Data:
        return cls(feature_values(samples, _SPEC), tuple(str(one["extracted_class_label"]) for one in samples))

    def with_more(self, other: Data) -> Data:
        return Data(np.vstack([self.values, other.values]), (*self.labels, *other.labels))


@dataclass(frozen=True)
class Budget:
    """How much an arm may do; `seed` is the run's, from which everything follows that a run with it does."""

    seed: int
    cycles: int = 6
    samples_per_cycle: int = 48
    start_samples: int = 500
    pool_samples: int = 1200
    test_samples: int = 6000


class Grounds:
    """The data sets of a run with a budget's seed: the same samples that the engine draws for it."""

    def __init__(self, budget: Budget, variant: Variant = CLEAN) -> None:
        self.budget = budget
        self.variant = variant
        self._generator = story_generator(variant)

    @cached_property
    def start(self) -> Data:
        return self._drawn("start", "training", self.budget.start_samples)

    @cached_property
    def pool(self) -> Data:
        return self._drawn("deployment", "pool", self.budget.pool_samples)

    @cached_property
    def pool_scenarios(self) -> list[ScenarioDefinition]:
        return self.scenarios("deployment", self._seed("pool"), self.budget.pool_samples)

    @cached_property
    def test(self) -> Data:
        return self._drawn("deployment", "test", self.budget.test_samples)

    def fit(self, data: Data) -> FittedForest:
        """Return the model that the engine would train on these samples."""
        seed = derived_seed(self.budget.seed, "training") % 2**32
        return train_on(data.values, data.labels, FEATURE_SPEC, CLASSES, seed=seed)

    def score(self, model: FittedForest) -> float:
        """Return macro F1 on the test set."""
        true = [CLASSES.index(label) for label in self.test.labels]
        predicted = probabilities(model, self.test).argmax(axis=1)
        return overall_scores(confusion_matrix(true, predicted, len(CLASSES))).macro_f1_score

    def scenarios(self, distribution: Distribution, seed: int, n: int) -> list[ScenarioDefinition]:
        return definitions(distribution, seed, n, self.variant)

    def simulated(self, scenarios: Sequence[ScenarioDefinition], seed: int, each: int = 1) -> Data:
        return Data.of(samples_of(scenarios, seed, each, self._generator))

    def _drawn(self, distribution: Distribution, role: str, n: int) -> Data:
        seed = self._seed(role)
        return self.simulated(self.scenarios(distribution, seed, n), seed)

    def _seed(self, role: str) -> int:
        return derived_seed(self.budget.seed, "dataset", role)


def probabilities(model: FittedForest, data: Data) -> FloatArray:
    """Return the means over trees, float64 (N, classes)."""
    matrix = model_matrix(data.values, FeatureSpec(model.features))
    means: FloatArray = model.members(matrix).mean(axis=1)
    return means


def play(name: str, grounds: Grounds) -> list[float]:
    """Return macro F1 on the test set at the start and after each cycle of one of the arms but the targeted one."""
    make = _ARMS[name]
    data = grounds.start
    model = grounds.fit(data)
    curve = [grounds.score(model)]
    for cycle in range(grounds.budget.cycles):
        data = data.with_more(make(grounds, model, derived_seed(grounds.budget.seed, "arm", name, cycle)))
        model = grounds.fit(data)
        curve.append(grounds.score(model))
    return curve


def reference(grounds: Grounds) -> float:
    """Return macro F1 on the test set of a model trained on the start set and the whole pool."""
    return grounds.score(grounds.fit(grounds.start.with_more(grounds.pool)))


def _drawing(distribution: Distribution) -> Callable[[Grounds, FittedForest, int], Data]:
    def make(grounds: Grounds, model: FittedForest, seed: int) -> Data:
        return grounds.simulated(grounds.scenarios(distribution, seed, grounds.budget.samples_per_cycle), seed)

    return make


def _errors_first(grounds: Grounds, model: FittedForest, seed: int) -> Data:
    shares = probabilities(model, grounds.pool)
    true = np.array([CLASSES.index(label) for label in grounds.pool.labels])
    wrong = np.flatnonzero(shares.argmax(axis=1) != true)
    ranked = wrong[np.argsort(-shares.max(axis=1)[wrong], kind="stable")][:_ERROR_SCENARIOS]
    chosen = [grounds.pool_scenarios[row] for row in ranked.tolist()]
    if not chosen:
        return _drawing("deployment")(grounds, model, seed)
    wanted = grounds.budget.samples_per_cycle
    found = grounds.simulated(chosen, seed, -(-wanted // len(chosen)))
    return Data(found.values[:wanted], found.labels[:wanted])


_ARMS: dict[str, Callable[[Grounds, FittedForest, int], Data]] = {
    "random_box": _drawing("box"),
    "random_deployment": _drawing("deployment"),
    "same": _drawing("start"),
    "errors_first": _errors_first,
}
