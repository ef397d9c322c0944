"""The local model interface: evaluates model files of this machine in this process."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any, Self, TypeVar

from uqueue_config.learning.feedback import ModelPerformanceData
from uqueue_config.learning.model_manifest import ModelManifest
from uqueue_config.learning.samples import FeatureSummary
from uqueue_worker.learning.errors import ActiveLearningError
from uqueue_worker.learning.interfaces import DatasetType, FilePathType, ModelInterface
from uqueue_worker.learning.metrics import FloatArray, IntArray
from uqueue_worker.learning.models.datasets import open_dataset
from uqueue_worker.learning.models.evaluation import EvaluationOptions, Explainer, build_feedback
from uqueue_worker.learning.models.explain import Explanation, Importances, coefficients, explained_by
from uqueue_worker.learning.models.features import MAX_MISSING_RATE, FeatureSpec
from uqueue_worker.learning.models.formats import load_model
from uqueue_worker.learning.models.handle import FeedbackHandle
from uqueue_worker.learning.models.loaded import LoadedModel
from uqueue_worker.learning.models.place import FolderPlace, InProcessPlace, ModelPlace, PathPlace
from uqueue_worker.learning.models.predictions import Predictions
from uqueue_worker.learning.models.reports import feature_summaries
from uqueue_worker.learning.models.sample_table import SampleTable, fields_wanted, read_table
from uqueue_worker.learning.observability.metrics import timed_feedback

Dataset = DatasetType | FilePathType | Path
Item = TypeVar("Item")


def _never() -> bool:
    return False


class LocalModelInterface(ModelInterface):
    """Evaluates versions of a model from `model_path` (a model file or its version's folder) or from `root` and `name`.

    default_version   the version or alias that None stands for; by default the alias production, else latest
    data_roots        folders that data sets given as paths must lie below; none are read without
    label             field that holds the true class, where it is not the usual one
    max_missing_rate  share of the samples that may lack a feature
    allow_pickle      whether `.joblib` and `.pkl` files may run; they must be below `root`, with the manifest's SHA-256
    loaded_models     how many versions are kept in memory, the ones used last

    Nothing is read before the first call. One instance may be used by several threads.
    """

    def __init__(
        self,
        model_path: str | Path | None = None,
        *,
        root: str | Path | None = None,
        name: str | None = None,
        default_version: str | None = None,
        data_roots: Sequence[str | Path] = (),
        options: EvaluationOptions | None = None,
        label: str | None = None,
        max_missing_rate: float = MAX_MISSING_RATE,
        allow_pickle: bool = False,
        loaded_models: int = 4,
    ) -> None:
        self._place: ModelPlace
        if model_path is not None and root is None and name is None:
            self._place = PathPlace(Path(model_path))
        elif model_path is None and root is not None and name is not None:
            self._place = FolderPlace(Path(root), name, default_version)
        else:
            raise ValueError("give model_path, or root and name")
        if loaded_models < 1:
            raise ValueError(f"loaded_models: expected at least 1, got {loaded_models}")
        self.options = options or EvaluationOptions()
        self._data_roots = tuple(data_roots)
        self._label = label
        self._max_missing_rate = max_missing_rate
        self._allow_pickle = allow_pickle
        self._loaded_models = loaded_models
        self._loaded: OrderedDict[tuple[str, str], LoadedModel] = OrderedDict()
        self._lock = threading.Lock()
        self._loading = threading.Lock()

    @classmethod
    def of(cls, model: LoadedModel, **settings: Any) -> Self:
        """Return an interface to a model in this process, such as a function in a test: its one version."""
        made = cls(model_path=model.manifest.file, **settings)
        made._place = InProcessPlace(model)
        return made

    def get_model_performance_feedback(
        self, evaluation_dataset: Dataset, model_version_tag: str | None
    ) -> ModelPerformanceData:
        """Return the whole feedback; metrics are over labelled samples, uncertainties over all.

        Raises EmptyDataset, DatasetNotFound, DatasetFormat, FeatureMismatch, ModelNotFound, ModelVersionNotFound,
        ModelIntegrity, UnsupportedModelFormat and ModelNotFitted.
        """
        return self._evaluate(evaluation_dataset, model_version_tag, _never)

    def predict(self, dataset: Dataset, model_version_tag: str | None) -> Predictions:
        """Return the predictions of all rows, in their order. Raises as an evaluation does."""
        model = self.model(model_version_tag)
        return model.predictions(self._table(dataset, model.manifest).matrix)

    def explain(self, samples: Dataset, **options: Any) -> list[FeatureSummary]:
        """Return for each sample which features its predicted class rests on.

        Options are `model_version_tag` (None is the default) and `top_n`, how many features are named.
        """
        tag, top_n = options.pop("model_version_tag", None), options.pop("top_n", self.options.top_n)
        _refuse(options)
        model = self.model(tag)
        table = self._table(samples, model.manifest)
        said = model.predictions(table.matrix)
        importances = _explainer(model, table.spec, self.options.explanation)(table.values, said.predicted)
        targets = [model.manifest.classes[number] for number in said.predicted.tolist()]
        told = feature_summaries(importances, table.values, table.spec, targets, top_n)
        return [FeatureSummary.model_validate(one) for one in told]

    def list_versions(self) -> list[str]:
        """Return the versions that there are, the oldest first."""
        return self._place.list_versions()

    def health(self) -> dict[str, Any]:
        """Return whether the default version loads: status "ok" or "failing", with its reference or the reason."""
        try:
            manifest = self.model(None).manifest
        except ActiveLearningError as error:
            return {"status": "failing", "error_code": error.code, "reason": str(error)}
        with self._lock:
            loaded = [version for version, _ in self._loaded]
        return {"status": "ok", "model": manifest.reference, "format": manifest.format, "loaded": loaded}

    def submit_feedback(self, **request: Any) -> FeedbackHandle[ModelPerformanceData]:
        """Start an evaluation in a thread and return a handle; cancelling it takes effect between batches.

        The request is what `get_model_performance_feedback` takes; without a version it is the default one.
        """
        dataset, tag = request.pop("evaluation_dataset"), request.pop("model_version_tag", None)
        _refuse(request)
        return FeedbackHandle(lambda is_cancelled: self._evaluate(dataset, tag, is_cancelled))

    def model(self, tag: str | None = None) -> LoadedModel:
        """Return the model that a tag names now, from memory where its version and SHA-256 are there."""
        manifest = self._place.manifest(tag)
        key = (manifest.version, manifest.sha256)
        if (found := self._remembered(key)) is not None:
            return found
        with self._loading:  # a model is loaded once, however many ask for it
            if (found := self._remembered(key)) is not None:
                return found
            model = load_model(self._place, manifest, allow_pickle=self._allow_pickle)
            with self._lock:
                self._loaded[key] = model
                while len(self._loaded) > self._loaded_models:
                    self._loaded.popitem(last=False)
            return model

    def _remembered(self, key: tuple[str, str]) -> LoadedModel | None:
        with self._lock:
            if key in self._loaded:
                self._loaded.move_to_end(key)
            return self._loaded.get(key)

    def _table(
        self, dataset: Dataset, manifest: ModelManifest, is_cancelled: Callable[[], bool] = _never
    ) -> SampleTable:
        spec = FeatureSpec.of(manifest, self._max_missing_rate)
        opened = open_dataset(dataset, self._data_roots, fields_wanted(spec, self._label))
        samples = _until(opened.samples, is_cancelled)
        return read_table(samples, spec, identifier=opened.identifier, label=self._label)

    @timed_feedback("local")
    def _evaluate(self, dataset: Dataset, tag: str | None, is_cancelled: Callable[[], bool]) -> ModelPerformanceData:
        started = time.monotonic()
        model = self.model(tag)
        table = self._table(dataset, model.manifest, is_cancelled)
        said = Predictions.joined(list(_until(model.batches(table.matrix), is_cancelled)))
        return build_feedback(
            table,
            said,
            explainer=_explainer(model, table.spec, self.options.explanation),
            options=self.options,
            conformal_q=model.manifest.uncertainty.conformal_q,
            duration_seconds=time.monotonic() - started,
        )


def _refuse(options: dict[str, Any]) -> None:
    if options:
        raise TypeError(f"there is no option {', '.join(options)}")


def _explainer(model: LoadedModel, spec: FeatureSpec, method: Explanation) -> Explainer:
    weights = model.weights

    def explain(values: FloatArray, classes: IntArray) -> Importances:
        if weights is not None and method == "OCCLUSION":  # what is asked for by name is what comes
            return coefficients(values, spec, classes, weights)
        return explained_by(method, values, spec, classes, model.probabilities, model.trees)

    return explain


def _until(items: Iterable[Item], is_cancelled: Callable[[], bool]) -> Iterator[Item]:
    for item in items:
        if is_cancelled():
            raise CancelledError
        yield item
