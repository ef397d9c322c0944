"""Explanations of a model behind HTTP by the method that the options name."""

from __future__ import annotations

from typing import Any

import pytest

from builders.classifier_samples import ensemble, samples
from builders.close_json import assert_close
from builders.model_endpoint import model_endpoint
from uqueue_worker.learning.models.evaluation import EvaluationOptions
from uqueue_worker.learning.models.local import LocalModelInterface
from uqueue_worker.learning.models.rest import ApiBasedModelInterface, Endpoint

MODEL = ensemble()
DATA = samples(60)


def explained(options: EvaluationOptions, **settings: Any) -> Any:
    return LocalModelInterface.of(MODEL, options=options, **settings)


@pytest.mark.parametrize("method", ["SHAP", "PERMUTATION"])
def test_rest_says_what_local_says(method: Any) -> None:
    options = EvaluationOptions(explanation=method, max_explained=10)
    expected = explained(options).get_model_performance_feedback(DATA, None)
    with model_endpoint(explained(EvaluationOptions()), "native") as server:
        endpoint = Endpoint(base_url=server.url, dialect="native", model="airguard")
        there = ApiBasedModelInterface(endpoint, manifest=MODEL.manifest, options=options)
        found = there.get_model_performance_feedback(DATA, None)
    one, other = (feedback.to_message()["uncertain_samples"] for feedback in (found, expected))
    assert_close(one, other)
    assert one[0]["sample_features_summary"]["method"] == method


def test_a_method_and_somebody_else_who_explains_do_not_go_together() -> None:
    options = EvaluationOptions(explanation="SHAP")
    for settings, complaint in (
        ({"dialect": "native-evaluate"}, "by SHAP, and a server of native-evaluate explains as it likes"),
        ({"explanations": "api"}, "explanations='api' asks for others"),
        ({"explanations": "none"}, "explanations='none' asks for others"),
    ):
        dialect = settings.pop("dialect", "native")
        endpoint = Endpoint(base_url="https://models.example", model="airguard", dialect=dialect)
        with pytest.raises(ValueError, match=complaint):
            ApiBasedModelInterface(endpoint, manifest=MODEL.manifest, options=options, **settings)  # type: ignore[arg-type]
