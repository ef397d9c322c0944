"""The queue-backed model interface: a data set is evaluated by the workers that serve the model."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from uqueue_config.errors import UqueueError
from uqueue_config.learning.feedback import ModelPerformanceData
from uqueue_config.learning.samples import FeatureSummary
from uqueue_config.settings import Settings
from uqueue_worker.learning.errors import PartialEvaluation
from uqueue_worker.learning.interfaces import DatasetType, FilePathType, ModelInterface
from uqueue_worker.learning.metrics import FloatArray
from uqueue_worker.learning.models.datasets import open_dataset
from uqueue_worker.learning.models.evaluation import EvaluationOptions
from uqueue_worker.learning.models.explain import occlusion
from uqueue_worker.learning.models.features import MAX_MISSING_RATE, FeatureSpec, Float32Array
from uqueue_worker.learning.models.predictions import Predictions
from uqueue_worker.learning.models.queue.chunks import Chunks, chunks_of, no_predictions, predictions_of
from uqueue_worker.learning.models.queue.columns import ColumnsFolder
from uqueue_worker.learning.models.queue.connection import QueueClient, open_client
from uqueue_worker.learning.models.queue.handle import QueueFeedbackHandle, Request
from uqueue_worker.learning.models.queue.merge import Merging, feedback, importances_of
from uqueue_worker.learning.models.queue.pinned import PinnedModel
from uqueue_worker.learning.models.queue.wave import Deadline, Progress, QueueOptions, Wave
from uqueue_worker.learning.models.reports import feature_summaries
from uqueue_worker.learning.models.sample_table import SampleTable, fields_wanted, read_table
from uqueue_worker.learning.models.versions import ModelFolder
from uqueue_worker.learning.observability.metrics import timed_feedback

Dataset = DatasetType | FilePathType | Path


def _say_nothing(progress: Progress) -> None:
    pass


class QueueBackedModelInterface(ModelInterface):
    """Evaluates versions of the classifier `name` in `root`, which workers serve from the same folder.

    client           of the service; by default one that the settings or the environment describe, made on first use
    default_version  the version or alias that None stands for; by default the alias production, else latest
    data_roots       folders that data sets given as paths must lie below; none are read without
    columns_folder   where the columns of files are kept for the next evaluation of the same file; nowhere unless given
    on_progress      is told after every chunk how far an evaluation is

    Jobs ask for one version by its content, wherever aliases move meanwhile, and have idempotency keys: what was
    evaluated before is not computed again. Files are read chunk by chunk; as much of them is in memory as is in flight.
    """

    def __init__(
        self,
        *,
        root: str | Path,
        name: str,
        client: QueueClient | None = None,
        settings: Settings | None = None,
        default_version: str | None = None,
        data_roots: Sequence[str | Path] = (),
        columns_folder: str | Path | None = None,
        options: EvaluationOptions | None = None,
        queue: QueueOptions | None = None,
        label: str | None = None,
        max_missing_rate: float = MAX_MISSING_RATE,
        on_progress: Callable[[Progress], None] = _say_nothing,
    ) -> None:
        self.options = options or EvaluationOptions()
        if self.options.explanation != "OCCLUSION":
            raise ValueError(f"explanation: through the queue it is OCCLUSION, got {self.options.explanation!r}")
        self.queue = queue or QueueOptions()
        self.on_progress = on_progress
        self._root = Path(root)
        self._name = name
        self._client = client
        self._settings = settings
        self._default_version = default_version
        self._data_roots = tuple(data_roots)
        self._columns = None if columns_folder is None else ColumnsFolder(columns_folder)
        self._label = label
        self._max_missing_rate = max_missing_rate

    @property
    def client(self) -> QueueClient:
        if self._client is None:
            self._client = open_client(self._settings)
        return self._client

    @timed_feedback("queue")
    def get_model_performance_feedback(
        self, evaluation_dataset: Dataset, model_version_tag: str | None
    ) -> ModelPerformanceData:
        """Return the whole feedback; metrics are over labelled samples, uncertainties over all.

        Raises EmptyDataset, DatasetNotFound, DatasetFormat, FeatureMismatch, ModelNotFound, ModelVersionNotFound and
        ModelIntegrity; QueueTimeout after the deadline, with all open jobs cancelled; PartialEvaluation where too many
        chunks failed for good.
        """
        deadline = Deadline(time.time(), self.queue.deadline_seconds)
        model = self.pinned(model_version_tag)
        chunks = self.chunks(evaluation_dataset, model)
        merging = Merging(model, chunks.spec, self.options)
        wave: Wave[SampleTable] = Wave(self.client, model, deadline, self.queue.max_in_flight)
        with closing(wave.answers((table, table.matrix) for table in chunks.tables)) as answers:
            for table, answer in answers:
                merging.add(table, answer)
                self.on_progress(Progress(merging.samples, merging.failed, chunks.total, wave.in_flight))
        merged = merging.merged(chunks.identifier, self.queue.max_failed_fraction)

        def predict(columns: Float32Array) -> FloatArray:
            self.on_progress(Progress(merging.samples, merging.failed, merging.samples, 0, explaining=True))
            return self._probabilities(columns, model, deadline, self.queue.explaining_in_flight)

        importances = importances_of(merged, chunks.spec, predict)
        return feedback(
            merged, model, chunks.spec, self.options, importances, max(0.0, time.time() - deadline.began_at)
        )

    def predict(self, dataset: Dataset, model_version_tag: str | None) -> Predictions:
        """Return the predictions of all rows, in their order. Raises as an evaluation does."""
        deadline = Deadline(time.time(), self.queue.deadline_seconds)
        model = self.pinned(model_version_tag)
        wave: Wave[SampleTable] = Wave(self.client, model, deadline, self.queue.max_in_flight)
        parts, failed = [], 0
        tables = self.chunks(dataset, model).tables
        with closing(wave.answers((table, table.matrix) for table in tables)) as answers:
            for table, answer in answers:
                if isinstance(answer, UqueueError):
                    failed += len(table)
                    parts.append(no_predictions(model.manifest, len(table)))
                else:
                    parts.append(predictions_of(answer, model.manifest))
        found = Predictions.joined(parts or [no_predictions(model.manifest, 0)])
        allowed = int(self.queue.max_failed_fraction * len(found))
        if failed > allowed:
            raise PartialEvaluation(failed=failed, samples=len(found), limit=allowed)
        return found

    def explain(self, samples: Dataset, **options: Any) -> list[FeatureSummary]:
        """Return for each sample which features its predicted class rests on.

        Options are `model_version_tag` (None is the default) and `top_n`, how many features are named.
        """
        tag, top_n = options.pop("model_version_tag", None), options.pop("top_n", self.options.top_n)
        if options:
            raise TypeError(f"there is no option {', '.join(options)}")
        deadline = Deadline(time.time(), self.queue.deadline_seconds)
        model = self.pinned(tag)
        spec = FeatureSpec.of(model.manifest, self._max_missing_rate)
        opened = open_dataset(samples, self._data_roots, fields_wanted(spec, self._label))
        table = read_table(opened.samples, spec, identifier=opened.identifier, label=self._label)

        def predict(columns: Float32Array) -> FloatArray:
            return self._probabilities(columns, model, deadline, self.queue.max_in_flight)

        predicted = predict(table.matrix).argmax(axis=1)
        importances = occlusion(table.values, spec, predicted, predict)
        targets = [model.manifest.classes[number] for number in predicted.tolist()]
        told = feature_summaries(importances, table.values, spec, targets, top_n)
        return [FeatureSummary.model_validate(one) for one in told]

    def list_versions(self) -> list[str]:
        """Return the versions that there are, the oldest first."""
        return ModelFolder(self._root, self._name).list_versions()

    def health(self) -> dict[str, Any]:
        """Return whether the default version can be asked: status "ok" with its reference and the processes that serve
        the model, or "failing" with the reason."""
        try:
            model, found = self.pinned(None), self.client.model(self._name)
        except UqueueError as error:
            return {"status": "failing", "error_code": error.code, "reason": str(error)}
        serving = [process for process in found.processes if process.state == "ready"]
        status = "ok" if serving else "failing"
        reason = {} if serving else {"reason": "no worker process serves the model"}
        return {"status": status, "model": model.manifest.reference, "processes": len(serving), **reason}

    def submit_feedback(self, **request: Any) -> QueueFeedbackHandle:
        """Start an evaluation of a file and return a handle, which goes on with every `poll`.

        The request is what `get_model_performance_feedback` takes; without a version it is the default one. What the
        handle's `to_message` says makes the same handle again, in any process: `feedback_handle`.
        """
        dataset, tag = request.pop("evaluation_dataset"), request.pop("model_version_tag", None)
        if request:
            raise TypeError(f"there is no option {', '.join(request)}")
        if not isinstance(dataset, str | Path):
            raise TypeError(
                "expected the path of a file: an evaluation that others go on with is of what they can read"
            )
        model = self.pinned(tag)
        return QueueFeedbackHandle(
            self,
            Request(
                dataset=str(dataset),
                version=model.manifest.version,
                content=model.content,
                began_at=time.time(),
                deadline_seconds=self.queue.deadline_seconds,
            ),
        )

    def feedback_handle(self, message: Mapping[str, Any]) -> QueueFeedbackHandle:
        """Return the handle that `QueueFeedbackHandle.to_message` described."""
        return QueueFeedbackHandle(self, Request.model_validate(dict(message)))

    def pinned(self, tag: str | None) -> PinnedModel:
        """Return the version that a tag names now."""
        return PinnedModel.find(self._root, self._name, tag, self._default_version)

    def chunks(self, dataset: Dataset, model: PinnedModel) -> Chunks:
        """Return a data set as the tables that jobs are made of."""
        spec = FeatureSpec.of(model.manifest, self._max_missing_rate)
        rows = self.queue.chunk_rows
        opened = open_dataset(dataset, self._data_roots, fields_wanted(spec, self._label))
        found = chunks_of(opened, spec, rows, self._label)
        if found.total is not None or self._columns is None:
            return found
        tables = self._columns.tables(iter(found.tables), found.identifier, spec, rows, self._label)
        return replace(found, tables=tables)

    def cut(self, columns: Float32Array) -> Iterator[tuple[int, Float32Array]]:
        """Yield columns in the chunks of jobs, each with the number of its first row."""
        for first in range(0, len(columns), self.queue.chunk_rows):
            yield first, columns[first : first + self.queue.chunk_rows]

    def _probabilities(
        self, columns: Float32Array, model: PinnedModel, deadline: Deadline, in_flight: int
    ) -> FloatArray:
        """Return the probabilities of columns. Raises the error of the first chunk that failed."""
        wave: Wave[int] = Wave(self.client, model, deadline, in_flight)
        parts = []
        with closing(wave.answers(self.cut(columns))) as answers:
            for _, answer in answers:
                if isinstance(answer, UqueueError):
                    raise answer
                parts.append(answer.probabilities)
        return np.concatenate(parts) if parts else np.zeros((0, len(model.manifest.classes)))
