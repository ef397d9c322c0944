from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from uqueue_worker.learning.demo.arms import Budget, Data, Grounds, play, probabilities, reference
from uqueue_worker.learning.demo.deployment import CLASS_SHARES, RANGES, conditions, definition, definitions
from uqueue_worker.learning.demo.drawing import draw, story_distribution
from uqueue_worker.learning.demo.story import CLASSES, FEATURES, class_of, unseen
from uqueue_worker.learning.demo.subject import fire_precursors
from uqueue_worker.learning.models.features import FeatureSpec, feature_values
from uqueue_worker.learning.simulator.runs import derived_seed

SMALL = Budget(seed=3, cycles=1, samples_per_cycle=8, start_samples=60, pool_samples=40, test_samples=60)


@pytest.fixture(scope="module")
def grounds() -> Grounds:
    return Grounds(SMALL)


def test_classes_come_by_their_shares_and_conditions_cover_their_ranges() -> None:
    drawn = conditions("deployment", 0, 6000)
    counts = Counter(label for label, _ in drawn)
    assert {name: counts[name] / 6000 for name in CLASSES} == pytest.approx(
        dict(zip(CLASSES, CLASS_SHARES, strict=True)), abs=0.02
    )
    for name, (low, high) in RANGES.items():
        values = np.array([given[name] for _, given in drawn])
        assert low <= values.min() < low + 0.01 * (high - low)
        assert high >= values.max() > high - 0.01 * (high - low)


def test_the_start_model_has_three_holes_and_deployment_has_none() -> None:
    assert not any(unseen(label, given) for label, given in conditions("start", 1, 2000))
    missed = Counter(label for label, given in conditions("deployment", 1, 2000) if unseen(label, given))
    assert set(missed) == {"SMOULDERING", "CORONA", "NORMAL_OPERATION"}
    assert min(missed.values()) > 10


def test_the_box_has_all_classes_equally_often() -> None:
    counts = Counter(label for label, _ in conditions("box", 0, 6000))
    assert min(counts.values()) > 900


def test_every_class_is_simulated_with_all_features() -> None:
    middle = {name: (low + high) / 2 for name, (low, high) in RANGES.items()}
    project = fire_precursors()
    scenarios = [definition(f"one-{label}", label, middle) for label in CLASSES]
    raw = project.generator.generate_training_dataset(scenarios=scenarios, samples_per_scenario=2, seed=1)
    assert isinstance(raw, list)
    assert [class_of(sample) for sample in raw] == [label for label in CLASSES for _ in range(2)]
    values = feature_values(raw, FeatureSpec(project.features))
    assert values.shape == (12, len(FEATURES))
    assert np.isfinite(values).all()


def test_draws_are_functions_of_their_arguments() -> None:
    first, again, other = draw(12, 5), draw(12, 5), draw(12, 6)
    assert first == again
    assert {one["scenario_id"] for one in first}.isdisjoint(one["scenario_id"] for one in other)
    assert [one["scenario_id"] for one in first] == [
        one.scenario_definition_id for one in definitions("deployment", 5, 12)
    ]
    assert {one["extracted_class_label"] for one in first} <= set(CLASSES)


def test_arms_start_from_the_samples_that_the_engine_draws(grounds: Grounds) -> None:
    seed = derived_seed(SMALL.seed, "dataset", "pool")
    pool = story_distribution().draw(SMALL.pool_samples, seed)
    assert np.array_equal(grounds.pool.values, feature_values(pool, FeatureSpec(fire_precursors().features)))


@pytest.mark.parametrize("name", ["random_box", "random_deployment", "same", "errors_first"])
def test_an_arm_gives_a_metric_at_the_start_and_after_each_cycle(grounds: Grounds, name: str) -> None:
    curve = play(name, grounds)
    assert len(curve) == SMALL.cycles + 1
    assert all(0 < value < 1 for value in curve)
    assert curve[0] == grounds.score(grounds.fit(grounds.start))
    assert curve == play(name, grounds)


def test_the_reference_is_trained_on_start_and_pool(grounds: Grounds) -> None:
    together = grounds.start.with_more(grounds.pool)
    assert len(together.labels) == SMALL.start_samples + SMALL.pool_samples
    assert reference(grounds) == grounds.score(grounds.fit(together))


def test_probabilities_are_those_of_the_forest(grounds: Grounds) -> None:
    model = grounds.fit(grounds.start)
    shares = probabilities(model, Data(grounds.test.values[:5], grounds.test.labels[:5]))
    assert shares.sum(axis=1) == pytest.approx(1)
    assert shares == pytest.approx(model.forest.predict_proba(grounds.test.values[:5].astype(np.float32)), abs=1e-9)
