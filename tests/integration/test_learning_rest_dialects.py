"""The REST interface against strict servers of all five dialects, over real HTTP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from concurrent.futures import CancelledError
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from builders.classifier_samples import CLASSES, FEATURES, ensemble, samples
from builders.close_json import assert_close
from builders.model_endpoint import ModelEndpoint, Twist, model_endpoint
from uqueue_config.learning.feedback import ModelPerformanceData
from uqueue_config.learning.model_manifest import Preprocessing
from uqueue_worker.learning.errors import (
    DatasetFormat,
    DatasetNotFound,
    EmptyDataset,
    EndpointContract,
    FeatureMismatch,
    ModelNotFound,
    ModelVersionNotFound,
)
from uqueue_worker.learning.models.evaluation import EvaluationOptions
from uqueue_worker.learning.models.local import LocalModelInterface
from uqueue_worker.learning.models.rest import ApiBasedModelInterface, Endpoint

DIALECTS = ("native", "native-evaluate", "tfserving", "oip_v2", "mlflow")
LOCAL = LocalModelInterface.of(ensemble())
DATA = samples(300)
#: What only members tell.
SPLIT = ("epistemic_uncertainty_score", "aleatoric_uncertainty_score", "disagreement_score")
NOT_COMPARED = ("duration_seconds", "evaluated_at_utc", "warnings", "model_version_evaluated")


def api(server: ModelEndpoint, manifest: Any = None, **settings: Any) -> ApiBasedModelInterface:
    about = {name: settings.pop(name) for name in list(settings) if name in Endpoint.model_fields}
    endpoint = Endpoint(base_url=server.url, dialect=server.dialect, **{"model": "airguard", **about})
    return ApiBasedModelInterface(endpoint, manifest=manifest or LOCAL.model().manifest, **settings)


@pytest.fixture
def native() -> Iterator[ModelEndpoint]:
    with model_endpoint(LOCAL, "native") as server:
        yield server


def compared(feedback: ModelPerformanceData, *, split: bool = True) -> dict[str, Any]:
    message = {name: value for name, value in feedback.to_message().items() if name not in NOT_COMPARED}
    if not split:
        message["uncertainty_method"] = "single_model"
        for one in [*message["uncertain_samples"], *message["misclassified_samples"]]:
            one |= dict.fromkeys(SPLIT)
    return message


@pytest.mark.parametrize(
    ("dialect", "settings", "split"),
    [
        ("native", {}, True),
        ("native-evaluate", {}, True),
        ("oip_v2", {}, True),
        ("oip_v2", {"output_name": "members"}, True),
        ("mlflow", {"input_name": "features"}, True),
        ("mlflow", {}, False),
        ("tfserving", {"signature_name": "serving_default"}, False),
    ],
)
def test_rest_says_what_local_says(dialect: str, settings: dict[str, Any], split: bool) -> None:
    expected = LOCAL.get_model_performance_feedback(DATA, None)
    with model_endpoint(LOCAL, dialect) as server:
        found = api(server, **settings).get_model_performance_feedback(DATA, None)
    assert_close(compared(found), compared(expected, split=split))
    assert expected.misclassified_samples[0].sample_features_summary is not None
    assert found.model_version_evaluated == ("airguard@unknown" if dialect == "mlflow" else "airguard@7")
    unsaid = "the server does not say which version of the model answered"
    assert (unsaid in found.warnings) == (dialect == "mlflow")


def test_a_server_of_the_bare_file_gets_scaled_columns() -> None:
    features = tuple(feature.model_copy(update={"mean": 4.0, "std": 2.5}) for feature in FEATURES)
    bare = ensemble(features=features)
    manifest = bare.manifest.model_copy(update={"preprocessing": Preprocessing(scaling="standard")})
    expected = LocalModelInterface.of(replace(bare, manifest=manifest)).predict(DATA, None)
    with model_endpoint(LocalModelInterface.of(bare), "tfserving") as server:
        found = api(server, manifest, preprocessed=True).predict(DATA, None)
        raw = api(server, manifest).predict(DATA, None)
    assert np.abs(found.probabilities - expected.probabilities).max() < 1e-6
    assert np.abs(raw.probabilities - expected.probabilities).max() > 0.01


def test_batches_are_bounded_and_keep_the_order(native: ModelEndpoint) -> None:
    native.twists = [Twist(wait_seconds=0.2), Twist(), Twist(wait_seconds=0.1)]
    found = api(native, batch_rows=40).predict(DATA, None)
    assert np.abs(found.probabilities - LOCAL.predict(DATA, None).probabilities).max() < 1e-9
    sizes = [len(one.json["instances"]) for one in native.questions]
    assert sorted(sizes) == [20, 40, 40, 40, 40, 40, 40, 40]
    assert 2 <= native.most_at_once <= 4
    assert len({one.headers["idempotency-key"] for one in native.questions}) == 8


def test_batches_are_halved_until_they_fit(native: ModelEndpoint) -> None:
    found = api(native, batch_bytes=6000).predict(DATA, None)
    assert np.abs(found.probabilities - LOCAL.predict(DATA, None).probabilities).max() < 1e-9
    assert max(len(one.body) for one in native.questions) <= 6000
    assert len(native.questions) > 4
    with pytest.raises(FeatureMismatch, match=r"one sample has \d+ bytes, more than the 100"):
        api(native, batch_bytes=100).predict(DATA, None)


def flipped(answer: Any) -> Any:
    return {**answer, "model_version": "8"}


def test_a_version_that_changes_on_the_way_means_to_begin_again(native: ModelEndpoint) -> None:
    native.twists = [Twist(), Twist(change=flipped)]
    found = api(native, batch_rows=150).predict(DATA, None)
    assert (found.model_version, len(native.questions)) == ("airguard@7", 4)
    native.twists = [Twist(), Twist(change=flipped)] * 2
    with pytest.raises(EndpointContract, match="several versions: 7, 8, twice"):
        api(native, batch_rows=150).predict(DATA, None)


def test_a_version_that_changes_before_the_explanations_leaves_them_out(native: ModelEndpoint) -> None:
    native.twists = [Twist(), Twist(), *[Twist(change=flipped)] * 50]
    found = api(native).get_model_performance_feedback(DATA, None)
    assert found.model_version_evaluated == "airguard@7"
    assert any("airguard@8 answers now" in warning for warning in found.warnings)
    assert {one.sample_features_summary.method for one in found.uncertain_samples} == {"NONE"}


def test_labels_alone_give_metrics_and_no_uncertainty(native: ModelEndpoint) -> None:
    native.twists = [Twist(change=lambda answer: {**answer, "probabilities": None, "uncertainty": None})] * 2
    found = api(native).get_model_performance_feedback(DATA, None)
    expected = LOCAL.get_model_performance_feedback(DATA, None)
    assert found.overall_metrics["accuracy"] == expected.overall_metrics["accuracy"]
    assert "log_loss" not in found.overall_metrics
    assert (found.uncertain_samples, found.confusion_matrix) == ((), expected.confusion_matrix)
    assert {one.uncertainty_score for one in found.misclassified_samples} == {None}
    assert any("labels only" in warning for warning in found.warnings)


def test_the_order_of_the_servers_classes_does_not_matter(native: ModelEndpoint) -> None:
    def turned(answer: Any) -> Any:
        rows = [list(reversed(row)) for row in answer["probabilities"]]
        return {**answer, "classes": list(reversed(answer["classes"])), "probabilities": rows}

    native.twists = [Twist(change=turned), Twist()]
    found = api(native, batch_rows=150).predict(DATA, None)
    assert found.classes == CLASSES
    assert np.abs(found.probabilities - LOCAL.predict(DATA, None).probabilities).max() < 1e-9


def test_parts_of_the_uncertainty_that_are_absent_somewhere_are_not_used(native: ModelEndpoint) -> None:
    def gaps(answer: Any) -> Any:
        parts = answer["uncertainty"]
        return {**answer, "uncertainty": {**parts, "epistemic": [None, *parts["epistemic"][1:]], "aleatoric": None}}

    native.twists = [Twist(change=gaps), Twist()]
    found = api(native).get_model_performance_feedback(DATA, None)
    (first, *_) = found.uncertain_samples
    assert (first.epistemic_uncertainty_score, first.aleatoric_uncertainty_score) == (None, None)
    assert first.disagreement_score is not None
    assert any(warning.startswith("1 rows have no epistemic") for warning in found.warnings)


def test_explanations_of_the_servers_own(native: ModelEndpoint) -> None:
    found = api(native, explanations="api").get_model_performance_feedback(DATA, None)
    summary = found.misclassified_samples[0].sample_features_summary
    assert summary is not None
    assert summary.method == "API"
    for one in summary.top_n_features:  # the server says each feature's value, imputed where it is missing
        assert one.importance_score == pytest.approx(3.0 if one.raw_value is None else one.raw_value, rel=1e-6)
    alone = api(native, explanations="api").explain(samples=DATA[:2], top_n=1)
    assert [len(one.top_n_features) for one in alone] == [1, 1]
    none = api(native, explanations="none").get_model_performance_feedback(DATA, None)
    assert none.misclassified_samples[0].sample_features_summary is None


@pytest.mark.parametrize("dialect", DIALECTS)
def test_versions_and_health(dialect: str) -> None:
    with model_endpoint(LOCAL, dialect) as server:
        there = api(server, version="7")
        expected = {"tfserving": ["7"], "mlflow": ["7"]}.get(dialect, ["6", "7"])
        assert there.list_versions() == expected
        found = there.health()
        assert (found["status"], found["breaker"]) == ("ok", "closed")
        assert found.get("server") == ("mlflow 3.17.2" if dialect == "mlflow" else None)
        assert there.get_model_performance_feedback(DATA[:20], None).model_version_evaluated == "airguard@7"
        n_asked = len(server.asked)
        for tag in ("../6", "7/..", "", "7:predict", "a\n"):
            with pytest.raises(ModelVersionNotFound):
                there.get_model_performance_feedback(DATA[:20], tag)
        assert len(server.asked) == n_asked
        with pytest.raises(ModelVersionNotFound, match="has no version 99"):
            there.get_model_performance_feedback(DATA[:20], "99")
        if dialect != "mlflow":
            with pytest.raises(ModelNotFound, match="nobody"):
                api(server, model="nobody").get_model_performance_feedback(DATA[:20], None)
        server.violations.clear()
    down = api(server, retries=0).health()
    assert (down["status"], down["error_code"]) == ("failing", "endpoint_unavailable")


def test_a_label_of_tensorflow_serving_stands_for_its_version() -> None:
    with model_endpoint(LOCAL, "tfserving") as server:
        found = api(server).predict(DATA[:5], "stable")
        assert found.model_version == "airguard@7"
        assert [one.path for one in server.asked] == [
            "/v1/models/airguard/labels/stable",
            "/v1/models/airguard/versions/7:predict",
        ]


def test_native_evaluate_sends_samples_or_a_reference(tmp_path: Path) -> None:
    with model_endpoint(LOCAL, "native-evaluate") as server:
        there = api(server, data_roots=[tmp_path])
        with pytest.raises(EmptyDataset):
            there.get_model_performance_feedback([], None)
        with pytest.raises(DatasetFormat, match="sample_id"):
            there.get_model_performance_feedback([{"x": 1}], None)
        with pytest.raises(DatasetFormat, match="NaN"):
            there.get_model_performance_feedback([{"sample_id": "a", "x": float("nan")}], None)
        with pytest.raises(DatasetFormat, match="as a reference"):
            api(server, batch_bytes=500).get_model_performance_feedback(DATA, None)
        with pytest.raises(DatasetNotFound):
            there.get_model_performance_feedback("/etc/passwd", None)
        assert server.asked == []
        others = Twist(change=lambda answer: {**answer, "n_samples": 3})
        lies = Twist(change=lambda answer: {**answer, "overall_metrics": {"accuracy": "much"}})
        no_feedback = Twist(change=lambda answer: {"error": "out of memory"})
        server.twists = [others, lies, no_feedback]
        for complaint in ("feedback about 3 samples, where 20", "overall_metrics.accuracy", "out of memory"):
            with pytest.raises(EndpointContract, match=complaint):
                there.get_model_performance_feedback(DATA[:20], None)


def test_from_within_an_event_loop(native: ModelEndpoint) -> None:
    async def both() -> tuple[ModelPerformanceData, ModelPerformanceData]:
        there = api(native)
        waited = await there.aget_model_performance_feedback(evaluation_dataset=DATA[:30], model_version_tag=None)
        return waited, there.get_model_performance_feedback(DATA[:30], None)

    first, second = asyncio.run(both())
    assert first.overall_metrics == second.overall_metrics


def test_an_evaluation_that_is_cancelled(native: ModelEndpoint) -> None:
    native.twists = [Twist(wait_seconds=0.5)] * 4
    handle = api(native, read_seconds=20).submit_feedback(evaluation_dataset=DATA)
    assert handle.poll() == "running"
    assert handle.cancel()
    with pytest.raises(CancelledError):
        handle.result(timeout_seconds=10)
    done = api(native, options=EvaluationOptions(max_explained=0)).submit_feedback(evaluation_dataset=DATA)
    assert done.result(20).n_samples == 300


def test_what_it_needs_is_said_at_once() -> None:
    endpoint = Endpoint(base_url="https://models.example", model="airguard")
    with pytest.raises(ValueError, match="needs the manifest"):
        ApiBasedModelInterface(endpoint)
    other = Endpoint(base_url="https://models.example", model="airguard", dialect="mlflow")
    with pytest.raises(ValueError, match="no explanations"):
        ApiBasedModelInterface(other, manifest=LOCAL.model().manifest, explanations="api")
    assert json.loads(endpoint.model_dump_json())["base_url"] == "https://models.example"
