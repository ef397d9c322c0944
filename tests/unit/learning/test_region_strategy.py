"""The region strategy: weights, what is kept, regions, their priorities and boxes."""

from __future__ import annotations

import json
import random
import sys
from typing import Any

import numpy as np
import pytest

from builders.feedback import feedback
from uqueue_worker.learning.strategies import RegionDiversifiedStrategy, same_region
from uqueue_worker.learning.strategies.region_scores import heaviest, scored, unscaled

UNC, MISC, RECALL = "high_uncertainty_sample", "misclassified_region", "low_recall_class"
LIMITS = {"distance": (1.0, 25.0), "humidity": (15.0, 98.0)}
CORNERS = ((3.0, 90.0), (22.0, 90.0), (22.0, 20.0))


def pool(per_corner: int = 10, quiet: int = 90) -> list[dict[str, Any]]:
    """Return samples with errors in three corners of (distance, humidity), and quiet ones everywhere."""
    rng = np.random.default_rng(7)
    found: list[dict[str, Any]] = []
    for corner, (distance, humidity) in enumerate(CORNERS):
        for i in range(per_corner):
            parameters = {"distance": distance + rng.normal(0, 0.3), "humidity": humidity + rng.normal(0, 0.3)}
            found.append(_sample(f"c{corner}-{i}", parameters, "corona", "normal", 0.2 + 0.1 * corner, corner))
    for i in range(quiet):
        parameters = {"distance": rng.uniform(1, 25), "humidity": rng.uniform(15, 98)}
        found.append(_sample(f"quiet-{i}", parameters, "normal", "normal", 0.01, None))
    return found


def _sample(
    name: str, parameters: dict[str, float], true: str, predicted: str, epistemic: float, corner: int | None
) -> dict[str, Any]:
    return {
        "raw_sample_id": name,
        "sensor_id": "U29_TFEMF",
        "true_label": true,
        "predicted_label": predicted,
        "epistemic_uncertainty_score": epistemic,
        "aleatoric_uncertainty_score": 0.1,
        "original_scenario_id": f"scenario-{name}",
        "scenario_parameters": {**parameters, "family": "corona"},
        "corner": corner,
    }


def regions(spots: Any) -> list[Any]:
    return [spot for spot in spots if spot.type != RECALL]


def test_three_corners_of_errors_are_three_regions() -> None:
    samples = pool()
    given = feedback(samples, n_samples=len(samples))
    strategy = RegionDiversifiedStrategy(n_regions=3, parameter_limits=LIMITS)
    spots = strategy.identify_weaknesses(given)
    assert [spot.type for spot in spots] == [MISC] * 3
    assert [spot.details["corner"] for spot in spots] == [2, 1, 0]
    # e = 1, epistemic 0.4, 0.3, 0.2 of at most 0.4, the same aleatoric part
    assert [spot.priority for spot in spots] == pytest.approx([1, 1.375 / 1.5, 1.25 / 1.5])
    for spot in spots:
        corner = spot.details["corner"]
        members = spot.details["members"]
        assert {one["raw_sample_id"] for one in members} == {f"c{corner}-{i}" for i in range(10)}
        assert spot.raw_sample_id in {one["raw_sample_id"] for one in members}
        assert spot.weakness_id == f"rg_misc_{spot.raw_sample_id}"
        inside = [one["scenario_parameters"] for one in samples if one["corner"] == corner]
        for name in LIMITS:
            values = [one[name] for one in inside]
            assert spot.details["region"][name] == {"min": min(values), "max": max(values)}
        # the medoid by its definition: the least sum of squared distances to the others
        scale = {name: high - low for name, (low, high) in LIMITS.items()}
        place = [np.array([one[name] / scale[name] for name in LIMITS]) for one in inside]
        sums = [sum(((a - b) ** 2).sum() for b in place) for a in place]
        assert spot.raw_sample_id == f"c{corner}-{int(np.argmin(sums))}"
    assert json.dumps([spot.model_dump() for spot in spots], allow_nan=False)


def test_parameters_are_looked_up_by_scenario_where_samples_do_not_carry_them() -> None:
    samples = pool()
    stored = {one["original_scenario_id"]: one["scenario_parameters"] for one in samples}
    bare = [{name: value for name, value in one.items() if name != "scenario_parameters"} for one in samples]
    looked_up = RegionDiversifiedStrategy(n_regions=3, parameter_limits=LIMITS, parameters_of=stored.get)
    carried = RegionDiversifiedStrategy(n_regions=3, parameter_limits=LIMITS)
    found = [
        [(spot.weakness_id, spot.priority, spot.details["region"]) for spot in strategy.identify_weaknesses(given)]
        for strategy, given in ((looked_up, feedback(bare)), (carried, feedback(samples)))
    ]
    assert found[0] == found[1]


