"""The strategies with thresholds: worked numbers, who qualifies, target sensors, caps, ids, bad input."""

from __future__ import annotations

import copy
import hashlib
import logging
import math
from typing import Any

import pytest

from builders.feedback import MISCLASSIFIED, UNCERTAIN, example, feedback
from uqueue_config.learning.feedback import ModelPerformanceData
from uqueue_worker.learning.interfaces import PrioritizationStrategyInterface
from uqueue_worker.learning.sensors import DEFAULT_SENSOR_ID_TO_TYPE_MAPPING
from uqueue_worker.learning.strategies import (
    STRATEGIES,
    HeterogeneousStrategy,
    HighFidelityStrategy,
    RealTimeStrategy,
    RegionDiversifiedStrategy,
    make_strategy,
)

EVERY = [RealTimeStrategy, HighFidelityStrategy, HeterogeneousStrategy, RegionDiversifiedStrategy]
UNC, MISC, RECALL = "high_uncertainty_sample", "misclassified_region", "low_recall_class"


def sample(name: str, **fields: Any) -> dict[str, Any]:
    return {"raw_sample_id": name, **fields}


def ids(spots: Any) -> list[str]:
    return [spot["weakness_id"] for spot in spots]


@pytest.mark.parametrize(
    ("strategy", "uncertain", "misclassified", "recall"),
    [
        (RealTimeStrategy(), 0.763, 0.871, 0.375),
        (HighFidelityStrategy(), 0.2243, 0.724, 0.375),
        (HighFidelityStrategy(class_criticality_map={"FIRE_PRECURSOR": 1.5}), 0.2243, 0.724, 0.5625),
        (HeterogeneousStrategy(), 0.2243, 0.724, 0.375),
    ],
)
def test_the_specs_worked_numbers(
    strategy: PrioritizationStrategyInterface, uncertain: float, misclassified: float, recall: float
) -> None:
    metrics = {"recall": 0.625, "class_name": "FIRE_PRECURSOR"}
    assert strategy.calculate_priority(UNCERTAIN, weakness_type=UNC) == pytest.approx(uncertain, abs=5e-5)
    assert strategy.calculate_priority(MISCLASSIFIED, weakness_type=MISC) == pytest.approx(misclassified)
    assert strategy.calculate_priority(class_metrics_info=metrics, weakness_type=RECALL) == pytest.approx(recall)


def test_the_specs_example_through_rt() -> None:
    spots = RealTimeStrategy().identify_weaknesses(example())
    assert ids(spots) == [f"rt_misc_{MISCLASSIFIED['raw_sample_id']}", f"rt_unc_{UNCERTAIN['raw_sample_id']}"]
    assert [spot.priority for spot in spots] == pytest.approx([0.871, 0.763])
    own = {"raw_sample_id", "sensor_id"}
    assert spots[1]["details"] == {name: value for name, value in UNCERTAIN.items() if name not in own}
    assert spots[1].sensor_id == "U19_TFSGS"


def test_the_specs_example_through_hf() -> None:
    spots = HighFidelityStrategy().identify_weaknesses(example())
    assert [(spot.type, round(spot.priority, 4)) for spot in spots] == [
        (MISC, 0.724),
        (RECALL, 0.375),
        (RECALL, 0.3),
        (UNC, 0.2243),
    ]
    assert spots[1].details == {
        "class_name": "FIRE_PRECURSOR",
        "recall": 0.625,
        "precision": 0.7937,
        "f1_score": 0.6993,
        "support": 80,
    }
    assert (spots[1].sensor_id, spots[1].raw_sample_id) == (None, None)
    # printf 'FIRE_PRECURSOR|global' | sha256sum
    assert spots[1].weakness_id == "hf_recall_FIRE_PRECURSOR_5f3e2cc6"


@pytest.mark.parametrize("strategy", EVERY)
def test_models_and_mappings_give_the_same(strategy: type[PrioritizationStrategyInterface]) -> None:
    spots = strategy().identify_weaknesses(ModelPerformanceData.read(example()))
    assert spots == strategy().identify_weaknesses(example())
    assert len(spots) >= 2


@pytest.mark.parametrize("strategy", EVERY)
def test_other_spellings_give_the_same(strategy: type[PrioritizationStrategyInterface]) -> None:
    given = example()
    for one in (*given["uncertain_samples"], *given["misclassified_samples"]):
        one["sample_id"] = one.pop("raw_sample_id")
    assert strategy().identify_weaknesses(given) == strategy().identify_weaknesses(example())


@pytest.mark.parametrize("strategy", EVERY)
def test_feedback_is_not_changed(strategy: type[PrioritizationStrategyInterface]) -> None:
    given = example()
    strategy().identify_weaknesses(given)
    assert given == example()


