"""Answers of chunks as feedback: metrics added up, the samples to report kept, nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from uqueue_config.classification import Classification
from uqueue_config.errors import UqueueError
from uqueue_config.learning.feedback import ModelPerformanceData
from uqueue_worker.learning.errors import EmptyDataset, PartialEvaluation
from uqueue_worker.learning.models.evaluation import EvaluationOptions, Reported, feedback_of
from uqueue_worker.learning.models.explain import Importances, PredictProbabilities, occlusion
from uqueue_worker.learning.models.features import FeatureSpec, MissingReport
from uqueue_worker.learning.models.predictions import Predictions
from uqueue_worker.learning.models.queue.chunks import no_predictions, predictions_of
from uqueue_worker.learning.models.queue.gathered import ROWS, Gathered
from uqueue_worker.learning.models.queue.kept import Kept
from uqueue_worker.learning.models.queue.pinned import PinnedModel
from uqueue_worker.learning.models.queue.totals import Fields, Totals
from uqueue_worker.learning.models.sample_table import SampleTable
from uqueue_worker.learning.models.scores import outcome_of

_TOLD_ERRORS = 3


@dataclass(frozen=True, eq=False)
class Merged:
    """All chunks together: the fields that are about all samples, and the samples to report."""

    fields: Fields
    warnings: Sequence[str]
    identifier: str
    missing: MissingReport
    reported: tuple[SampleTable, Predictions, Reported] | None


class Merging:
    """Takes chunks in their order."""

    def __init__(self, model: PinnedModel, spec: FeatureSpec, options: EvaluationOptions) -> None:
        self._model = model
        self._spec = spec
        self._totals = Totals(model.manifest.classes, spec)
        self._kept = Kept(options)
        self._gathered = Gathered()
        self._errors: dict[str, int] = {}

    @property
    def samples(self) -> int:
        return self._totals.samples + self._gathered.rows

    @property
    def failed(self) -> int:
        return self._totals.failed

    def add(self, table: SampleTable, answer: Classification | UqueueError) -> None:
        if isinstance(answer, UqueueError):
            self._add_gathered()
            self._errors[answer.code] = self._errors.get(answer.code, 0) + 1
            self._add(table, no_predictions(self._model.manifest, len(table)))
            return
        if not self._gathered.fits(table, answer):
            self._add_gathered()
        self._gathered.add(table, answer)
        if self._gathered.rows >= ROWS:
            self._add_gathered()

    def _add_gathered(self) -> None:
        if self._gathered.rows:
            table, answer = self._gathered.take()
            self._add(table, predictions_of(answer, self._model.manifest))

    def _add(self, table: SampleTable, said: Predictions) -> None:
        outcome = outcome_of(table.labels, said)
        self._totals.add(table, said, outcome)
        self._kept.add(table, said, outcome)

    def merged(self, identifier: str, max_failed_fraction: float) -> Merged:
        """Return everything together. Raises EmptyDataset, FeatureMismatch, and PartialEvaluation where more samples
        than that share are without an answer."""
        self._add_gathered()
        totals = self._totals
        if totals.samples == 0:
            raise EmptyDataset(dataset=identifier)
        allowed = int(max_failed_fraction * totals.samples)
        if totals.failed > allowed or totals.failed == totals.samples:
            raise PartialEvaluation(failed=totals.failed, samples=totals.samples, limit=allowed)
        missing = totals.missing()
        warnings = [*missing.warnings(), *totals.warnings()]
        if self._errors:
            told = ", ".join(f"{count} with {code}" for code, count in list(self._errors.items())[:_TOLD_ERRORS])
            warnings.append(f"{sum(self._errors.values())} chunks failed in the queue: {told}")
        reported = self._kept.table(self._spec, identifier, missing)
        return Merged(totals.fields(), warnings, identifier, missing, reported)


def importances_of(merged: Merged, spec: FeatureSpec, predict: PredictProbabilities) -> Importances | None:
    """Return what the predictions of the reported samples rest on, by occlusion; None where none is to be explained."""
    if merged.reported is None:
        return None
    table, said, reported = merged.reported
    if len(reported.explained) == 0:
        return None
    return occlusion(table.values[reported.explained], spec, said.predicted[reported.explained], predict)


def feedback(
    merged: Merged,
    model: PinnedModel,
    spec: FeatureSpec,
    options: EvaluationOptions,
    importances: Importances | None,
    duration_seconds: float,
) -> ModelPerformanceData:
    """Return the feedback: entries as every interface makes them, and the metrics of all samples."""
    manifest = model.manifest
    entries: Fields = {"uncertain_samples": [], "misclassified_samples": []}
    if merged.reported is not None:
        table, said, reported = merged.reported
        conformal_q = manifest.uncertainty.conformal_q
        part = feedback_of(table, said, reported, importances, options=options, conformal_q=conformal_q)
        entries = part.to_message()
    told = [*merged.warnings, *([importances.warning] if importances and importances.warning else [])]
    fields = entries | merged.fields
    fields |= {
        "model_version_evaluated": manifest.reference,
        "dataset_identifier": merged.identifier,
        "schema_version": "1.0",
        "uncertainty_method": manifest.uncertainty.text,
        "feature_spec_fingerprint": spec.fingerprint,
        "missing_rates": merged.missing.rates,
        "warnings": tuple(dict.fromkeys(told)),
        "task": "classification",
        "duration_seconds": duration_seconds,
    }
    return ModelPerformanceData.read(fields)
