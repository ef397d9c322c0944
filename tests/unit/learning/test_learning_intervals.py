"""Intervals beside true values as feedback: the numbers, the classes, and what strategies make of them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from uqueue_config.learning.feedback import ModelPerformanceData
from uqueue_worker.learning.errors import ActiveLearningError, EmptyDataset, PartialEvaluation
from uqueue_worker.learning.models.evaluation import EvaluationOptions
from uqueue_worker.learning.models.intervals import (
    Intervals,
    RegressionSpec,
    Rows,
    central_width,
    regression_feedback,
)
from uqueue_worker.learning.models.intervals.scores import assess, interval_score, quantile_loss
from uqueue_worker.learning.strategies import make_strategy

SPEC = RegressionSpec(target="load", edges=(20, 40), reference_width=10)


def feedback(truth: Any, lower: Any, upper: Any, **more: Any) -> ModelPerformanceData:
    options = more.pop("options", None)
    intervals = Intervals.of(lower, upper, nominal_coverage=more.pop("nominal_coverage", 0.9), **more)
    rows = Rows.of([f"s{number:02d}" for number in range(len(intervals))], truth)
    return regression_feedback(rows, intervals, SPEC, options=options)


def test_classes_in_words() -> None:
    assert SPEC.classes == ("below 20", "[20, 40)", "40 and above")
    assert SPEC.classes_of([-1e9, 19.9, 20, 39.9, 40]).tolist() == [0, 0, 1, 1, 2]
    assert RegressionSpec(target="y", edges=(0.1,), reference_width=1).classes == ("below 0.1", "0.1 and above")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"edges": (40, 20)}, "increasing"),
        ({"edges": ()}, "at least 1"),
        ({"edges": (1.0, 1.0 + 1e-14)}, "12 digits"),
        ({"edges": (math.nan,)}, "finite"),
        ({"reference_width": 0}, "greater than 0"),
        ({"target": "a b"}, "names joined by dots"),
        ({"output": "heat", "outputs": ("cold",)}, "one of the names in outputs"),
        ({"bins": 3}, "Extra"),
    ],
)
def test_a_spec_that_cannot_be(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        RegressionSpec(**{**SPEC.model_dump(), **wrong})


def test_outputs_by_number_and_by_name() -> None:
    named = SPEC.model_copy(update={"outputs": ("cold", "heat"), "output": "heat"})
    assert (SPEC.output_of(2), named.output_of(2)) == (0, 1)
    with pytest.raises(ActiveLearningError, match="names 2 targets, the model has 3"):
        named.output_of(3)
    with pytest.raises(ActiveLearningError, match="no output 2: the model has 2"):
        SPEC.model_copy(update={"output": 2}).output_of(2)


def test_the_reference_is_the_interval_of_a_model_that_knows_nothing() -> None:
    targets = np.random.default_rng(0).normal(size=20_000) * 3
    assert central_width(targets) == pytest.approx(2 * 1.6449 * 3, rel=0.02)
    assert central_width(targets, 0.5) == np.subtract(*np.percentile(targets, [75, 25]))
    assert central_width(targets, 1) == np.ptp(targets)
    for wrong, said in (([1.0, 1.0], "equal"), ([], "finite"), ([math.nan, 1], "finite")):
        with pytest.raises(ValueError, match=said):
            central_width(wrong)
    with pytest.raises(ValueError, match="share"):
        central_width(targets, 0)


def test_scores_term_by_term() -> None:
    truth, lower, upper = [1.0, 5.0, 12.0], [2.0, 4.0, 4.0], [4.0, 6.0, 10.0]
    widths, missed = [2, 2, 6], [1, 0, 2]
    expected = sum(w + 2 / 0.1 * d for w, d in zip(widths, missed, strict=True)) / 3
    assert interval_score(truth, lower, upper, 0.1) == pytest.approx(expected)
    losses = [0.95 * 1, 0.05 * 1, 0.05 * 8, 0.05 * 3, 0.05 * 1, 0.95 * 2]
    assert quantile_loss(truth, lower, upper, 0.1) == pytest.approx(sum(losses) / 6)


def test_both_scores_are_one_but_for_a_factor_and_smallest_for_the_true_quantiles() -> None:
    random = np.random.default_rng(1)
    truth = random.normal(size=50_000)
    bound = 1.6449
    found = {}
    for shift in (-0.3, 0.0, 0.3):
        low, high = np.full_like(truth, -bound - shift), np.full_like(truth, bound + shift)
        found[shift] = interval_score(truth, low, high, 0.1)
        assert found[shift] == pytest.approx(4 / 0.1 * quantile_loss(truth, low, high, 0.1))
    assert found[0.0] < min(found[-0.3], found[0.3])


def test_what_a_row_is() -> None:
    truth = np.array([30.0, 50.0, 50.0, 50.0, 31.0, math.nan, 10.0])
    lower = [25.0, 40.0, 45.0, 20.0, 32.0, 0.0, 10.0]
    upper = [35.0, 48.0, 48.9, 49.0, 32.0, 30.0, 18.0]
    found = assess(truth, Intervals.of(lower, upper, spread=[1.0, 9.0, 0.0, 40.0, 0.0, 1.0, 2.0]), SPEC)
    assert found.miss.tolist() == [False, True, True, True, True, False, False]  # borders belong to the interval
    assert found.total.tolist() == pytest.approx([1.0, 0.8, 0.39, 1.0, 0.0, 1.0, 0.8])
    assert found.epistemic is not None
    assert found.aleatoric is not None
    assert found.epistemic.tolist() == pytest.approx([0.1, 0.8, 0.0, 1.0, 0.0, 0.1, 0.2])
    assert (found.epistemic + found.aleatoric).tolist() == pytest.approx(found.total.tolist())
    confidence = found.confidence.tolist()
    assert confidence[1:5] == pytest.approx([2 / 10, 1.1 / 5, 1 / 30, 1.0])
    assert [math.isnan(one) for one in confidence] == [True, False, False, False, False, True, True]
    assert found.true.tolist() == [1, 2, 2, 2, 1, -1, 0]
    assert found.said.tolist() == [1, 2, 2, 1, 1, 0, 0]
    assert found.ambiguity.tolist() == [0.0, 0.0, 0.0, 0.5, 0.0, 0.5, 0.0]


def test_an_interval_that_holds_the_truth_is_no_error_whatever_class_its_point_is_in() -> None:
    found = feedback([41.0], [30.0], [42.0])
    (sample,) = found.uncertain_samples
    assert (sample.true_label, sample.predicted_label) == ("40 and above", "40 and above")
    assert sample.confidence_of_prediction is None
    assert found.misclassified_samples == ()
    assert sample.model_extra == {"true_value": 41.0, "predicted_value": 36.0, "interval": [30.0, 42.0]}


def test_metrics_of_classes_and_of_everything() -> None:
    truth = [10.0, 12.0, 25.0, 30.0, 38.0, math.nan]
    lower = [9.0, 15.0, 20.0, 35.0, 20.0, 1.0]
    upper = [11.0, 25.0, 30.0, 55.0, 21.0, 2.0]  # rows 1, 3 and 4 miss: they say "[20, 40)", "40 and above", "[20, 40)"
    found = feedback(truth, lower, upper)
    told = {
        name: (one.recall, one.precision, one.f1_score, one.support) for name, one in found.per_class_metrics.items()
    }
    assert told == {
        "below 20": (0.5, 1.0, pytest.approx(2 / 3), 2),
        "[20, 40)": (pytest.approx(1 / 3), pytest.approx(1 / 3), pytest.approx(1 / 3), 3),
        "40 and above": (0.0, 0.0, 0.0, 0),
    }
    errors = np.array([0.0, -8.0, 0.0, -15.0, 17.5])
    assert found.overall_metrics == {
        "mae": pytest.approx(np.abs(errors).mean()),
        "rmse": pytest.approx(math.sqrt((errors**2).mean())),
        "coverage": 0.4,
        "mean_interval_width": pytest.approx((2 + 10 + 10 + 20 + 1) / 5),
        "nominal_coverage": 0.9,
        "interval_score": pytest.approx((2 + 10 + 10 + 20 + 1 + 20 * (3 + 5 + 17)) / 5),
        "pinball_loss": pytest.approx(found.overall_metrics["interval_score"] * 0.1 / 4),
        "macro_recall": pytest.approx((1 / 2 + 1 / 3) / 2),
    }
    assert (found.n_samples, found.n_misclassified, found.n_failed, found.task) == (6, 3, 0, "regression")
    assert found.confusion_matrix is None
    assert found.model_extra is not None
    assert found.model_extra["n_unlabelled"] == 1
    assert RegressionSpec.model_validate(found.model_extra["regression"]) == SPEC
    assert any("40 and above" in warning for warning in found.warnings)
    assert ModelPerformanceData.read(found.to_message()) == found


def test_both_lists_are_ranked_and_bounded() -> None:
    truth = np.full(6, 30.0)
    lower = np.array([31.0, 31.0, 35.0, 20.0, 29.9, 31.0])
    upper = np.array([33.0, 33.0, 36.0, 29.0, 30.1, 39.0])
    found = feedback(truth, lower, upper)
    assert [one.raw_sample_id for one in found.misclassified_samples] == ["s02", "s00", "s01", "s05", "s03"]
    assert [one.raw_sample_id for one in found.uncertain_samples] == ["s03", "s05", "s00", "s01", "s02", "s04"]
    few = feedback(truth, lower, upper, options=EvaluationOptions(max_uncertain=1, max_misclassified=2))
    assert [one.raw_sample_id for one in few.misclassified_samples] == ["s02", "s00"]
    assert len(few.uncertain_samples) == 1
    assert few.n_misclassified == 5
    with pytest.raises(ValueError, match="have a total only, not margin"):
        feedback(truth, lower, upper, options=EvaluationOptions(uncertainty_score="margin"))


def test_what_is_not_known_is_null_or_absent() -> None:
    found = feedback([math.nan, math.nan], [1.0, 7.0], [2.0, 7.5], nominal_coverage=None, failed=[1])
    assert found.overall_metrics == {}
    assert found.n_failed == 1
    assert [one.raw_sample_id for one in found.uncertain_samples] == ["s00"]
    (sample,) = found.uncertain_samples
    assert (sample.true_label, sample.predicted_label) == (None, "below 20")
    assert sample.epistemic_uncertainty_score is sample.aleatoric_uncertainty_score is None
    assert sample.to_message()["true_value"] is None
    said = " / ".join(found.warnings)
    for part in ("no sample has a true value at load", "nominal coverage", "1 of 2 samples could not be evaluated"):
        assert part in said


@pytest.mark.parametrize(
    ("lower", "upper", "more", "said"),
    [
        ([1.0, math.nan], [2.0, 3.0], {}, "lower: expected finite numbers; row 1"),
        ([1.0, 1.0], [2.0, math.inf], {}, "upper: expected finite numbers; row 1"),
        ([1.0, 4.0], [2.0, 3.0], {}, "lower <= upper; row 1"),
        ([1.0, 2.0], [2.0], {}, r"upper: expected numbers \(2,\) as lower has, got the shape \(1,\)"),
        ([[1.0]], [[2.0]], {}, r"lower: expected numbers \(rows,\)"),
        ([1.0], [2.0], {"point": [1.5, 1.6]}, "point: expected numbers"),
        ([1.0], [2.0], {"point": [math.nan]}, "point: expected finite"),
        ([1.0], [2.0], {"spread": [-0.1]}, "spread: expected 0 or more; row 0"),
        ([1.0], [2.0], {"nominal_coverage": 1.0}, "nominal_coverage"),
    ],
)
def test_intervals_that_cannot_be(lower: Any, upper: Any, more: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Intervals.of(lower, upper, **more)


def test_truths_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="truth: expected numbers"):
        feedback([1.0, 2.0, 3.0], [1.0, 2.0], [2.0, 3.0])
    with pytest.raises(ValueError, match="truth: expected finite"):
        feedback([math.inf], [1.0], [2.0])
    with pytest.raises(EmptyDataset):
        feedback([], [], [])
    with pytest.raises(PartialEvaluation):
        feedback([1.0], [1.0], [2.0], failed=[0])


def misses_at_seven() -> ModelPerformanceData:
    """Feedback on a line of samples: narrow intervals everywhere, that miss by far between 6 and 8, and also at 1.5."""
    x = np.linspace(0, 10, 201)
    truth = 15 + 3 * x + np.where((x > 6) & (x < 8), 15.0, 0.0) + np.where(np.abs(x - 1.5) < 0.03, 1.1, 0.0)
    centre = 15 + 3 * x
    rows = Rows.of([f"s{number:03d}" for number in range(len(x))], truth, [f"{one:.2f}" for one in x])
    width = np.where(x > 9.5, 4.5, 1.0)
    intervals = Intervals.of(centre - width, centre + width, spread=np.where(x > 9, 4.6, 0.1), nominal_coverage=0.9)
    return regression_feedback(rows, intervals, SPEC, options=EvaluationOptions(max_uncertain=None))


def at(spot: Any) -> float:
    return float(spot.details["original_scenario_id"])


def test_strategies_take_it_as_it_is() -> None:
    found = misses_at_seven()
    real_time = make_strategy("real_time").identify_weaknesses(found)
    wrong = [spot for spot in real_time if spot.type == "misclassified_region"]
    assert all(6 < at(spot) < 8 for spot in wrong[:-1])
    assert at(wrong[-1]) == 1.5  # missed by little, so it is the least confident error
    assert all(at(spot) > 9.5 for spot in real_time if spot.type == "high_uncertainty_sample")
    for name, all_of_them in (("high_fidelity", {}), ("heterogeneous", {"max_weaknesses_per_sensor": None})):
        spots = make_strategy(name, low_recall_threshold=0.8, **all_of_them).identify_weaknesses(found)
        by_type = {spot.type: spot for spot in reversed(spots)}
        assert by_type["low_recall_class"].details["class_name"] == "40 and above"
        assert 6 < at(by_type["misclassified_region"]) < 8
    rich = make_strategy("high_fidelity").identify_weaknesses(found)
    assert all(at(spot) > 9 for spot in rich if spot.type == "high_uncertainty_sample")
    strategy = make_strategy("region", n_regions=4, parameters_of=lambda scenario: {"x": float(scenario)})
    best = strategy.identify_weaknesses(found)[0]
    assert 6 < best.details["region"]["x"]["min"] < best.details["region"]["x"]["max"] < 8
