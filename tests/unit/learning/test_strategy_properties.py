"""What holds for every strategy and any feedback."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders.feedback import feedback
from uqueue_worker.learning.interfaces import PrioritizationStrategyInterface
from uqueue_worker.learning.sensors import DEFAULT_SENSOR_ID_TO_TYPE_MAPPING
from uqueue_worker.learning.strategies import (
    HeterogeneousStrategy,
    HighFidelityStrategy,
    RealTimeStrategy,
    RegionDiversifiedStrategy,
)

SCORES = st.none() | st.floats(0, 1)
SENSORS = st.sampled_from([None, "U19_TFSGS", "U29_TFEMF", "unheard-of"])
LABELS = st.sampled_from(["A", "B", "C"])
WEIGHTS: dict[str, Any] = {
    "class_criticality_map": {"A": 3.0, "B": 0.2},
    "sensor_type_weights": {"EMFSensor": 2.5, "VOCSensorArray": 0.1},
}
EVERY = [
    RealTimeStrategy(uncertainty_threshold=0.3),
    HighFidelityStrategy(class_criticality_map=WEIGHTS["class_criticality_map"], fallback_to_total=True),
    HeterogeneousStrategy(sensor_id_to_type_map=DEFAULT_SENSOR_ID_TO_TYPE_MAPPING, **WEIGHTS),
    RegionDiversifiedStrategy(n_regions=3, sensor_id_to_type_map=DEFAULT_SENSOR_ID_TO_TYPE_MAPPING, **WEIGHTS),
]
each = pytest.mark.parametrize("strategy", EVERY, ids=lambda one: one.prefix)


@st.composite
def samples(draw: Any) -> list[dict[str, Any]]:
    names = draw(st.lists(st.integers(0, 30), unique=True, max_size=8))
    return [
        {
            "raw_sample_id": f"s{name}",
            "sensor_id": draw(SENSORS),
            "true_label": draw(LABELS),
            "predicted_label": draw(LABELS),
            "uncertainty_score": draw(SCORES),
            "epistemic_uncertainty_score": draw(SCORES),
            "aleatoric_uncertainty_score": draw(SCORES),
            "disagreement_score": draw(SCORES),
            "confidence_of_prediction": draw(SCORES),
            "scenario_parameters": {"distance": draw(st.floats(1, 25)), "wind": draw(st.floats(0, 12))},
        }
        for name in names
    ]


CLASSES = st.dictionaries(LABELS, st.fixed_dictionaries({"recall": SCORES, "support": st.integers(0, 50)}))
DATA = st.builds(
    lambda uncertain, misclassified, classes, per_sensor: feedback(
        uncertain,
        misclassified,
        classes,
        sensor_specific_metrics={"U19_TFSGS": {"per_class_metrics": per_sensor}},
    ),
    samples(),
    samples(),
    CLASSES,
    CLASSES,
)


def told(spots: Any) -> list[tuple[str, float]]:
    return [(spot.weakness_id, spot.priority) for spot in spots]


@each
@settings(max_examples=30, deadline=None)
@given(data=DATA, target=SENSORS)
def test_spots_are_ranked_within_0_and_1_and_the_same_again(
    strategy: PrioritizationStrategyInterface, data: dict[str, Any], target: str | None
) -> None:
    spots = strategy.identify_weaknesses(data, target_sensor_id=target)
    priorities = [spot.priority for spot in spots]
    assert priorities == sorted(priorities, reverse=True)
    assert all(0 <= one <= 1 for one in priorities)
    assert len({spot.weakness_id for spot in spots}) == len(spots)
    named = [spot.raw_sample_id for spot in spots if spot.raw_sample_id is not None]
    assert len(set(named)) == len(named)
    assert strategy.identify_weaknesses(data, target_sensor_id=target) == spots


@each
@settings(max_examples=30, deadline=None)
@given(data=DATA, seed=st.integers(0, 1000))
def test_the_order_of_the_lists_decides_only_ties(
    strategy: PrioritizationStrategyInterface, data: dict[str, Any], seed: int
) -> None:
    shuffled = {**data}
    for name in ("uncertain_samples", "misclassified_samples"):
        shuffled[name] = random.Random(seed).sample(data[name], len(data[name]))
    uncapped = strategy
    if isinstance(strategy, HeterogeneousStrategy):  # its cap falls between ties
        uncapped = HeterogeneousStrategy(
            max_weaknesses_per_sensor=None, sensor_id_to_type_map=DEFAULT_SENSOR_ID_TO_TYPE_MAPPING, **WEIGHTS
        )
    assert sorted(told(uncapped.identify_weaknesses(data))) == sorted(told(uncapped.identify_weaknesses(shuffled)))


@each
@settings(max_examples=30, deadline=None)
@given(data=DATA)
def test_every_spot_is_of_a_sample_or_of_a_class(
    strategy: PrioritizationStrategyInterface, data: dict[str, Any]
) -> None:
    known = {one["raw_sample_id"] for name in ("uncertain_samples", "misclassified_samples") for one in data[name]}
    for spot in strategy.identify_weaknesses(data):
        assert spot.raw_sample_id is None or spot.raw_sample_id in known
        assert (spot.raw_sample_id is None) == (spot.type == "low_recall_class")


@settings(max_examples=60, deadline=None)
@given(
    sample=st.fixed_dictionaries(
        dict.fromkeys(("uncertainty_score", "epistemic_uncertainty_score", "aleatoric_uncertainty_score"), SCORES)
    ),
    sensor=SENSORS,
    criticality=st.floats(0, 1e6),
)
def test_no_criticality_leads_beyond_1(sample: dict[str, Any], sensor: str | None, criticality: float) -> None:
    given_sample = {**sample, "sensor_id": sensor, "true_label": "A"}
    for strategy in (HighFidelityStrategy, HeterogeneousStrategy, RegionDiversifiedStrategy):
        one = strategy(class_criticality_map={"A": criticality})
        for kind in ("high_uncertainty_sample", "misclassified_region"):
            assert 0 <= one.calculate_priority(given_sample, weakness_type=kind) <= 1
