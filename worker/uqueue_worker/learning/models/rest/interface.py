"""The model interface for models behind HTTP, in any of the five dialects."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np

from uqueue_config.learning.feedback import ModelPerformanceData
from uqueue_config.learning.model_manifest import ModelManifest
from uqueue_config.learning.samples import FeatureSummary
from uqueue_worker.learning.breaker import CircuitBreaker
from uqueue_worker.learning.errors import ActiveLearningError
from uqueue_worker.learning.interfaces import DatasetType, FilePathType, ModelInterface
from uqueue_worker.learning.metrics import FloatArray, IntArray
from uqueue_worker.learning.models.datasets import open_dataset
from uqueue_worker.learning.models.evaluation import EvaluationOptions, Explainer, build_feedback
from uqueue_worker.learning.models.explain import Importances, explained_by
from uqueue_worker.learning.models.features import MAX_MISSING_RATE, FeatureSpec, Float32Array, model_matrix
from uqueue_worker.learning.models.handle import FeedbackHandle
from uqueue_worker.learning.models.predictions import Predictions
from uqueue_worker.learning.models.reports import feature_summaries
from uqueue_worker.learning.models.rest.auth import Auth, NoAuth
from uqueue_worker.learning.models.rest.dialects.base import Dialect
from uqueue_worker.learning.models.rest.dialects.mlflow_scoring import MlflowScoring
from uqueue_worker.learning.models.rest.dialects.native import Native
from uqueue_worker.learning.models.rest.dialects.native_evaluate import NativeEvaluate
from uqueue_worker.learning.models.rest.dialects.oip_v2 import OpenInference
from uqueue_worker.learning.models.rest.dialects.tfserving import TfServing
from uqueue_worker.learning.models.rest.endpoint import Endpoint
from uqueue_worker.learning.models.rest.evaluations import Evaluation, Timing
from uqueue_worker.learning.models.rest.remote import evaluated_there
from uqueue_worker.learning.models.sample_table import SampleTable, read_table
from uqueue_worker.learning.observability.context import timed_event
from uqueue_worker.learning.observability.metrics import timed_feedback

Dataset = DatasetType | FilePathType | Path
Explanations = Literal["occlusion", "api", "none"]
DIALECTS: Mapping[str, type[Dialect]] = {
    "native": Native,
    "native-evaluate": NativeEvaluate,
    "tfserving": TfServing,
    "oip_v2": OpenInference,
    "mlflow": MlflowScoring,
}


def _never() -> bool:
    return False


class ApiBasedModelInterface(ModelInterface):
    """Evaluates a model behind HTTP, as LocalModelInterface does one of this machine.

    manifest      features, classes and declared uncertainty of the model; only native-evaluate does without
    auth          who asks; nobody in particular by default
    breaker       one of the endpoint's own unless another one is given
    explanations  by occlusion, or what the options say instead (more requests for the reported samples), as the server
                  gives them (native), or none
    timing        clock, sleep and randomness

    The other settings are those of LocalModelInterface. Nothing is sent before the first call. One instance may be
    used by several threads. A failing endpoint raises EndpointUnavailable, EndpointTimeout, EndpointAuth,
    EndpointContract, ModelNotFound, ModelVersionNotFound or CircuitOpen.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        manifest: ModelManifest | None = None,
        auth: Auth | None = None,
        breaker: CircuitBreaker | None = None,
        data_roots: Sequence[str | Path] = (),
        options: EvaluationOptions | None = None,
        label: str | None = None,
        max_missing_rate: float = MAX_MISSING_RATE,
        explanations: Explanations = "occlusion",
        timing: Timing | None = None,
    ) -> None:
        if manifest is None and endpoint.dialect != "native-evaluate":
            raise ValueError(f"the dialect {endpoint.dialect} needs the manifest of the model")
        if explanations == "api" and endpoint.dialect != "native":
            raise ValueError(f"the dialect {endpoint.dialect} carries no explanations")
        self.endpoint = endpoint
        self.options = options or EvaluationOptions()
        _check_explained_here(self.options, explanations, endpoint.dialect)
        self._manifest = manifest
        self._auth = auth or NoAuth()
        self._timing = timing or Timing()
        self.breaker = breaker or CircuitBreaker(endpoint.target, clock=self._timing.clock)
        self._dialect = DIALECTS[endpoint.dialect](endpoint)
        self._data_roots = tuple(data_roots)
        self._label = label
        self._max_missing_rate = max_missing_rate
        self._explanations = explanations

    def get_model_performance_feedback(
        self, evaluation_dataset: Dataset, model_version_tag: str | None
    ) -> ModelPerformanceData:
        """Return the whole feedback. Raises what the class says, and for the data what the local interface does."""
        return self._evaluate(evaluation_dataset, model_version_tag, _never)

    def predict(self, dataset: Dataset, model_version_tag: str | None) -> Predictions:
        """Return the predictions of all rows, in their order."""
        evaluation = self._evaluation(model_version_tag)
        return evaluation.predictions(self._table(dataset).matrix)[0]

    def explain(self, samples: Dataset, **options: Any) -> list[FeatureSummary]:
        """Return for each sample which features its predicted class rests on, the most important first.

        Options are `model_version_tag` (None is the default) and `top_n`, how many features are named.
        """
        tag, top_n = options.pop("model_version_tag", None), options.pop("top_n", self.options.top_n)
        _refuse(options)
        evaluation, table = self._evaluation(tag), self._table(samples)
        said, _ = evaluation.predictions(table.matrix)
        explainer = self._explainer(evaluation, table.spec, said)
        importances = Importances("NONE", None) if explainer is None else explainer(table.values, said.predicted)
        targets = [said.classes[number] for number in said.predicted.tolist()]
        told = feature_summaries(importances, table.values, table.spec, targets, top_n)
        return [FeatureSummary.model_validate(one) for one in told]

    def list_versions(self) -> list[str]:
        """Return the versions that the server names; mlflow names none, so there it is the one configured."""
        return self._evaluation(None).run(self._dialect.list_versions)

    def health(self) -> dict[str, Any]:
        """Return whether server and model are ready: status "ok" or "failing" with the reason, and the breaker."""
        facts = {"model": self.endpoint.model, "url": self.endpoint.base_url}
        try:
            facts |= self._evaluation(None).run(self._dialect.health)
        except ActiveLearningError as error:
            failing = {"status": "failing", "error_code": error.code, "reason": str(error)}
            return {**failing, **facts, "breaker": self.breaker.state}
        return {"status": "ok", **facts, "breaker": self.breaker.state}

    def submit_feedback(self, **request: Any) -> FeedbackHandle[ModelPerformanceData]:
        """Start an evaluation in a thread and return a handle; cancelling it gives up the requests under way.

        The request is what `get_model_performance_feedback` takes; without a version it is the default one.
        """
        dataset, tag = request.pop("evaluation_dataset"), request.pop("model_version_tag", None)
        _refuse(request)
        return FeedbackHandle(lambda is_cancelled: self._evaluate(dataset, tag, is_cancelled))

    def _evaluation(self, tag: str | None, is_cancelled: Callable[[], bool] | None = None) -> Evaluation:
        return Evaluation(
            self._dialect, self._auth, self.breaker, self._manifest, tag, self._timing, is_cancelled=is_cancelled
        )

    def _evaluate(self, dataset: Dataset, tag: str | None, is_cancelled: Callable[[], bool]) -> ModelPerformanceData:
        facts = {"model": self.endpoint.model, "model_version_tag": tag, "dialect": self.endpoint.dialect}
        with timed_feedback("rest"), timed_event("feedback", "rest", **facts) as line:
            evaluation = self._evaluation(tag, None if is_cancelled is _never else is_cancelled)
            if isinstance(self._dialect, NativeEvaluate):
                opened = open_dataset(dataset, self._data_roots)
                feedback = evaluated_there(evaluation, self._dialect, dataset, opened, self.options)
            else:
                feedback = self._evaluated_here(evaluation, self._table(dataset))
            line |= {"model_version_tag": feedback.model_version_evaluated, "n_samples": feedback.n_samples}
            return feedback

    def _evaluated_here(self, evaluation: Evaluation, table: SampleTable) -> ModelPerformanceData:
        started = time.monotonic()
        said, warnings = evaluation.predictions(table.matrix)
        return build_feedback(
            table,
            said,
            explainer=self._explainer(evaluation, table.spec, said),
            options=self.options,
            conformal_q=self._known.uncertainty.conformal_q,
            duration_seconds=time.monotonic() - started,
            warnings=warnings,
        )

    @property
    def _known(self) -> ModelManifest:
        return cast(ModelManifest, self._manifest)

    def _table(self, dataset: Dataset) -> SampleTable:
        opened = open_dataset(dataset, self._data_roots)
        spec = FeatureSpec.of(self._known, self._max_missing_rate)
        return read_table(opened.samples, spec, identifier=opened.identifier, label=self._label)

    def _explainer(self, evaluation: Evaluation, spec: FeatureSpec, said: Predictions) -> Explainer | None:
        """Return what explains rows by the version that predicted them."""
        if self._explanations == "none" or said.probabilities is None:
            return None

        def probabilities(matrix: Float32Array) -> FloatArray:
            return cast(FloatArray, evaluation.predictions(matrix, only=said.model_version)[0].probabilities)

        def here(values: FloatArray, classes: IntArray) -> Importances:
            return explained_by(self.options.explanation, values, spec, classes, probabilities)

        def by_server(values: FloatArray, classes: IntArray) -> Importances:
            try:
                given = evaluation.explanations(model_matrix(values, spec), only=said.model_version)
            except ActiveLearningError as error:
                return Importances("NONE", None, f"explanations failed: {error}"[:300])
            scores = [[one.get(name, 0.0) for name in spec.names] for one in given]
            return Importances("API", np.array(scores, dtype=np.float64).reshape(len(values), len(spec.names)))

        return by_server if self._explanations == "api" else here


def _check_explained_here(options: EvaluationOptions, explanations: Explanations, dialect: str) -> None:
    """Raise ValueError where the options ask for a method, and somebody else explains, or nobody."""
    if options.explanation == "OCCLUSION":
        return
    asked = f"the options ask for explanations by {options.explanation}"
    if dialect == "native-evaluate":
        raise ValueError(f"{asked}, and a server of native-evaluate explains as it likes; leave them at OCCLUSION")
    if explanations != "occlusion":
        raise ValueError(f"{asked}, and explanations={explanations!r} asks for others; leave one of the two out")


def _refuse(unknown: Mapping[str, Any]) -> None:
    if unknown:
        raise TypeError(f"there is no option {', '.join(unknown)}")