def test_uncertainty_thresholds_are_inclusive_and_recall_thresholds_strict() -> None:
    classes = {"A": {"recall": 0.6, "support": 9}, "B": {"recall": 0.59, "support": 9}}
    uncertain = [sample("a", uncertainty_score=0.7), sample("b", uncertainty_score=math.nextafter(0.7, 0))]
    spots = RealTimeStrategy().identify_weaknesses(feedback(uncertain, classes=classes))
    assert [spot.raw_sample_id or spot.details["class_name"] for spot in spots] == ["a", "B"]


@pytest.mark.parametrize(
    ("epistemic", "disagreement", "qualifies"),
    [
        (0.4, 0.0, True),
        (0.0, 0.3, True),
        (0.39, 0.29, False),
        (None, 0.3, True),
        (0.4, None, True),
        (None, None, False),
    ],
)
def test_hf_takes_either(epistemic: float | None, disagreement: float | None, qualifies: bool) -> None:
    given = sample("a", epistemic_uncertainty_score=epistemic, disagreement_score=disagreement, uncertainty_score=1.0)
    for strategy in (HighFidelityStrategy(), HeterogeneousStrategy()):
        assert bool(strategy.identify_weaknesses(feedback([given]))) == qualifies


def test_total_uncertainty_stands_in_only_where_that_is_asked_for() -> None:
    given = feedback([sample("a", uncertainty_score=0.8)], [sample("b", uncertainty_score=0.5)])
    assert [spot.score_source for spot in HighFidelityStrategy().identify_weaknesses(given)] == [None]
    spots = HighFidelityStrategy(fallback_to_total=True).identify_weaknesses(given)
    assert [(spot.raw_sample_id, spot.score_source) for spot in spots] == [("b", "total"), ("a", "total")]
    assert [spot.priority for spot in spots] == pytest.approx([0.7 + 0.2 * 0.5, 0.5 * 0.8])
    split = sample("c", uncertainty_score=0.9, epistemic_uncertainty_score=0.4)
    assert HighFidelityStrategy(fallback_to_total=True).identify_weaknesses(feedback([split]))[0].score_source is None


def test_priorities_are_clipped_last() -> None:
    strategy = HeterogeneousStrategy(
        class_criticality_map={"A": 10.0}, sensor_type_weights={"EMFSensor": 0.05}, default_sensor_weight=2.0
    )
    given = {"true_label": "A", "epistemic_uncertainty_score": 1.0}
    assert strategy.calculate_priority(given, weakness_type=MISC) == 1.0
    assert strategy.calculate_priority(given, weakness_type=MISC, sensor_type="EMFSensor") == pytest.approx(0.45)
    assert (
        RealTimeStrategy(misclassification_priority_base=1.0).calculate_priority(MISCLASSIFIED, weakness_type=MISC) == 1
    )


@pytest.mark.parametrize("strategy", EVERY)
def test_what_is_missing_or_unknown_has_no_priority(strategy: type[PrioritizationStrategyInterface]) -> None:
    one = strategy()
    assert one.calculate_priority() == 0
    assert one.calculate_priority(UNCERTAIN, weakness_type="bored") == 0
    assert one.calculate_priority(UNCERTAIN, weakness_type=RECALL) == 0
    assert one.calculate_priority(class_metrics_info={"recall": 0.1}, weakness_type=UNC) == 0
    assert one.calculate_priority(class_metrics_info={}, weakness_type=RECALL) == 0


def test_missing_scores_count_as_0() -> None:
    assert RealTimeStrategy().calculate_priority({}, weakness_type=MISC) == pytest.approx(0.8)
    assert HighFidelityStrategy().calculate_priority({"disagreement_score": None}, weakness_type=UNC) == 0


@pytest.mark.parametrize(
    ("sensor_type", "sample_sensor", "weight"),
    [("EMFSensor", "U26_Lepton35", 0.5), (None, "U29_TFEMF", 0.5), (None, "U26_Lepton35", 0.8), (None, None, 0.8)],
)
def test_a_sensors_weight_is_that_of_its_type(
    sensor_type: str | None, sample_sensor: str | None, weight: float
) -> None:
    strategy = HeterogeneousStrategy(
        sensor_type_weights={"EMFSensor": 0.5},
        default_sensor_weight=0.8,
        sensor_id_to_type_map=DEFAULT_SENSOR_ID_TO_TYPE_MAPPING,
    )
    given = {"sensor_id": sample_sensor}
    assert strategy.calculate_priority(given, weakness_type=MISC, sensor_type=sensor_type) == pytest.approx(
        0.7 * weight
    )
    metrics = {"recall": 0.5, "sensor_id_scope": sample_sensor}
    found = strategy.calculate_priority(class_metrics_info=metrics, weakness_type=RECALL, sensor_type=sensor_type)
    assert found == pytest.approx(0.5 * weight)


