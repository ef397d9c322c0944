"""Metrics that are added up chunk by chunk, so that nothing of the samples has to be kept."""

from __future__ import annotations

from array import array
from typing import Any

import numpy as np

from uqueue_worker.learning.metrics import (
    FloatArray,
    IntArray,
    brier_score,
    calibration_gaps,
    class_order,
    confusion_matrix,
    log_loss,
    overall_scores,
)
from uqueue_worker.learning.models.features import FeatureSpec, MissingReport, missing_report
from uqueue_worker.learning.models.predictions import Predictions
from uqueue_worker.learning.models.sample_table import SampleTable
from uqueue_worker.learning.models.scores import Outcome, matrix_warnings, per_class_fields

Fields = dict[str, Any]


class Totals:
    """Sums over the chunks given to `add`; everything it answers is as if they had been one table.

    Of each sample 8 bytes stay, a hash of its id, so that repeated ones can be counted.
    """

    def __init__(self, classes: tuple[str, ...], spec: FeatureSpec) -> None:
        self._model_classes = list(classes)
        self._found = list(classes)
        self._spec = spec
        self._matrix: IntArray = np.zeros((len(classes), len(classes)), np.int64)
        self._of_sensor: dict[str, IntArray] = {}
        self._missing: IntArray = np.zeros(len(spec.features), np.int64)
        self._ids = array("q")
        self._sums = np.zeros(2)
        self._gaps: FloatArray = np.zeros(0)
        self.samples = self.failed = self._unlabelled = self._unknown = 0

    def add(self, table: SampleTable, said: Predictions, outcome: Outcome) -> None:
        self.samples += len(table)
        self.failed += len(said.failed)
        self._unlabelled += table.labels.count(None)
        self._unknown += int((outcome.true >= len(said.classes)).sum())
        self._missing += np.isnan(table.values).sum(axis=0)
        self._ids.frombytes(np.fromiter(map(hash, table.ids), np.int64, len(table)).tobytes())
        rows = outcome.counted
        if len(rows) == 0:
            self._grow(outcome)
            return
        numbers = self._grow(outcome)
        true, predicted = numbers[outcome.true[rows]], numbers[outcome.predicted[rows]]
        whole = confusion_matrix(true, predicted, len(self._found))
        self._matrix += whole
        for column, sensor in enumerate(table.sensors):
            there = table.present[rows, column]
            if there.any():
                matrix = whole if there.all() else confusion_matrix(true[there], predicted[there], len(self._found))
                self._of_sensor[sensor] = _widened(self._of_sensor.get(sensor), len(self._found)) + matrix
        self._add_calibration(said, outcome)

    @property
    def classes(self) -> tuple[str, ...]:
        """The model's classes, then the labels that it does not know."""
        return tuple(class_order(self._model_classes, self._found))

    def missing(self) -> MissingReport:
        """Return which features are missing how often. Raises FeatureMismatch where it is too often."""
        return missing_report(self._missing, self.samples, self._spec)

    def fields(self) -> Fields:
        """Return the fields of feedback that are about all samples, by their names there."""
        classes, matrix = self.classes, self._ordered(self._matrix)
        overall: Fields = {}
        if counted := int(matrix.sum()):
            overall = vars(overall_scores(matrix)) | self._calibration(counted)
        return {
            "overall_metrics": overall,
            "per_class_metrics": per_class_fields(matrix, classes),
            "confusion_matrix": matrix.tolist(),
            "sensor_specific_metrics": {sensor: self._sensor(sensor) for sensor in sorted(self._of_sensor)},
            "n_samples": self.samples,
            "n_failed": self.failed,
            "n_misclassified": int(matrix.sum() - np.trace(matrix)),
            "n_unlabelled": self._unlabelled,
            "n_unknown_labels": self._unknown,
            "classes": classes,
        }

    def warnings(self) -> list[str]:
        """Return what is to be said of the metrics, and of the data."""
        told = matrix_warnings(self._ordered(self._matrix), self.classes, len(self._model_classes))
        if self.failed:
            told.append(f"{self.failed} of {self.samples} samples could not be evaluated")
        repeated = self.samples - len(np.unique(np.asarray(self._ids)))
        if repeated:
            told.append(f"{repeated} samples have the id of another one; each row is counted")
        return told

    def _grow(self, outcome: Outcome) -> IntArray:
        """Take up classes that were not seen before; return the number here of each of the outcome's."""
        for name in outcome.classes[len(self._model_classes) :]:
            if name not in self._found:
                self._found.append(name)
        self._matrix = _widened(self._matrix, len(self._found))
        return np.array([self._found.index(name) for name in outcome.classes], np.int64)

    def _add_calibration(self, said: Predictions, outcome: Outcome) -> None:
        if said.probabilities is None:
            return
        rows = outcome.counted
        unknown = len(outcome.classes) - len(said.classes)
        shares = np.hstack([said.probabilities[rows], np.zeros((len(rows), unknown))])
        true = outcome.true[rows]
        self._sums += len(rows) * np.array([log_loss(shares, true), brier_score(shares, true)])
        gaps = calibration_gaps(shares, true)
        self._gaps = gaps if len(self._gaps) == 0 else self._gaps + gaps

    def _calibration(self, counted: int) -> dict[str, float]:
        loss, brier = (self._sums / counted).tolist()
        return {"log_loss": loss, "brier": brier, "ece": float(np.abs(self._gaps).sum() / counted)}

    def _sensor(self, sensor: str) -> Fields:
        matrix = self._ordered(_widened(self._of_sensor[sensor], len(self._found)))
        scores = per_class_fields(matrix, self.classes)
        return {
            "overall_accuracy_for_sensor_data": float(np.trace(matrix) / matrix.sum()),
            "n_samples": int(matrix.sum()),
            "per_class_metrics": {
                name: {**one, "sensor_id": sensor} for name, one in scores.items() if one["support"] > 0
            },
        }

    def _ordered(self, matrix: IntArray) -> IntArray:
        order = [self._found.index(name) for name in self.classes]
        return matrix[np.ix_(order, order)]


def _widened(matrix: IntArray | None, size: int) -> IntArray:
    """Return a confusion matrix with rows and columns of zeros for classes that came later."""
    wide: IntArray = np.zeros((size, size), np.int64)
    if matrix is not None:
        wide[: len(matrix), : len(matrix)] = matrix
    return wide
