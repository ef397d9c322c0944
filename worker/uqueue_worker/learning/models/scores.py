"""The metrics of an evaluation: over everything, per class and per sensor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from uqueue_worker.learning.metrics import (
    FloatArray,
    IntArray,
    brier_score,
    class_order,
    class_scores,
    confusion_matrix,
    expected_calibration_error,
    log_loss,
    overall_scores,
)
from uqueue_worker.learning.models.predictions import FAILED, Predictions
from uqueue_worker.learning.models.sample_table import SampleTable

UNLABELLED = -1
Fields = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Outcome:
    """Rows beside each other.

    classes  the model's, then labels that it does not know
    true     int64 (N,): number of the true class, -1 where there is no label
    counted  the rows that metrics are about: labelled and answered, as row numbers
    """

    classes: tuple[str, ...]
    true: IntArray
    predicted: IntArray
    counted: IntArray

    @property
    def wrong(self) -> IntArray:
        """The rows that are labelled, answered and wrong."""
        rows: IntArray = self.counted[self.true[self.counted] != self.predicted[self.counted]]
        return rows


def outcome_of(labels: Sequence[str | None], predictions: Predictions) -> Outcome:
    classes = class_order(list(predictions.classes), [label for label in labels if label is not None])
    numbers = {name: number for number, name in enumerate(classes)}
    true = np.array([UNLABELLED if label is None else numbers[label] for label in labels], dtype=np.int64)
    counted = np.flatnonzero((true != UNLABELLED) & (predictions.predicted != FAILED))
    return Outcome(tuple(classes), true, predictions.predicted, counted)


def metrics_of(outcome: Outcome, predictions: Predictions) -> Fields:
    """Return overall_metrics, per_class_metrics and confusion_matrix; the first empty where no row is labelled."""
    n_classes = len(outcome.classes)
    true, predicted = outcome.true[outcome.counted], outcome.predicted[outcome.counted]
    matrix = confusion_matrix(true, predicted, n_classes)
    found: Fields = {
        "overall_metrics": {},
        "per_class_metrics": per_class_fields(matrix, outcome.classes),
        "confusion_matrix": matrix.tolist(),
    }
    if len(true):
        found["overall_metrics"] = vars(overall_scores(matrix)) | _calibration(outcome, predictions)
    return found


def sensor_metrics(outcome: Outcome, table: SampleTable) -> dict[str, Fields]:
    """Return the metrics of each sensor over the counted rows that it has a reading in; no sensor without any."""
    found = {}
    for column, sensor in enumerate(table.sensors):
        rows = outcome.counted[table.present[outcome.counted, column]]
        if len(rows) == 0:
            continue
        matrix = confusion_matrix(outcome.true[rows], outcome.predicted[rows], len(outcome.classes))
        scores = per_class_fields(matrix, outcome.classes)
        found[sensor] = {
            "overall_accuracy_for_sensor_data": float(np.trace(matrix) / len(rows)),
            "n_samples": len(rows),
            "per_class_metrics": {
                name: {**one, "sensor_id": sensor} for name, one in scores.items() if one["support"] > 0
            },
        }
    return found


def metric_warnings(outcome: Outcome, predictions: Predictions) -> list[str]:
    matrix = confusion_matrix(outcome.true[outcome.counted], outcome.predicted[outcome.counted], len(outcome.classes))
    return matrix_warnings(matrix, outcome.classes, len(predictions.classes))


def matrix_warnings(matrix: IntArray, classes: Sequence[str], n_known: int) -> list[str]:
    """Return what is to be said of a confusion matrix; the model knows the first so many classes."""
    told = []
    if not matrix.any():
        return ["no sample is labelled: there are uncertainties and no metrics"]
    undefined = class_scores(matrix).undefined
    if undefined.any():
        named = ", ".join(name for name, bad in zip(classes, undefined, strict=True) if bad)
        told.append(f"classes without a true or without a predicted sample have scores of 0: {named}"[:500])
    unknown = classes[n_known:]
    if unknown:
        count = int(matrix[n_known:].sum())
        told.append(f"{count} samples have labels that the model does not know: {', '.join(unknown)}"[:500])
    return told


def per_class_fields(matrix: IntArray, classes: Sequence[str]) -> dict[str, Fields]:
    """Return the scores and the support of each class."""
    scores = class_scores(matrix)
    columns = (scores.recall, scores.precision, scores.f1_score, scores.support)
    return {
        name: {"recall": float(recall), "precision": float(precision), "f1_score": float(f1), "support": int(support)}
        for name, recall, precision, f1, support in zip(classes, *columns, strict=True)
    }


def _calibration(outcome: Outcome, predictions: Predictions) -> dict[str, float]:
    """Return what takes probabilities; labels that the model does not know have a probability of 0."""
    if predictions.probabilities is None:
        return {}
    shares: FloatArray = predictions.probabilities[outcome.counted]
    unknown = len(outcome.classes) - len(predictions.classes)
    shares = np.hstack([shares, np.zeros((len(shares), unknown))])
    true = outcome.true[outcome.counted]
    return {
        "log_loss": log_loss(shares, true),
        "brier": brier_score(shares, true),
        "ece": expected_calibration_error(shares, true),
    }
