"""The model interface of interval models, wherever their answers come from."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from uqueue_config.learning.feedback import ModelPerformanceData
from uqueue_config.learning.model_manifest import Feature
from uqueue_config.learning.samples import FeatureSummary
from uqueue_config.seeds import seed_from_job_id
from uqueue_worker.learning.interfaces import DatasetType, FilePathType, ModelInterface
from uqueue_worker.learning.metrics import FloatArray, IntArray
from uqueue_worker.learning.models.datasets import open_dataset
from uqueue_worker.learning.models.evaluation import EvaluationOptions
from uqueue_worker.learning.models.explain import explained_by
from uqueue_worker.learning.models.features import Float32Array
from uqueue_worker.learning.models.handle import FeedbackHandle
from uqueue_worker.learning.models.intervals.feedback import Explained, regression_feedback
from uqueue_worker.learning.models.intervals.joining import Joining
from uqueue_worker.learning.models.intervals.place import Chunk, IntervalPlace, PinnedIntervals
from uqueue_worker.learning.models.intervals.regression import RegressionSpec
from uqueue_worker.learning.models.intervals.rows import Rows, feature_spec, read_rows, with_references
from uqueue_worker.learning.models.intervals.scores import Intervals, assess
from uqueue_worker.learning.models.queue.wave import Deadline, QueueOptions
from uqueue_worker.learning.models.reports import feature_summaries, main_sensors
from uqueue_worker.learning.models.sample_table import SampleTable
from uqueue_worker.learning.observability.metrics import timed_feedback

Dataset = DatasetType | FilePathType | Path


def _never() -> bool:
    return False


class IntervalModelInterface(ModelInterface):
    """Evaluates versions of an interval model where `place` has it: `LocalIntervals` or `QueueIntervals`.

    spec              what the model predicts, and the classes that feedback tells it in
    features          the model's columns in their order: feature paths of samples, or features with their constants
    data_roots        folders that data sets given as paths must lie below; none are read without
    queue             how rows become jobs; chunk_rows and max_failed_fraction also hold where the model runs here
    max_missing_rate  share of the samples that may lack a feature, for which its imputation constant stands in then
    seed              of the passes of Monte Carlo dropout

    The passes of a row depend on this seed and on its place in the data set, cut into chunks: with the same data set,
    seed and chunk_rows both places give the same answers, dropout included. Samples in another order have other passes.
    """

    def __init__(
        self,
        place: IntervalPlace,
        spec: RegressionSpec,
        features: Sequence[str | Feature],
        *,
        data_roots: Sequence[str | Path] = (),
        options: EvaluationOptions | None = None,
        queue: QueueOptions | None = None,
        max_missing_rate: float = 0.0,
        seed: int = 0,
    ) -> None:
        self.spec = spec
        self.options = options or EvaluationOptions()
        self.queue = queue or QueueOptions()
        self._place = place
        self._features = feature_spec(features, max_missing_rate)
        self._data_roots = tuple(data_roots)
        self._seed = seed

    def get_model_performance_feedback(
        self, evaluation_dataset: Dataset, model_version_tag: str | None
    ) -> ModelPerformanceData:
        """Return the whole feedback; metrics are over samples with a true value, uncertainties over all.

        Raises EmptyDataset, DatasetNotFound, DatasetFormat, FeatureMismatch, ModelNotFound, ModelVersionNotFound and
        ModelIntegrity; QueueTimeout after the deadline, PartialEvaluation where too many rows have no answer, and
        ActiveLearningError where the model has other targets.
        """
        return self._evaluate(evaluation_dataset, model_version_tag, _never)

    def predict(self, dataset: Dataset, model_version_tag: str | None) -> Intervals:
        """Return the intervals of all rows, in their order. Raises as an evaluation does."""
        deadline = self._deadline()
        pinned = self._place.pin(model_version_tag, deadline)
        table, _ = self._table(dataset)
        joining = self._joined(pinned, table.matrix, deadline)
        return joining.intervals(self.queue.max_failed_fraction)

    def explain(self, samples: Dataset, **options: Any) -> list[FeatureSummary]:
        """Return for each sample what its point rests on, in reference widths: how much of it is due to a feature.

        Options are `model_version_tag` (None is the default) and `top_n`, how many features are named.
        """
        tag, top_n = options.pop("model_version_tag", None), options.pop("top_n", self.options.top_n)
        _refuse(options)
        deadline = self._deadline()
        pinned = self._place.pin(tag, deadline)
        table, truth = self._table(samples)
        joining = self._joined(pinned, table.matrix, deadline)
        found = assess(truth, joining.intervals(self.queue.max_failed_fraction), self.spec)
        said = [self.spec.classes[number] for number in found.said.tolist()]
        explained = self._explained(pinned, table, deadline, np.arange(len(table)), said, top_n)
        return [FeatureSummary.model_validate(one) for one in explained.summaries]

    def list_versions(self) -> list[str]:
        return self._place.list_versions()

    def health(self) -> dict[str, Any]:
        """Return whether the model can be asked: status "ok", or "failing" with the reason."""
        return self._place.health()

    def submit_feedback(self, **request: Any) -> FeedbackHandle[ModelPerformanceData]:
        """Start an evaluation in a thread and return a handle; cancelling it takes effect between chunks.

        The request is what `get_model_performance_feedback` takes; without a version it is the default one.
        """
        dataset, tag = request.pop("evaluation_dataset"), request.pop("model_version_tag", None)
        _refuse(request)
        return FeedbackHandle(lambda is_cancelled: self._evaluate(dataset, tag, is_cancelled))

    def _evaluate(self, dataset: Dataset, tag: str | None, is_cancelled: Callable[[], bool]) -> ModelPerformanceData:
        with timed_feedback(self._place.kind):
            deadline = self._deadline()
            pinned = self._place.pin(tag, deadline)
            table, truth = self._table(dataset)
            joining = self._joined(pinned, table.matrix, deadline, is_cancelled)

            def explain(rows: IntArray, said: Sequence[str]) -> Explained:
                return self._explained(pinned, table, deadline, rows, said, self.options.top_n)

            found = regression_feedback(
                Rows.of_table(table, truth),
                joining.intervals(self.queue.max_failed_fraction),
                self.spec,
                options=self.options,
                explain=explain,
                facts={
                    "dataset_identifier": table.identifier,
                    "feature_spec_fingerprint": table.spec.fingerprint,
                    "missing_rates": table.missing.rates,
                },
                warnings=table.missing.warnings(),
            )
            return found.model_copy(update={"duration_seconds": max(0.0, time.time() - deadline.began_at)})

    def _deadline(self) -> Deadline:
        return Deadline(time.time(), self.queue.deadline_seconds)

    def _table(self, dataset: Dataset) -> tuple[SampleTable, FloatArray]:
        opened = open_dataset(dataset, self._data_roots)
        return read_rows(opened.samples, self._features, self.spec.target, identifier=opened.identifier)

    def _chunks(self, columns: Float32Array, purpose: str) -> Iterator[Chunk]:
        for number, first in enumerate(range(0, len(columns), self.queue.chunk_rows)):
            seed = seed_from_job_id(f"{self._seed}/{purpose}/{number}")
            yield Chunk(columns[first : first + self.queue.chunk_rows], seed)

    def _joined(
        self,
        pinned: PinnedIntervals,
        columns: Float32Array,
        deadline: Deadline,
        is_cancelled: Callable[[], bool] = _never,
        *,
        explaining: bool = False,
    ) -> Joining:
        """Return the answers to columns, of which there is at least one row."""
        joining = Joining(pinned, self.spec)
        chunks = list(self._chunks(columns, "explanation" if explaining else "evaluation"))
        in_flight = self.queue.explaining_in_flight if explaining else self.queue.max_in_flight
        with closing(self._place.answers(pinned, chunks, deadline, in_flight)) as answers:
            for chunk, answer in zip(chunks, answers, strict=True):
                joining.add(answer, len(chunk.columns))
                if is_cancelled():
                    raise CancelledError
        return joining

    def _explained(
        self,
        pinned: PinnedIntervals,
        table: SampleTable,
        deadline: Deadline,
        rows: IntArray,
        said: Sequence[str],
        top_n: int,
    ) -> Explained:
        def predict(columns: Float32Array) -> FloatArray:
            joining = self._joined(pinned, columns, deadline, explaining=True)
            return joining.intervals(0.0).point[:, None] / self.spec.reference_width

        values, spec = table.values[rows], with_references(table.spec, table.values)
        the_only = np.zeros(len(rows), dtype=np.int64)  # one column beside the classes' of a classifier
        importances = explained_by(self.options.explanation, values, spec, the_only, predict)
        raw = self.options.all_raw_values
        summaries = feature_summaries(importances, values, table.spec, said, top_n, all_raw_values=raw)
        return Explained(summaries, main_sensors(importances, table.spec), importances.warning)


def _refuse(options: dict[str, Any]) -> None:
    if options:
        raise TypeError(f"there is no option {', '.join(options)}")
