"""From predictions to feedback: the one way for all model interfaces, so that they agree."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from uqueue_config.learning.feedback import ModelPerformanceData
from uqueue_worker.learning.errors import PartialEvaluation
from uqueue_worker.learning.metrics import FloatArray, IntArray
from uqueue_worker.learning.models.explain import (
    Explanation,
    Importances,
    PredictProbabilities,
    check_explanation,
    explained_by,
)
from uqueue_worker.learning.models.predictions import Predictions
from uqueue_worker.learning.models.reports import feature_summaries, main_sensors
from uqueue_worker.learning.models.sample_table import SampleTable
from uqueue_worker.learning.models.scores import UNLABELLED, metric_warnings, metrics_of, outcome_of, sensor_metrics
from uqueue_worker.learning.models.selection import ScoreName, misclassified_rows, uncertain_rows, uncertainty_scores
from uqueue_worker.learning.uncertainty import ambiguity

Fields = dict[str, Any]
#: From features as the samples have them (rows, F) and the numbers of classes (rows,) to importances.
Explainer = Callable[[FloatArray, IntArray], Importances]


@dataclass(frozen=True)
class EvaluationOptions:
    """What feedback reports.

    uncertainty_threshold  least score of an uncertain sample; 0 keeps all
    max_uncertain          None lists all of them; so does max_misclassified
    max_per_class          of each class, in each list; None for no such limit
    uncertainty_score      what the score is: total uncertainty, least confidence, or a small margin
    max_explained          so many of each list, the first ones, are explained; None explains all, 0 none
    top_n                  features that an explanation names
    all_raw_values         whether explanations carry the values of all features
    explanation            by occlusion, SHAP (extra `learning-shap`) or permutation (`models.explain`)

    Raises ValueError for an explanation that there is not, ActiveLearningError where its library is not installed.
    """

    uncertainty_threshold: float = 0.0
    max_uncertain: int | None = 50
    max_misclassified: int | None = 200
    max_per_class: int | None = None
    uncertainty_score: ScoreName = "total"
    max_explained: int | None = None
    top_n: int = 5
    all_raw_values: bool = False
    explanation: Explanation = "OCCLUSION"

    def __post_init__(self) -> None:
        check_explanation(self.explanation)


@dataclass(frozen=True, eq=False)
class Reported:
    """Row numbers of the two lists, and of those among them that are to be explained, each once."""

    uncertain: IntArray
    misclassified: IntArray
    explained: IntArray


def build_feedback(
    table: SampleTable,
    predictions: Predictions,
    *,
    predict_probabilities: PredictProbabilities | None = None,
    explainer: Explainer | None = None,
    options: EvaluationOptions = EvaluationOptions(),
    conformal_q: float | None = None,
    duration_seconds: float | None = None,
    warnings: Sequence[str] = (),
) -> ModelPerformanceData:
    """Return the feedback for a table and the predictions of its rows.

    Reported samples are explained by `explainer`, or else as the options say through `predict_probabilities` (columns
    of the model in, probabilities out); with neither, they are not explained. Raises PartialEvaluation if every row
    failed.
    """
    reported = select(table, predictions, options)
    importances = _explained(table, predictions, reported.explained, explainer, predict_probabilities, options)
    return feedback_of(
        table,
        predictions,
        reported,
        importances,
        options=options,
        conformal_q=conformal_q,
        duration_seconds=duration_seconds,
        warnings=warnings,
    )


def select(table: SampleTable, predictions: Predictions, options: EvaluationOptions) -> Reported:
    """Return which rows are reported, so that an interface may explain them in a second wave of its own.

    Raises PartialEvaluation if every row failed, and ValueError where table and predictions differ in length.
    """
    if len(table) != len(predictions):
        raise ValueError(f"expected predictions of {len(table)} rows, got {len(predictions)}")
    if len(predictions.failed) == len(table):
        raise PartialEvaluation(failed=len(table), samples=len(table), limit=len(table) - 1)
    outcome = outcome_of(table.labels, predictions)
    scores = uncertainty_scores(predictions, options.uncertainty_score)
    uncertain = uncertain_rows(
        scores,
        outcome,
        table.ids,
        threshold=options.uncertainty_threshold,
        at_most=options.max_uncertain,
        per_class=options.max_per_class,
    )
    wrong = misclassified_rows(
        predictions.confidence, outcome, table.ids, at_most=options.max_misclassified, per_class=options.max_per_class
    )
    explained = np.union1d(uncertain[: options.max_explained], wrong[: options.max_explained])
    return Reported(uncertain, wrong, explained.astype(np.int64))


def feedback_of(
    table: SampleTable,
    predictions: Predictions,
    reported: Reported,
    importances: Importances | None,
    *,
    options: EvaluationOptions = EvaluationOptions(),
    conformal_q: float | None = None,
    duration_seconds: float | None = None,
    warnings: Sequence[str] = (),
) -> ModelPerformanceData:
    """Return the feedback with these rows reported; `importances` are those of `reported.explained`, None for none.

    Raises ValueError for importances by another method than the options ask for.
    """
    _check_method(importances, options)
    outcome = outcome_of(table.labels, predictions)
    told = [*table.missing.warnings(), *metric_warnings(outcome, predictions), *_data_warnings(table, predictions)]
    if importances is not None and importances.warning:
        told.append(importances.warning)
    samples = _Samples(table, predictions, outcome.classes, outcome.true, options, conformal_q)
    samples.explain(reported.explained, importances)
    fields: Fields = {
        "model_version_evaluated": predictions.model_version,
        "dataset_identifier": table.identifier,
        **metrics_of(outcome, predictions),
        "sensor_specific_metrics": sensor_metrics(outcome, table),
        "uncertain_samples": [samples.info(row) for row in reported.uncertain.tolist()],
        "misclassified_samples": [samples.info(row) for row in reported.misclassified.tolist()],
        "schema_version": "1.0",
        "evaluated_at_utc": datetime.now(UTC),
        "n_samples": len(table),
        "n_failed": len(predictions.failed),
        "n_misclassified": len(outcome.wrong),
        "n_unlabelled": sum(label is None for label in table.labels),
        "n_unknown_labels": int((outcome.true >= len(predictions.classes)).sum()),
        "classes": outcome.classes,
        "uncertainty_method": predictions.uncertainty_method,
        "feature_spec_fingerprint": table.spec.fingerprint,
        "missing_rates": table.missing.rates,
        "warnings": tuple(dict.fromkeys([*warnings, *told])),
        "task": "classification",
    }
    if duration_seconds is not None:
        fields["duration_seconds"] = duration_seconds
    return ModelPerformanceData.read(fields)


def _explained(
    table: SampleTable,
    predictions: Predictions,
    rows: IntArray,
    explainer: Explainer | None,
    predict: PredictProbabilities | None,
    options: EvaluationOptions,
) -> Importances | None:
    if len(rows) == 0 or (explainer is None and predict is None):
        return None
    values, classes = table.values[rows], predictions.predicted[rows]
    if explainer is not None:
        return explainer(values, classes)
    return None if predict is None else explained_by(options.explanation, values, table.spec, classes, predict)


def _check_method(found: Importances | None, options: EvaluationOptions) -> None:
    """Raise ValueError where an interface that knows occlusion only was asked for something else."""
    if found is not None and found.method == "OCCLUSION" != options.explanation:
        raise ValueError(f"explained by {found.method}, and the options ask for {options.explanation}")


def _data_warnings(table: SampleTable, predictions: Predictions) -> list[str]:
    told = []
    if predictions.failed:
        told.append(f"{len(predictions.failed)} of {len(table)} samples could not be evaluated")
    if predictions.probabilities is None:
        told.append("the model gives labels only: there are no uncertainties")
    repeated = len(table) - len(set(table.ids))
    if repeated:
        told.append(f"{repeated} samples have the id of another one; each row is counted")
    return told


class _Samples:
    """Makes the entries of the two lists."""

    def __init__(
        self,
        table: SampleTable,
        predictions: Predictions,
        classes: Sequence[str],
        true: IntArray,
        options: EvaluationOptions,
        conformal_q: float | None,
    ) -> None:
        self._table = table
        self._predictions = predictions
        self._classes = classes
        self._true = true
        self._options = options
        self._scores = uncertainty_scores(predictions, options.uncertainty_score)
        self._confidence = predictions.confidence
        self._ambiguity = _ambiguity(predictions, conformal_q)
        self._summaries: dict[int, Fields] = {}
        self._sensors: dict[int, str | None] = {}

    def explain(self, rows: IntArray, importances: Importances | None) -> None:
        if importances is None or len(rows) == 0:
            return
        predicted = [self._predictions.classes[number] for number in self._predictions.predicted[rows].tolist()]
        values, options = self._table.values[rows], self._options
        told = feature_summaries(
            importances, values, self._table.spec, predicted, options.top_n, all_raw_values=options.all_raw_values
        )
        self._summaries = dict(zip(rows.tolist(), told, strict=True))
        self._sensors = dict(zip(rows.tolist(), main_sensors(importances, self._table.spec), strict=False))

    def info(self, row: int) -> Fields:
        table, said = self._table, self._predictions
        true = int(self._true[row])
        return {
            "raw_sample_id": table.ids[row],
            "sensor_id": self._sensors.get(row),
            "uncertainty_score": _at(self._scores, row),
            "epistemic_uncertainty_score": _at(said.epistemic, row),
            "aleatoric_uncertainty_score": _at(said.aleatoric, row),
            "disagreement_score": _at(said.disagreement, row),
            "predicted_label_distribution": self._distribution(row),
            "true_label": None if true == UNLABELLED else self._classes[true],
            "predicted_label": said.classes[int(said.predicted[row])],
            "confidence_of_prediction": _at(self._confidence, row),
            "original_scenario_id": table.scenario_ids[row],
            "scenario_timestep_seconds": table.seconds[row],
            "ambiguity_score": _at(self._ambiguity, row),
            "sample_features_summary": self._summaries.get(row),
        }

    def _distribution(self, row: int) -> dict[str, float] | None:
        if self._predictions.probabilities is None:
            return None
        return dict(zip(self._predictions.classes, self._predictions.probabilities[row].tolist(), strict=True))


def _ambiguity(predictions: Predictions, conformal_q: float | None) -> FloatArray | None:
    if conformal_q is None or predictions.probabilities is None:
        return None
    sizes = (1 - predictions.probabilities <= conformal_q).sum(axis=1)  # NaN is in no set
    return ambiguity(sizes, len(predictions.classes))


def _at(values: FloatArray | None, row: int) -> float | None:
    return None if values is None else float(values[row])