PER_SENSOR = {
    "U19_TFSGS": {"per_class_metrics": {"A": {"recall": 0.5, "support": 9}}},
    "U29_TFEMF": {"per_class_metrics": {"A": {"recall": 0.4, "support": 9}, "B": {"recall": 0.9, "support": 9}}},
}
GLOBAL = {"A": {"recall": 0.3, "support": 9}}


@pytest.mark.parametrize("prefix", ["rt", "hf"])
@pytest.mark.parametrize(
    ("target", "sensors", "expected"),
    [
        (None, PER_SENSOR, [None]),
        ("U19_TFSGS", PER_SENSOR, ["U19_TFSGS"]),
        ("U30_BMI270", PER_SENSOR, []),
        ("U30_BMI270", None, [None]),
        ("U30_BMI270", {}, []),
    ],
)
def test_class_metrics_of_rt_and_hf(prefix: str, target: str | None, sensors: Any, expected: list[str | None]) -> None:
    strategy = {"rt": RealTimeStrategy, "hf": HighFidelityStrategy}[prefix]()
    given = feedback(classes=GLOBAL) | ({} if sensors is None else {"sensor_specific_metrics": sensors})
    spots = strategy.identify_weaknesses(given, target_sensor_id=target)
    assert [spot.sensor_id for spot in spots] == expected
    scopes = [sensor or hashlib.sha256(b"A|global").hexdigest()[:8] for sensor in expected]
    assert ids(spots) == [f"{prefix}_recall_A_{scope}" for scope in scopes]


@pytest.mark.parametrize(
    ("target", "sensors", "expected"),
    [
        (None, PER_SENSOR, [None, "U29_TFEMF", "U19_TFSGS"]),
        ("U29_TFEMF", PER_SENSOR, ["U29_TFEMF"]),
        ("U30_BMI270", PER_SENSOR, []),
        ("U30_BMI270", None, []),
        (None, None, [None]),
    ],
)
def test_class_metrics_of_ht(target: str | None, sensors: Any, expected: list[str | None]) -> None:
    given = feedback(classes=GLOBAL) | ({} if sensors is None else {"sensor_specific_metrics": sensors})
    spots = HeterogeneousStrategy().identify_weaknesses(given, target_sensor_id=target)
    assert [spot.sensor_id for spot in spots] == expected


@pytest.mark.parametrize("strategy", EVERY)
def test_a_target_sensor_leaves_others_samples_out(strategy: type[PrioritizationStrategyInterface]) -> None:
    uncertain = [
        sample(f"u{s}", sensor_id=s, uncertainty_score=0.9, epistemic_uncertainty_score=0.9) for s in ("x", "y")
    ]
    misclassified = [sample(f"m{s}", sensor_id=s, true_label="A", predicted_label="B") for s in ("x", "y", None)]
    spots = strategy().identify_weaknesses(feedback(uncertain, misclassified), target_sensor_id="x")
    assert {spot.sensor_id for spot in spots} == {"x"}


def test_classes_without_samples_are_left_out() -> None:
    for strategy in EVERY:
        assert strategy().identify_weaknesses(feedback(classes={"A": {"recall": 0.0, "support": 0}})) == []
        assert strategy().identify_weaknesses(feedback(classes={"A": {"support": 9}})) == []


def test_a_sample_of_both_lists_is_one_spot() -> None:
    wrong = sample("a", confidence_of_prediction=0.5)
    tied = sample("b", uncertainty_score=0.8, confidence_of_prediction=0.0)
    surer = sample("c", uncertainty_score=0.9, confidence_of_prediction=0.5)
    uncertain = [sample("a", uncertainty_score=0.8), tied, surer]
    spots = RealTimeStrategy().identify_weaknesses(feedback(uncertain, [wrong, tied, surer]))
    assert ids(spots) == ["rt_unc_c", "rt_misc_a", "rt_misc_b"]


def test_duplicates_in_one_list_are_one_spot() -> None:
    uncertain = [
        sample("a", uncertainty_score=0.8),
        sample("a", uncertainty_score=0.9),
        sample("a", uncertainty_score=0.9),
    ]
    spots = RealTimeStrategy().identify_weaknesses(feedback(uncertain))
    assert [(spot.weakness_id, spot.priority) for spot in spots] == [("rt_unc_a", 0.9)]


def test_samples_without_an_id_have_spots_of_their_own() -> None:
    spots = RealTimeStrategy().identify_weaknesses(feedback([{"uncertainty_score": 0.9}] * 2))
    assert len(set(ids(spots))) == 2
    assert all(spot.raw_sample_id is None and len(spot.weakness_id) == len("rt_12345678") for spot in spots)