def test_features_stand_in_for_parameters() -> None:
    samples = pool()
    for one in samples:
        place = one.pop("scenario_parameters")
        top = [
            {"feature_path": f"sample_metadata.{name}", "importance_score": 0.1, "raw_value": place[name]}
            for name in LIMITS
        ]
        one["sample_features_summary"] = {"method": "OCCLUSION", "top_n_features": top}
    spots = RegionDiversifiedStrategy(n_regions=3).identify_weaknesses(feedback(samples))
    assert [spot.details["corner"] for spot in spots] == [2, 1, 0]
    assert set(spots[0].details["region"]) == {"sample_metadata.distance", "sample_metadata.humidity"}


def test_samples_without_anything_are_told_apart_by_class() -> None:
    samples = [
        {"raw_sample_id": str(i), "true_label": "AB"[i % 2], "epistemic_uncertainty_score": 0.5} for i in range(8)
    ]
    spots = RegionDiversifiedStrategy(keep_quantile=0).identify_weaknesses(feedback(samples))
    assert [spot.type for spot in spots] == [UNC, UNC]
    assert {spot.details["true_label"] for spot in spots} == {"A", "B"}
    assert all(len(spot.details["members"]) == 4 for spot in spots)
    assert not same_region(spots[0], spots[0])


def test_a_quarter_is_kept_rounded_up() -> None:
    samples = scored(
        [({"raw_sample_id": str(i), "epistemic_uncertainty_score": i / 10}, False) for i in range(10)], _one
    )
    assert [one.sample["raw_sample_id"] for one in heaviest(samples, 0.75, None)] == ["9", "8", "7"]
    assert len(heaviest(samples, 0.75, 10)) == 3
    assert len(heaviest(samples, 0.75, 400)) == 3  # ten of 400 are shown: a quarter of what is shown
    assert len(heaviest(samples, 0.7, None)) == 3  # (1 - 0.7) * 10 is above 3 in floating point
    assert len(heaviest(samples, 0.0, None)) == 10


def _one(_: Any) -> float:
    return 1.0


def test_the_weight_is_its_formula() -> None:
    sample = {"epistemic_uncertainty_score": 0.3, "aleatoric_uncertainty_score": 0.4}
    assert unscaled(sample, True, 0.6) == pytest.approx((1 + 0.5 * 0.3 / 0.6) * (1 - 0.5 * 0.4))
    assert unscaled(sample, False, 0.6) == pytest.approx(0.5 * 0.5 * 0.8)
    assert unscaled({}, True, 0.0) == 1
    assert unscaled({"uncertainty_score": 0.6}, False, 0.6) == pytest.approx(0.5)


def test_one_samples_priority() -> None:
    strategy = RegionDiversifiedStrategy(
        class_criticality_map={"A": 1.5},
        sensor_type_weights={"EMFSensor": 0.5},
        sensor_id_to_type_map={"e": "EMFSensor"},
    )
    sample = {"true_label": "A", "predicted_label": "B", "sensor_id": "e", "epistemic_uncertainty_score": 0.4}
    expected = (1 + 0.2) * 1.5 * 0.5 / 1.5
    assert strategy.calculate_priority(sample, weakness_type=MISC) == pytest.approx(expected)
    assert strategy.calculate_priority(sample, weakness_type=UNC) == pytest.approx(expected)
    assert strategy.calculate_priority(sample, weakness_type=MISC, sensor_type="IMU") == pytest.approx(1.0)
    metrics = {"recall": 0.5, "class_name": "A"}
    assert strategy.calculate_priority(class_metrics_info=metrics, weakness_type=RECALL) == 0.75


def test_both_lists_are_merged() -> None:
    uncertain = [{"raw_sample_id": "a", "epistemic_uncertainty_score": 0.5, "aleatoric_uncertainty_score": 0.2}]
    wrong = [{"raw_sample_id": "a", "confidence_of_prediction": 0.9, "epistemic_uncertainty_score": None}]
    (spot,) = RegionDiversifiedStrategy(keep_quantile=0).identify_weaknesses(feedback(uncertain, wrong))
    assert spot.type == MISC
    assert spot.details["members"] == [{"raw_sample_id": "a", "score": pytest.approx(1.5 * 0.9)}]
    assert (spot.details["confidence_of_prediction"], spot.details["epistemic_uncertainty_score"]) == (0.9, 0.5)


def test_total_uncertainty_stands_in_and_says_so() -> None:
    (spot,) = RegionDiversifiedStrategy().identify_weaknesses(
        feedback([{"raw_sample_id": "a", "uncertainty_score": 0.5}])
    )
    assert (spot.type, spot.score_source, spot.weakness_id) == (UNC, "total", "rg_unc_a")


