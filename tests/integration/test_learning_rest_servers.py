"""The REST interface and what servers of others answer where their protocol leaves it open."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from builders.classifier_samples import ensemble, samples
from builders.model_endpoint import ModelEndpoint, Twist, model_endpoint
from uqueue_worker.learning.errors import EndpointContract, ModelNotFound, ModelVersionNotFound
from uqueue_worker.learning.models.local import LocalModelInterface
from uqueue_worker.learning.models.rest import ApiBasedModelInterface, Endpoint
from uqueue_worker.learning.models.rest.evaluations import UNSAID

LOCAL = LocalModelInterface.of(ensemble())
DATA = samples(60)
EXPECTED = LOCAL.predict(DATA, None)


def api(server: ModelEndpoint, **about: Any) -> ApiBasedModelInterface:
    endpoint = Endpoint(base_url=server.url, dialect=server.dialect, **{"model": "airguard", **about})
    return ApiBasedModelInterface(endpoint, manifest=LOCAL.model().manifest)


@pytest.mark.parametrize(("dialect", "like"), [("tfserving", "kserve-v1"), ("oip_v2", "kserve-v2")])
def test_models_without_versions(dialect: str, like: str) -> None:
    with model_endpoint(LOCAL, dialect, like=like) as server:
        there = api(server)
        found = there.get_model_performance_feedback(DATA, None)
        assert found.model_version_evaluated == "airguard@unknown"
        assert UNSAID in found.warnings
        assert np.abs(there.predict(DATA, None).probabilities - EXPECTED.probabilities).max() < 1e-6
        assert there.list_versions() == []
        assert (there.health()["status"], there.health()["versions"]) == ("ok", [])
        with pytest.raises(ModelNotFound):
            api(server, model="nobody").predict(DATA, None)


def test_a_version_where_models_have_none() -> None:
    with model_endpoint(LOCAL, "tfserving", like="kserve-v1") as server, pytest.raises(ModelVersionNotFound):
        api(server).predict(DATA, "7")
    with model_endpoint(LOCAL, "oip_v2", like="kserve-v2") as server:
        with pytest.raises(EndpointContract, match=r"status 501: Model versioning not supported yet\.$") as raised:
            api(server).predict(DATA, "7")
        assert not raised.value.retryable
        assert len(server.questions) == 1
        assert api(server, version="7").health()["error_code"] == "endpoint_contract"


def test_a_model_that_is_not_ready() -> None:
    with model_endpoint(LOCAL, "tfserving", like="kserve-v1", version="") as server:
        with pytest.raises(EndpointContract, match="the model is not ready"):
            api(server).predict(DATA, None)
        assert api(server).health()["status"] == "failing"


def test_health_is_about_the_version_that_is_asked_for() -> None:
    with model_endpoint(LOCAL, "oip_v2") as server:
        assert api(server, version="7").health()["status"] == "ok"
        paths = [one.path for one in server.asked]
        assert paths[2:] == ["/v2/models/airguard/versions/7", "/v2/models/airguard/versions/7/ready"]
        strange = api(server, version="99").health()
        assert (strange["status"], strange["error_code"]) == ("failing", "model_version_not_found")


def test_labels_in_a_column() -> None:
    with model_endpoint(LOCAL, "oip_v2", like="mlserver-labels") as server:
        found = api(server).predict(DATA, None)
    assert (found.labels, found.probabilities) == (EXPECTED.labels, None)


def test_one_of_several_named_outputs() -> None:
    with model_endpoint(LOCAL, "tfserving", like="named-outputs") as server:
        for about in ({}, {"output_name": "probabilities"}):
            found = api(server, **about).predict(DATA, None)
            assert np.abs(found.probabilities - EXPECTED.probabilities).max() < 1e-6
        with pytest.raises(EndpointContract, match="no output other among probabilities, scores"):
            api(server, output_name="other").predict(DATA, None)
        server.twists = [Twist(change=one_row_less)]
        with pytest.raises(EndpointContract, match="the same outputs in every row"):
            api(server).predict(DATA, None)


def one_row_less(answer: Any) -> Any:
    """Take an output out of the first row only."""
    first, *others = answer["predictions"]
    return {"predictions": [{"scores": first["scores"]}, *others]}