def test_equal_priorities_keep_their_order() -> None:
    uncertain = [sample(name, uncertainty_score=0.8) for name in "cab"]
    misclassified = [sample(name) for name in "fde"]
    classes = {"Z": {"recall": 0.2}, "Y": {"recall": 0.2}}
    spots = RealTimeStrategy().identify_weaknesses(feedback(uncertain, misclassified, classes))
    assert [spot.raw_sample_id or spot.details["class_name"] for spot in spots] == [*"cabfde", "Z", "Y"]


@pytest.mark.parametrize("strategy", [RealTimeStrategy, HighFidelityStrategy])
def test_the_best_hundred_are_kept(strategy: type[RealTimeStrategy]) -> None:
    misclassified = [
        sample(str(i), confidence_of_prediction=i / 200, epistemic_uncertainty_score=i / 200) for i in range(150)
    ]
    given = feedback([], misclassified)
    assert [spot.raw_sample_id for spot in strategy().identify_weaknesses(given)] == [
        str(i) for i in range(149, 49, -1)
    ]
    assert len(strategy(max_weaknesses=3).identify_weaknesses(given)) == 3
    assert len(strategy(max_weaknesses=None).identify_weaknesses(given)) == 150


def test_ht_keeps_five_of_each_sensor_and_of_none() -> None:
    misclassified = [
        sample(f"{sensor}{i}", sensor_id=sensor, epistemic_uncertainty_score=i / 10)
        for sensor in ("x", "y", None)
        for i in range(8)
    ]
    spots = HeterogeneousStrategy().identify_weaknesses(feedback([], misclassified, GLOBAL))
    assert [spot.raw_sample_id for spot in spots if spot.sensor_id == "x"] == [f"x{i}" for i in (7, 6, 5, 4, 3)]
    assert len(spots) == 15
    assert (
        len(HeterogeneousStrategy(max_weaknesses_per_sensor=None).identify_weaknesses(feedback([], misclassified)))
        == 24
    )


@pytest.mark.parametrize("strategy", EVERY)
@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        "feedback",
        {},
        {"uncertain_samples": [], "misclassified_samples": []},
        feedback() | {"per_class_metrics": None},
        feedback() | {"per_class_metrics": ["A"]},
        feedback() | {"uncertain_samples": "abc"},
        feedback() | {"misclassified_samples": [1]},
        feedback() | {"sensor_specific_metrics": {"x": 1}},
    ],
    ids=repr,
)
def test_what_is_no_feedback_gives_nothing_and_a_warning(
    strategy: type[PrioritizationStrategyInterface], data: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert strategy().identify_weaknesses(copy.deepcopy(data)) == []
    assert "no weak spots: " in caplog.text


@pytest.mark.parametrize("strategy", EVERY)
@pytest.mark.parametrize("value", [math.nan, math.inf, "0.9", True])
@pytest.mark.parametrize("field", ["uncertainty_score", "disagreement_score", "confidence_of_prediction"])
def test_what_is_no_number_is_refused(strategy: type[PrioritizationStrategyInterface], field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{field}: expected a finite number"):
        strategy().identify_weaknesses(feedback([sample("a", **{field: value})]))
    with pytest.raises(ValueError, match="recall: expected a finite number"):
        strategy().identify_weaknesses(feedback(classes={"A": {"recall": math.nan}}))


@pytest.mark.parametrize("strategy", EVERY)
def test_an_evaluation_that_failed_is_refused(strategy: type[PrioritizationStrategyInterface]) -> None:
    with pytest.raises(ValueError, match="the evaluation failed: no memory"):
        strategy().identify_weaknesses(feedback() | {"error": "no memory"})


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("real_time", {"uncertainty_threshold": 1.1}),
        ("real_time", {"low_recall_threshold": math.nan}),
        ("real_time", {"misclassification_priority_base": -0.1}),
        ("real_time", {"max_weaknesses": 0}),
        ("high_fidelity", {"epistemic_threshold": "0.4"}),
        ("high_fidelity", {"epistemic_weight": math.inf}),
        ("high_fidelity", {"class_criticality_map": {"A": -1}}),
        ("heterogeneous", {"max_weaknesses_per_sensor": 1.5}),
        ("heterogeneous", {"default_sensor_weight": True}),
        ("region", {"keep_quantile": 1.0}),
        ("region", {"n_regions": 0}),
        ("region", {"min_support": 0}),
        ("best", {}),
    ],
)
def test_parameters_are_checked_when_a_strategy_is_made(name: str, parameters: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(parameters), "no strategy is called 'best'")):
        make_strategy(name, **parameters)


def test_strategies_are_made_by_name() -> None:
    assert {name: type(make_strategy(name)) for name in STRATEGIES} == dict(STRATEGIES)
    assert make_strategy("real_time", sensor_id_to_type_map={}).sensor_id_to_type_map == {}
    assert make_strategy("region").sensor_id_to_type_map is None
