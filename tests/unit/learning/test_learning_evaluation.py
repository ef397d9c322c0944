"""From predictions to feedback: the numbers of the specification, which samples are reported, and what is told."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from builders.feedback import CLASSES, MATRIX
from builders.learning_models import FEATURES, sample
from uqueue_config.learning.feedback import ModelPerformanceData
from uqueue_config.learning.model_manifest import Feature
from uqueue_worker.learning.errors import PartialEvaluation
from uqueue_worker.learning.models.evaluation import EvaluationOptions, build_feedback
from uqueue_worker.learning.models.explain import coefficients, occlusion
from uqueue_worker.learning.models.features import FeatureSpec
from uqueue_worker.learning.models.predictions import Predictions
from uqueue_worker.learning.models.sample_table import SampleTable, read_table

SPEC = FeatureSpec(FEATURES, max_missing_rate=1.0)
VALUES = (10.0, 1.0, 30.0, 50.0)
ALL = EvaluationOptions(max_uncertain=None, max_misclassified=None)


def table(labels: list[str | None], values: Any = VALUES) -> SampleTable:
    made = [sample(number, label, values) for number, label in enumerate(labels)]
    for one in made:
        one["ground_truth_labels"]["event_type"] = None
    return read_table(made, SPEC)


def said(probabilities: Any, classes: list[str], **parts: Any) -> Predictions:
    return Predictions.from_probabilities(probabilities, classes, model_version="air@1", **parts)


def evaluated(labels: list[str | None], probabilities: Any, classes: list[str], **more: Any) -> ModelPerformanceData:
    return build_feedback(table(labels), said(probabilities, classes), **{"options": ALL, **more})


def test_the_confusion_matrix_of_the_specification_gives_its_numbers() -> None:
    pairs = [(t, p) for t, row in enumerate(MATRIX) for p, count in enumerate(row) for _ in range(count)]
    probabilities = np.eye(4)[[predicted for _, predicted in pairs]] * 0.6 + 0.1
    found = evaluated([CLASSES[true] for true, _ in pairs], probabilities, CLASSES)
    assert found.confusion_matrix == tuple(map(tuple, MATRIX))
    assert (found.n_samples, found.n_failed, found.n_misclassified) == (400, 0, 64)
    overall = {name: round(found.overall_metrics[name], 4) for name in ("accuracy", "macro_f1_score")}
    assert overall == {"accuracy": 0.84, "macro_f1_score": 0.8117}
    assert round(found.overall_metrics["weighted_f1_score"], 4) == 0.8349
    expected = ((0.95, 0.8444, 0.8941, 200), (0.625, 0.7937, 0.6993, 80), (0.9, 0.9474, 0.9231, 60))
    for name, numbers in zip(CLASSES, (*expected, (0.7, 0.7636, 0.7304, 60)), strict=True):
        one = found.per_class_metrics[name]
        rounded = tuple(round(float(score or 0), 4) for score in (one.recall, one.precision, one.f1_score))
        assert (*rounded, one.support) == numbers
    assert set(found.overall_metrics) == {
        "accuracy",
        "balanced_accuracy",
        "macro_f1_score",
        "weighted_f1_score",
        "log_loss",
        "brier",
        "ece",
    }


def test_identical_members_have_no_epistemic_uncertainty_and_contradicting_ones_no_aleatoric() -> None:
    same = np.repeat([[[0.5, 0.3, 0.2]]], 5, axis=1).astype(np.float32)
    opposed = np.array([[[1, 0, 0], [0, 1, 0], [0, 0, 1]]], dtype=np.float32)
    alike = Predictions.from_members(same, "abc", model_version="1", uncertainty_method="ensemble:5")
    apart = Predictions.from_members(opposed, "abc", model_version="1", uncertainty_method="ensemble:3")
    assert (alike.epistemic, alike.disagreement) == ([0.0], [0.0])
    assert (apart.aleatoric, apart.total, apart.disagreement) == ([0.0], pytest.approx([1.0]), pytest.approx([1.0]))


def test_a_single_model_has_a_total_and_labels_alone_have_nothing() -> None:
    single = Predictions.from_members([[[0.5, 0.5]]], "ab", model_version="1", uncertainty_method="single_model")
    assert (single.total, single.epistemic) == (pytest.approx([1.0]), None)
    labels = Predictions.from_labels(["b", "a"], "ab", model_version="1")
    assert (labels.predicted.tolist(), labels.probabilities, labels.total) == ([1, 0], None, None)
    found = build_feedback(table(["a", "a"]), labels, options=ALL)
    assert "the model gives labels only: there are no uncertainties" in found.warnings
    assert set(found.overall_metrics) == {"accuracy", "balanced_accuracy", "macro_f1_score", "weighted_f1_score"}
    assert (found.uncertain_samples, found.misclassified_samples[0].predicted_label_distribution) == ((), None)


def test_members_in_float32_give_distributions_that_sum_to_one() -> None:
    random = np.random.default_rng(0)
    members = random.dirichlet(np.ones(6), size=(50, 120)).astype(np.float32)
    found = Predictions.from_members(members, "abcdef", model_version="1", uncertainty_method="ensemble:120")
    assert found.probabilities is not None
    assert np.abs(found.probabilities.sum(axis=1) - 1).max() < 1e-12
    parts = [
        Predictions.from_members(members[at : at + 7], "abcdef", model_version="1", uncertainty_method="ensemble:120")
        for at in range(0, 50, 7)
    ]
    joined = Predictions.joined(parts)
    assert np.array_equal(joined.predicted, found.predicted)
    assert np.allclose(joined.epistemic, found.epistemic, atol=1e-12)  # type: ignore[arg-type]


@pytest.mark.parametrize("members", [[[[0.7, 0.7]]], [[[np.nan, 1.0]]], [[[0.5, 0.5, 0.0]]], [[0.5, 0.5]]])
def test_what_are_no_probabilities_is_refused(members: Any) -> None:
    with pytest.raises(ValueError, match="probabilities"):
        Predictions.from_members(members, "ab", model_version="1", uncertainty_method="ensemble:1")


def test_the_most_uncertain_and_the_most_confident_errors_come_first_and_equal_ones_by_id() -> None:
    shares = [[0.6, 0.4], [0.9, 0.1], [0.6, 0.4], [0.8, 0.2], [0.3, 0.7]]
    found = evaluated(["b", "b", "b", "a", "b"], shares, ["a", "b"])
    assert [one.raw_sample_id for one in found.uncertain_samples] == ["s00000", "s00002", "s00004", "s00003", "s00001"]
    assert [one.raw_sample_id for one in found.misclassified_samples] == ["s00001", "s00000", "s00002"]
    assert [one.confidence_of_prediction for one in found.misclassified_samples] == [0.9, 0.6, 0.6]


def test_lists_are_cut_by_threshold_length_and_class_and_the_total_stays() -> None:
    shares = [[0.6, 0.4], [0.9, 0.1], [0.7, 0.3], [0.8, 0.2]]
    labels: list[str | None] = ["b", "b", "a", "b"]
    options = EvaluationOptions(uncertainty_threshold=0.8, max_uncertain=1, max_misclassified=2)
    found = evaluated(labels, shares, ["a", "b"], options=options)
    assert [one.raw_sample_id for one in found.uncertain_samples] == ["s00000"]
    assert ([one.raw_sample_id for one in found.misclassified_samples], found.n_misclassified) == (
        ["s00001", "s00003"],
        3,
    )
    capped = evaluated(labels, shares, ["a", "b"], options=EvaluationOptions(max_per_class=1))
    assert [one.raw_sample_id for one in capped.uncertain_samples] == ["s00000", "s00002"]
    assert [one.raw_sample_id for one in capped.misclassified_samples] == ["s00001"]


@pytest.mark.parametrize(("score", "expected"), [("least_confidence", 0.8), ("margin", 0.8), ("total", 0.9709506)])
def test_the_uncertainty_score_can_be_chosen(score: Any, expected: float) -> None:
    options = EvaluationOptions(uncertainty_score=score)
    found = evaluated(["a"], [[0.6, 0.4]], ["a", "b"], options=options)
    assert found.uncertain_samples[0].uncertainty_score == pytest.approx(expected)


def test_unlabelled_samples_count_for_uncertainty_only() -> None:
    found = evaluated([None, "a"], [[0.5, 0.5], [0.9, 0.1]], ["a", "b"])
    assert [one.true_label for one in found.uncertain_samples] == [None, "a"]
    assert (found.n_samples, found.to_message()["n_unlabelled"], found.overall_metrics["accuracy"]) == (2, 1, 1.0)
    none = evaluated([None], [[0.5, 0.5]], ["a", "b"])
    assert none.overall_metrics == {}
    assert none.warnings == ("no sample is labelled: there are uncertainties and no metrics",)


def test_labels_that_the_model_does_not_know_are_counted_apart() -> None:
    found = evaluated(["z", "a"], [[0.5, 0.5], [0.9, 0.1]], ["a", "b"])
    assert found.classes == ("a", "b", "z")
    assert (found.to_message()["n_unknown_labels"], found.n_misclassified) == (1, 1)
    assert "1 samples have labels that the model does not know: z" in found.warnings
    assert found.per_class_metrics["z"].recall == 0
    assert "classes without a true or without a predicted sample have scores of 0: b, z" in found.warnings
    assert found.overall_metrics["brier"] == pytest.approx((0.25 + 0.25 + 1 + 0.01 + 0.01) / 2)


def test_metrics_per_sensor_are_over_the_samples_that_it_read() -> None:
    made = [sample(0, "a", VALUES), sample(1, "b", (None, 1.0, 30.0, None)), sample(2, "b", VALUES)]
    found = build_feedback(read_table(made, SPEC), said([[0.9, 0.1]] * 3, ["a", "b"]), options=ALL)
    assert found.sensor_specific_metrics is not None
    particles, fields = (found.sensor_specific_metrics[name] for name in ("U20_SPS30", "U29_TFEMF"))
    assert (particles.n_samples, particles.overall_accuracy_for_sensor_data) == (2, 0.5)
    assert (fields.n_samples, fields.overall_accuracy_for_sensor_data) == (3, pytest.approx(1 / 3))
    assert particles.per_class_metrics["b"].support == 1
    assert found.sensor_specific_metrics["U21_SHT85"].n_samples == 2


def test_rows_that_failed_are_counted_and_left_out() -> None:
    partly = said([[0.9, 0.1], [0.2, 0.8]], ["a", "b"]).spread([0, 2], 3)
    found = build_feedback(table(["a", "a", "a"]), partly, options=ALL)
    assert (found.n_samples, found.n_failed, found.n_misclassified) == (3, 1, 1)
    assert "1 of 3 samples could not be evaluated" in found.warnings
    assert {one.raw_sample_id for one in found.uncertain_samples} == {"s00000", "s00002"}
    assert Predictions.joined([partly, partly]).failed == (1, 4)
    with pytest.raises(PartialEvaluation, match="3 of 3"):
        build_feedback(table(["a"] * 3), said(np.zeros((0, 2)), ["a", "b"]).spread([], 3))


def test_ambiguity_is_there_where_a_conformal_quantile_is() -> None:
    shares = [[0.5, 0.4, 0.1], [0.9, 0.05, 0.05]]
    found = evaluated(["a", "a"], shares, ["a", "b", "c"], conformal_q=0.7)
    assert [one.ambiguity_score for one in found.uncertain_samples] == [0.5, 0.0]
    assert evaluated(["a", "a"], shares, ["a", "b", "c"]).uncertain_samples[0].ambiguity_score is None


def soft(matrix: Any) -> Any:
    """The first class by the first feature, a little by the second."""
    first = 1 / (1 + np.exp(-(matrix[:, 0] - 10 + 0.1 * matrix[:, 1])))
    return np.stack([first, 1 - first], axis=1)


def test_occlusion_is_the_drop_of_the_predicted_class_without_a_feature() -> None:
    features = tuple(one.model_copy(update={"median": 10.0}) for one in FEATURES)
    spec = FeatureSpec(features)
    values = np.array([[12.0, 1.0, 30.0, 50.0], [8.0, 1.0, 30.0, 50.0]])
    found = occlusion(values, spec, soft(values).argmax(axis=1), soft)
    assert found.scores is not None
    without = soft(np.array([[10.0, 1.0, 30.0, 50.0]]))
    assert found.scores[0, 0] == pytest.approx(soft(values)[0, 0] - without[0, 0])
    assert found.scores[1, 0] == pytest.approx(soft(values)[1, 1] - without[0, 1])
    assert found.scores[:, 2:].tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_occlusion_calls_the_model_once() -> None:
    calls = []

    def counting(matrix: Any) -> Any:
        calls.append(len(matrix))
        return soft(matrix)

    occlusion(np.full((7, 4), 12.0), SPEC, np.zeros(7, dtype=np.int64), counting)
    assert calls == [7 * 5]


def test_reported_samples_are_explained_and_belong_to_the_sensor_that_matters_most() -> None:
    made = [sample(0, "a", (12.0, 1.0, 30.0, 50.0)), sample(1, "a", (None, 1.0, 30.0, 50.0))]
    predictions = said(soft(read_table(made, SPEC).matrix), ["a", "b"])
    options = EvaluationOptions(top_n=2, all_raw_values=True)
    found = build_feedback(read_table(made, SPEC), predictions, predict_probabilities=soft, options=options)
    first = next(one for one in found.uncertain_samples if one.raw_sample_id == "s00000")
    summary = first.sample_features_summary
    assert summary is not None
    assert (first.sensor_id, summary.method, summary.target_class_for_explanation) == ("U20_SPS30", "OCCLUSION", "a")
    assert [one.feature_path.split(".")[-1] for one in summary.top_n_features] == ["pm2_5", "field_strength"]
    assert [one.raw_value for one in summary.top_n_features] == [12.0, 1.0]
    missing = next(one for one in found.uncertain_samples if one.raw_sample_id == "s00001").sample_features_summary
    assert missing is not None
    assert (missing.all_raw_values or {})["sensor_readings_map.readings.U20_SPS30.pm2_5"] is None


def test_only_the_first_of_each_list_are_explained_if_so_asked() -> None:
    labels: list[str | None] = ["b"] * 4
    shares = soft(np.array([[12.0, 1], [13.0, 1], [14.0, 1], [15.0, 1]]))
    options = EvaluationOptions(max_explained=1)
    found = build_feedback(table(labels), said(shares, ["a", "b"]), predict_probabilities=soft, options=options)
    explained = [one.raw_sample_id for one in found.uncertain_samples if one.sample_features_summary is not None]
    assert explained == ["s00000", "s00003"]


def test_explanations_that_fail_leave_the_metrics_and_a_warning() -> None:
    def broken(matrix: Any) -> Any:
        raise RuntimeError("no memory")

    found = evaluated(["a"], [[0.9, 0.1]], ["a", "b"], predict_probabilities=broken)
    summary = found.uncertain_samples[0].sample_features_summary
    assert summary is not None
    assert (summary.method, summary.top_n_features) == ("NONE", ())
    assert "explanations failed: RuntimeError: no memory" in found.warnings
    assert found.overall_metrics["accuracy"] == 1.0


def test_a_linear_model_is_explained_by_its_coefficients() -> None:
    features = (Feature(path="a", mean=1.0), Feature(path="b", mean=2.0))
    values = np.array([[3.0, 3.0], [3.0, np.nan]])
    found = coefficients(values, FeatureSpec(features), np.array([1, 0]), [[2.0, 5.0]])
    assert found.scores is not None
    assert (found.method, found.scores.tolist()) == ("COEFFICIENT", [[4.0, 5.0], [-4.0, 10.0]])


def test_the_same_data_in_another_order_report_the_same_samples() -> None:
    random = np.random.default_rng(3)
    made = [sample(number, "ab"[number % 2], (random.normal(10, 2), 1.0, 30.0, 50.0)) for number in range(60)]
    orders = [np.arange(60), random.permutation(60)]
    messages = []
    for order in orders:
        held = read_table([made[place] for place in order], SPEC)
        found = build_feedback(held, said(soft(held.matrix), ["a", "b"]), predict_probabilities=soft)
        messages.append(found.to_message())
    assert messages[0]["overall_metrics"] == pytest.approx(messages[1]["overall_metrics"])
    for field in ("per_class_metrics", "confusion_matrix", "misclassified_samples", "uncertain_samples"):
        assert messages[0][field] == messages[1][field]
