"""Metrics: the spec's own numbers, scikit-learn's, and formulas computed the slow way."""

from __future__ import annotations

import math

import numpy as np
import pytest
import sklearn.metrics as reference
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from builders.feedback import CLASSES, MATRIX, example
from uqueue_worker.learning.metrics import (
    brier_score,
    checked_shares,
    class_order,
    class_scores,
    confusion_matrix,
    expected_calibration_error,
    log_loss,
    overall_scores,
)

LABELS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=60)
SEEDS = st.integers(0, 2**32 - 1)


def drawn(seed: int, n_samples: int = 40, n_classes: int = 4) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.full(n_classes, 0.5), n_samples), rng.integers(0, n_classes, n_samples)


def test_the_specs_matrix_gives_the_specs_numbers() -> None:
    scores, overall, expected = class_scores(MATRIX), overall_scores(MATRIX), example()
    for i, name in enumerate(CLASSES):
        for metric in ("recall", "precision", "f1_score"):
            assert getattr(scores, metric)[i] == pytest.approx(expected["per_class_metrics"][name][metric], abs=5e-5)
        assert scores.support[i] == expected["per_class_metrics"][name]["support"]
    for metric in ("accuracy", "macro_f1_score", "weighted_f1_score"):
        assert getattr(overall, metric) == pytest.approx(expected["overall_metrics"][metric], abs=5e-5)
    assert np.sum(MATRIX) - np.trace(MATRIX) == expected["n_misclassified"]


@settings(deadline=None)
@given(LABELS)
def test_the_numbers_are_those_of_scikit_learn(labels: list[tuple[int, int]]) -> None:
    true, predicted = (list(column) for column in zip(*labels, strict=True))
    matrix = confusion_matrix(true, predicted, 4)
    np.testing.assert_array_equal(matrix, reference.confusion_matrix(true, predicted, labels=range(4)))
    scores, overall = class_scores(matrix), overall_scores(matrix)
    precision, recall, f1, support = reference.precision_recall_fscore_support(
        true, predicted, labels=range(4), zero_division=0
    )
    np.testing.assert_allclose([scores.precision, scores.recall, scores.f1_score], [precision, recall, f1])
    np.testing.assert_array_equal(scores.support, support)
    np.testing.assert_array_equal(scores.undefined, (matrix.sum(axis=0) == 0) | (matrix.sum(axis=1) == 0))
    assert overall.accuracy == pytest.approx(reference.accuracy_score(true, predicted))
    for average in ("macro", "weighted"):
        expected = reference.f1_score(true, predicted, labels=range(4), average=average, zero_division=0)
        assert getattr(overall, f"{average}_f1_score") == pytest.approx(expected)


def test_balanced_accuracy_counts_the_classes_that_have_samples() -> None:
    overall = overall_scores([[8, 2, 0], [1, 1, 0], [0, 0, 0]])
    assert overall.balanced_accuracy == pytest.approx((0.8 + 0.5) / 2)


@settings(deadline=None)
@given(SEEDS)
def test_log_loss_and_brier_score_are_those_of_scikit_learn(seed: int) -> None:
    shares, true = drawn(seed)
    assert log_loss(shares, true) == pytest.approx(reference.log_loss(true, shares, labels=range(4)))
    expected = reference.brier_score_loss(np.eye(4)[true].argmax(axis=1), shares, labels=range(4), scale_by_half=False)
    assert brier_score(shares, true) == pytest.approx(expected)


def test_the_best_and_the_worst_answer() -> None:
    assert brier_score([[1, 0]], [0]) == 0
    assert brier_score([[1, 0]], [1]) == 2
    assert log_loss([[1, 0]], [0]) == 0
    assert log_loss([[1, 0]], [1]) == pytest.approx(-math.log(np.finfo(float).eps))


@settings(deadline=None)
@given(SEEDS, st.integers(1, 20))
def test_calibration_error_is_the_mean_gap_of_the_bins(seed: int, n_bins: int) -> None:
    shares, true = drawn(seed)
    confidence, hit = shares.max(axis=1), shares.argmax(axis=1) == true
    expected = 0.0
    for index in range(n_bins):
        inside = (confidence > index / n_bins) & (confidence <= (index + 1) / n_bins)
        if inside.any():
            expected += inside.mean() * abs(confidence[inside].mean() - hit[inside].mean())
    assert expected_calibration_error(shares, true, n_bins) == pytest.approx(expected, abs=1e-12)


def test_calibration_error_of_known_answers() -> None:
    assert expected_calibration_error([[1, 0], [1, 0]], [0, 0]) == 0
    assert expected_calibration_error([[1, 0], [1, 0]], [0, 1]) == pytest.approx(0.5)
    # 0.5 belongs to the lower of two bins, 1 to the upper one
    assert expected_calibration_error([[0.5, 0.5], [1, 0]], [0, 1], 2) == pytest.approx((0.5 + 1) / 2)
    assert expected_calibration_error([[0.6, 0.4]] * 10, [0] * 6 + [1] * 4) == pytest.approx(0)


def test_classes_are_the_models_and_then_those_it_does_not_know() -> None:
    assert class_order(["b", "a"], ["z", "a", "c", "z"]) == ["b", "a", "c", "z"]


@pytest.mark.parametrize(
    "wrong", [[[0.5, 0.6]], [[-0.1, 1.1]], [[math.nan, 1.0]], [[math.inf, 0.0]], [[]], 0.5], ids=str
)
def test_what_are_no_probabilities_is_refused(wrong: object) -> None:
    with pytest.raises(ValueError, match="expected"):
        checked_shares(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("true", [[2], [-1], [0, 1], [0.5], [[0]]], ids=str)
def test_what_are_no_class_numbers_is_refused(true: list[object]) -> None:
    with pytest.raises(ValueError, match="expected"):
        log_loss([[0.5, 0.5]], true)


@pytest.mark.parametrize("matrix", [[[1, 2]], [[1.5]], [[-1]], [], [[0, 0], [0, 0]]], ids=str)
def test_what_is_no_confusion_matrix_is_refused(matrix: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="expected"):
        overall_scores(matrix)


def test_predictions_and_truths_are_as_many() -> None:
    with pytest.raises(ValueError, match="as many predictions"):
        confusion_matrix([0, 1], [0], 2)
    assert confusion_matrix([], [], 2).tolist() == [[0, 0], [0, 0]]
    with pytest.raises(ValueError, match="at least one bin"):
        expected_calibration_error([[1, 0]], [0], 0)
