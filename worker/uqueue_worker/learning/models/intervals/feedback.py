"""Intervals and true values as feedback, for strategies to read like that of a classifier.

The task is "regression", and the classes are those of `RegressionSpec`. What the fields mean then:

    misclassified_samples  rows whose truth lies outside of their interval, by `scores.Assessment.confidence`
    uncertain_samples      by width / reference width
    recall                 of the rows whose truth lies in a class, the share whose interval holds it
    precision              of the rows that say a class (see `Assessment.said`), the same share
    f1_score               2 * held / (rows of the class + rows that say it)
    sensor_specific_metrics  overall_accuracy_for_sensor_data is the coverage

There is no confusion matrix, because an interval can miss a truth of the class that its point lies in; and no score
over classes but `macro_recall`, because wide intervals would win it: `interval_score` tells which model is better.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from uqueue_config.learning.feedback import ModelPerformanceData
from uqueue_worker.learning.errors import EmptyDataset, PartialEvaluation
from uqueue_worker.learning.metrics import FloatArray, IntArray
from uqueue_worker.learning.models.evaluation import EvaluationOptions
from uqueue_worker.learning.models.intervals.regression import RegressionSpec
from uqueue_worker.learning.models.intervals.rows import Rows
from uqueue_worker.learning.models.intervals.scores import (
    NO_CLASS,
    Assessment,
    ClassCounts,
    Intervals,
    assess,
    class_counts,
    overall_scores,
)
from uqueue_worker.learning.models.scores import Outcome
from uqueue_worker.learning.models.selection import uncertain_rows

Fields = dict[str, Any]


@dataclass(frozen=True)
class Explained:
    """Of some rows, in their order: what their points rest on, and the sensor that matters most."""

    summaries: Sequence[Fields]
    sensors: Sequence[str | None]
    warning: str | None = None


#: From row numbers and the classes that the rows say to explanations of them.
Explain = Callable[[IntArray, Sequence[str]], Explained]


def regression_feedback(
    rows: Rows,
    intervals: Intervals,
    spec: RegressionSpec,
    *,
    options: EvaluationOptions | None = None,
    explain: Explain | None = None,
    facts: Mapping[str, Any] | None = None,
    warnings: Sequence[str] = (),
) -> ModelPerformanceData:
    """Return the feedback for rows and the intervals of them; metrics are over rows that have a truth and an answer.

    `explain` is asked once, about the rows that are reported and to be explained. `facts` are fields of the feedback
    about the data set and the model, as they are. Raises EmptyDataset, PartialEvaluation if every row failed, and
    ValueError for other lengths and truths that are infinite.
    """
    options = options or EvaluationOptions()
    if len(rows) == 0:
        raise EmptyDataset(dataset="given")
    if options.uncertainty_score != "total":
        raise ValueError(f"uncertainty_score: intervals have a total only, not {options.uncertainty_score}")
    found = assess(rows.truth, intervals, spec)
    if intervals.failed.all():
        raise PartialEvaluation(failed=len(rows), samples=len(rows), limit=len(rows) - 1)
    uncertain, wrong = _reported(rows, found, spec, options)
    samples = _Samples(rows, intervals, spec, found)
    chosen = np.union1d(uncertain[: options.max_explained], wrong[: options.max_explained]).astype(np.int64)
    told = [*warnings, *intervals.warnings, *samples.explain(chosen, explain), *_warnings(rows, intervals, spec, found)]
    counts = class_counts(found, found.counted, len(spec.classes))
    return ModelPerformanceData.read(
        {
            "model_version_evaluated": intervals.model_version,
            "overall_metrics": _overall(rows, intervals, found, counts),
            "per_class_metrics": _per_class(counts, spec),
            "sensor_specific_metrics": _per_sensor(rows, found, spec),
            "uncertain_samples": [samples.info(row) for row in uncertain.tolist()],
            "misclassified_samples": [samples.info(row) for row in wrong.tolist()],
            "schema_version": "1.0",
            "evaluated_at_utc": datetime.now(UTC),
            "n_samples": len(rows),
            "n_failed": int(intervals.failed.sum()),
            "n_misclassified": int(found.miss.sum()),
            "n_unlabelled": int((found.true == NO_CLASS).sum()),
            "classes": spec.classes,
            "uncertainty_method": intervals.uncertainty_method,
            "task": "regression",
            "regression": spec.model_dump(mode="json"),
            **(facts or {}),
            "warnings": tuple(dict.fromkeys(told)),
        }
    )


def _reported(
    rows: Rows, found: Assessment, spec: RegressionSpec, options: EvaluationOptions
) -> tuple[IntArray, IntArray]:
    """Return the rows of both lists; of equal scores the first id."""
    outcome = Outcome(spec.classes, found.true, found.said, found.counted)
    uncertain = uncertain_rows(
        found.total,
        outcome,
        rows.ids,
        threshold=options.uncertainty_threshold,
        at_most=options.max_uncertain,
        per_class=options.max_per_class,
    )
    wrong = uncertain_rows(  # only misses have a confidence
        found.confidence,
        outcome,
        rows.ids,
        threshold=0.0,
        at_most=options.max_misclassified,
        per_class=options.max_per_class,
    )
    return uncertain, wrong


def _overall(rows: Rows, intervals: Intervals, found: Assessment, counts: ClassCounts) -> dict[str, float]:
    if len(found.counted) == 0:
        return {}
    there = counts.support > 0
    macro_recall = float((counts.held[there] / counts.support[there]).mean())
    return overall_scores(rows.truth, intervals, found.counted) | {"macro_recall": macro_recall}


def _per_class(counts: ClassCounts, spec: RegressionSpec) -> dict[str, Fields]:
    columns = (
        _ratio(counts.held, counts.support),
        _ratio(counts.held, counts.said),
        _ratio(2 * counts.held, counts.support + counts.said),
        counts.support.tolist(),
    )
    names = ("recall", "precision", "f1_score", "support")
    return {name: dict(zip(names, one, strict=True)) for name, *one in zip(spec.classes, *columns, strict=True)}


def _per_sensor(rows: Rows, found: Assessment, spec: RegressionSpec) -> dict[str, Fields]:
    told = {}
    for column, sensor in enumerate(rows.sensors):
        there = found.counted[rows.present[found.counted, column]]
        if len(there) == 0:
            continue
        scores = _per_class(class_counts(found, there, len(spec.classes)), spec)
        told[sensor] = {
            "overall_accuracy_for_sensor_data": float((~found.miss[there]).mean()),
            "n_samples": len(there),
            "per_class_metrics": {
                name: {**one, "sensor_id": sensor} for name, one in scores.items() if one["support"] > 0
            },
        }
    return told


def _warnings(rows: Rows, intervals: Intervals, spec: RegressionSpec, found: Assessment) -> list[str]:
    told = []
    counts = class_counts(found, found.counted, len(spec.classes))
    empty = [name for name, n, m in zip(spec.classes, counts.support, counts.said, strict=True) if n == 0 or m == 0]
    if len(found.counted) == 0:
        told.append(f"no sample has a true value at {spec.target}: there are uncertainties and no metrics")
    elif empty:
        told.append(f"classes that no truth lies in, or that no row says, have scores of 0: {', '.join(empty)}"[:500])
    if intervals.nominal_coverage is None:
        told.append("the model does not say its nominal coverage: there are no interval score and no pinball loss")
    if intervals.failed.any():
        told.append(f"{int(intervals.failed.sum())} of {len(rows)} samples could not be evaluated")
    repeated = len(rows) - len(set(rows.ids))
    if repeated:
        told.append(f"{repeated} samples have the id of another one; each row is counted")
    return told


class _Samples:
    """Makes the entries of the two lists."""

    def __init__(self, rows: Rows, intervals: Intervals, spec: RegressionSpec, found: Assessment) -> None:
        self._rows = rows
        self._intervals = intervals
        self._classes = spec.classes
        self._found = found
        self._explained: dict[int, tuple[Fields, str | None]] = {}

    def explain(self, rows: IntArray, explain: Explain | None) -> list[str]:
        """Have rows explained; returns what is to be said of it."""
        if explain is None or len(rows) == 0:
            return []
        said = [self._classes[number] for number in self._found.said[rows].tolist()]
        explained = explain(rows, said)
        sensors = explained.sensors or [None] * len(rows)
        self._explained = dict(zip(rows.tolist(), zip(explained.summaries, sensors, strict=True), strict=True))
        return [explained.warning] if explained.warning else []

    def info(self, row: int) -> Fields:
        rows, intervals, found = self._rows, self._intervals, self._found
        summary, sensor = self._explained.get(row, (None, None))
        return {
            "raw_sample_id": rows.ids[row],
            "sensor_id": sensor,
            "uncertainty_score": _at(found.total, row),
            "epistemic_uncertainty_score": _at(found.epistemic, row),
            "aleatoric_uncertainty_score": _at(found.aleatoric, row),
            "disagreement_score": None,
            "predicted_label_distribution": None,
            "true_label": self._label(found.true, row),
            "predicted_label": self._label(found.said, row),
            "confidence_of_prediction": _at(found.confidence, row),
            "original_scenario_id": rows.scenario_ids[row],
            "scenario_timestep_seconds": rows.seconds[row],
            "ambiguity_score": _at(found.ambiguity, row),
            "sample_features_summary": summary,
            "true_value": _at(rows.truth, row),
            "predicted_value": _at(intervals.point, row),
            "interval": [float(intervals.lower[row]), float(intervals.upper[row])],
        }

    def _label(self, numbers: IntArray, row: int) -> str | None:
        return None if numbers[row] == NO_CLASS else self._classes[int(numbers[row])]


def _ratio(above: IntArray, below: IntArray) -> list[float]:
    found = np.divide(above, below, out=np.zeros(len(above)), where=below > 0)
    return [float(share) for share in found]


def _at(values: FloatArray | None, row: int) -> float | None:
    return None if values is None or np.isnan(values[row]) else float(values[row])
