"""Feedback: what is taken, what is read in other spellings, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from builders.feedback import UNCERTAIN, example
from uqueue_config.learning.feedback import ClassMetrics, InvalidFeedback, ModelPerformanceData
from uqueue_config.learning.samples import FeatureSummary, ProblematicSampleInfo


def test_the_specs_example_comes_back_as_it_was() -> None:
    data = ModelPerformanceData.read(example())
    assert json.loads(json.dumps(data.to_message())) == example()
    assert data.per_class_metrics["FIRE_PRECURSOR"].recall == 0.625
    assert ModelPerformanceData.read(data.to_message()) == data


def test_fields_from_the_future_are_kept() -> None:
    given = example() | {"gpu": {"name": "none", "hours": 0.5}}
    given["uncertain_samples"][0]["colour"] = "red"
    assert ModelPerformanceData.read(given).to_message() == given


def test_other_spellings_are_read() -> None:
    given = example()
    given["dataset_source_identifier"] = given.pop("dataset_identifier")
    given["overall_metrics"]["f1_macro"] = given["overall_metrics"].pop("macro_f1_score")
    for metrics in given["per_class_metrics"].values():
        metrics["f1-score"] = metrics.pop("f1_score")
    for sample in (*given["uncertain_samples"], *given["misclassified_samples"]):
        sample["sample_id"] = sample.pop("raw_sample_id")
    sample = given["misclassified_samples"][0]
    sample["prediction_probability"] = sample.pop("confidence_of_prediction")
    assert ModelPerformanceData.read(given).to_message() == example()


def test_nested_scores_become_fields() -> None:
    nested = {"epistemic_uncertainty_score": 0.2, "confidence_score": 0.9, "vendor": 3}
    sample = ProblematicSampleInfo.model_validate({"sample_id": "a", "uncertainty_scores": nested})
    assert sample.to_message() == {
        "raw_sample_id": "a",
        "epistemic_uncertainty_score": 0.2,
        "confidence_of_prediction": 0.9,
        "uncertainty_scores": {"vendor": 3},
    }


def test_the_contracts_name_wins_over_another_spelling() -> None:
    metrics = ClassMetrics.model_validate({"f1_score": 0.5, "f1-score": 0.1})
    assert metrics.to_message() == {"f1_score": 0.5}


def test_an_error_is_not_feedback() -> None:
    with pytest.raises(InvalidFeedback, match="the evaluation failed: out of memory"):
        ModelPerformanceData.read(example() | {"error": "out of memory"})


def test_all_problems_are_named_at_once_with_their_paths() -> None:
    given = example()
    given["per_class_metrics"]["FIRE_PRECURSOR"]["recall"] = 1.2
    given["uncertain_samples"][0]["uncertainty_score"] = float("nan")
    given["n_samples"] = -1
    del given["misclassified_samples"]
    with pytest.raises(InvalidFeedback) as raised:
        ModelPerformanceData.read(given)
    for path in (
        "per_class_metrics.FIRE_PRECURSOR.recall",
        "uncertain_samples[0].uncertainty_score",
        "n_samples",
        "misclassified_samples",
    ):
        assert f"{path}: " in str(raised.value)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("schema_version", "2.0", "schema_version"),
        ("task", "ranking", "task"),
        ("evaluated_at_utc", "2026-03-02T09:14:07", "timezone"),
        ("classes", ["NORMAL_OPERATION"], "expected only classes that `classes` lists"),
        ("classes", ["A", "A"], "every class once"),
        ("confusion_matrix", [[1, 2], [3, 4]], "expected 4 rows of 4 counts"),
        ("overall_metrics", {"accuracy": float("inf")}, "overall_metrics.accuracy"),
        ("per_class_metrics", {"FIRE_PRECURSOR": {"support": True}}, "expected a number"),
        ("vendor", {"x": [float("nan")]}, "vendor: expected finite numbers"),
        ("vendor", {"x": {1, 2}}, "vendor: expected what JSON can carry"),
    ],
)
def test_what_is_wrong_is_refused(field: str, value: Any, said: str) -> None:
    with pytest.raises(InvalidFeedback, match="cannot be used") as raised:
        ModelPerformanceData.read(example() | {field: value})
    assert said in str(raised.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("predicted_label_distribution", {"NORMAL_OPERATION": 0.5, "FIRE_PRECURSOR": 0.499}),
        ("confidence_of_prediction", 1.01),
        ("scenario_timestep_seconds", -1),
        ("true_label", "A_CLASS_THAT_IS_NOT_LISTED"),
        ("raw_sample_id", ""),
    ],
)
def test_a_sample_that_cannot_be_is_refused(field: str, value: Any) -> None:
    with pytest.raises(InvalidFeedback, match=r"uncertain_samples\[0\]"):
        ModelPerformanceData.read(example() | {"uncertain_samples": [UNCERTAIN | {field: value}]})


def test_explanations_are_ordered_by_absolute_importance_under_canonical_paths() -> None:
    given = [
        {"feature_path": "sample_metadata.wind", "importance_score": None, "raw_value": None},
        {"feature_path": "sensor_readings_map.U20_SPS30.pm", "importance_score": 0.1, "raw_value": [1, 2]},
        {"feature_path": "sensor_readings_map.readings.U26.image|max", "importance_score": -0.4},
    ]
    summary = FeatureSummary.model_validate({"method": "SHAP", "top_n_features": given})
    assert [one.feature_path for one in summary.top_n_features] == [
        "sensor_readings_map.readings.U26.image|max",
        "sensor_readings_map.readings.U20_SPS30.pm",
        "sample_metadata.wind",
    ]


def test_feedback_does_not_change() -> None:
    data = ModelPerformanceData.read(example())
    with pytest.raises(ValueError, match="frozen"):
        data.n_samples = 1  # type: ignore[misc]