def test_nothing_weak_is_no_region() -> None:
    calm = [{"raw_sample_id": str(i), "true_label": "A", "predicted_label": "A"} for i in range(8)]
    assert RegionDiversifiedStrategy().identify_weaknesses(feedback(calm)) == []


def test_classes_need_support() -> None:
    classes = {
        "few": {"recall": 0.1, "support": 4},
        "enough": {"recall": 0.1, "support": 5},
        "unknown": {"recall": 0.5},
        "good": {"recall": 0.75, "support": 50},
    }
    spots = RegionDiversifiedStrategy(class_criticality_map={"enough": 0.5}).identify_weaknesses(
        feedback(classes=classes)
    )
    assert [(spot.details["class_name"], spot.priority) for spot in spots] == [("unknown", 0.5), ("enough", 0.45)]
    assert all(spot.weakness_id.startswith("rg_recall_") for spot in spots)


def test_there_are_no_more_regions_than_places() -> None:
    samples = [_sample(str(i), {"distance": 3.0, "humidity": 50.0}, "A", "B", 0.3, None) for i in range(9)]
    assert len(RegionDiversifiedStrategy(keep_quantile=0).identify_weaknesses(feedback(samples))) == 1


def test_parameters_may_be_nested_and_missing() -> None:
    samples = [_sample(str(i), {}, "A", "B", 0.3, None) for i in range(4)]
    for i, one in enumerate(samples):
        one["scenario_parameters"] = {"location": [0, 0, i], "rates": {"CO": i / 10}} | ({"extra": 1} if i else {})
    (spot,) = RegionDiversifiedStrategy(keep_quantile=0, n_regions=1).identify_weaknesses(feedback(samples))
    assert spot.details["region"] == {
        "extra": {"min": 1, "max": 1},
        "location[0]": {"min": 0, "max": 0},
        "location[1]": {"min": 0, "max": 0},
        "location[2]": {"min": 0, "max": 3},
        "rates.CO": {"min": 0, "max": 0.3},
    }


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300])
def test_parameters_that_are_no_places_are_refused(value: float) -> None:
    samples = [_sample("a", {"distance": value}, "A", "B", 0.3, None)]
    with pytest.raises(ValueError, match="distance: expected a number"):
        RegionDiversifiedStrategy().identify_weaknesses(feedback(samples))


def test_regions_are_recognised_in_the_next_cycle() -> None:
    strategy = RegionDiversifiedStrategy(keep_quantile=0, n_regions=3, parameter_limits=LIMITS)
    earlier = strategy.identify_weaknesses(feedback(pool(per_corner=12, quiet=0)))
    later = strategy.identify_weaknesses(feedback(pool(per_corner=6, quiet=0)))
    same = {(old.details["corner"], new.details["corner"]) for old in earlier for new in later if same_region(old, new)}
    assert same == {(0, 0), (1, 1), (2, 2)}
    assert all(same_region(spot, spot) for spot in earlier)
    other_class = later[0].model_copy(update={"details": {**later[0].details, "true_label": "arc"}})
    assert not same_region(later[0], other_class)
    other_parameters = later[0].model_copy(update={"details": {**later[0].details, "medoid_position": {"wind": 1.0}}})
    assert not same_region(later[0], other_parameters)


def test_edges_belong_to_a_region() -> None:
    earlier = {"details": {"true_label": "A", "region": {"wind": {"min": 1.0, "max": 2.0}}}}
    for wind, inside in ((1.0, True), (2.0, True), (0.99, False), (2.01, False)):
        later = {"details": {"true_label": "A", "medoid_position": {"wind": wind}}}
        assert same_region(earlier, later) == inside


def test_the_order_of_the_feedback_does_not_count_even_among_equals() -> None:
    samples = pool(per_corner=20)  # the weights within a corner are equal, and not all of them are kept
    shuffled = random.Random(1).sample(samples, len(samples))
    strategy = RegionDiversifiedStrategy(n_regions=5)
    assert strategy.identify_weaknesses(feedback(shuffled)) == strategy.identify_weaknesses(feedback(samples))


def test_the_seed_decides() -> None:
    rng = np.random.default_rng(3)
    samples = [
        _sample(str(i), {"distance": rng.uniform(1, 25), "humidity": rng.uniform(15, 98)}, "A", "B", 0.3, None)
        for i in range(80)
    ]
    found = [
        RegionDiversifiedStrategy(keep_quantile=0, n_regions=7, seed=seed).identify_weaknesses(feedback(samples))
        for seed in (0, 0, 0, 1)
    ]
    assert found[0] == found[1] == found[2] != found[3]


def test_without_scikit_learn_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.cluster", None)
    with pytest.raises(ImportError, match=r'pip install "uqueue\[worker,learning\]"'):
        RegionDiversifiedStrategy().identify_weaknesses(feedback(pool()))
