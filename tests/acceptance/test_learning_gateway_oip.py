"""The dialect `oip_v2` against uqueue's own gateway: a classifier on the queue, evaluated over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.http as triton

from builders.close_json import assert_close
from builders.ensembles import CLASSES, FEATURES, NAME, write_dataset, write_version
from builders.gateway import RunningGateway, running_gateway
from builders.service import RunningService, running_service
from builders.waiting import eventually
from uqueue.gateway.keys import NewKey, append_key
from uqueue_worker.learning.errors import EndpointAuth, EndpointContract, ModelNotFound
from uqueue_worker.learning.models.local import LocalModelInterface
from uqueue_worker.learning.models.rest import ApiBasedModelInterface, Auth, Bearer, Endpoint

NOT_COMPARED = dict.fromkeys(("duration_seconds", "evaluated_at_utc", "model_version_evaluated"))


@dataclass
class Town:
    service: RunningService
    gateway: RunningGateway
    local: LocalModelInterface
    pool: Path
    key: str

    def api(self, auth: Auth | None = None, **about: Any) -> ApiBasedModelInterface:
        endpoint = Endpoint(base_url=self.gateway.url, dialect="oip_v2", **{"model": NAME, **about})
        manifest = self.local.model().manifest
        return ApiBasedModelInterface(
            endpoint, manifest=manifest, auth=auth or Bearer(self.key), data_roots=[self.pool.parent]
        )


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    root = tmp_path_factory.mktemp("oip")
    write_version(root / "models", "1", aliases=["production"])
    write_dataset(root / "pool.avro", 400)
    (root / "models.toml").write_text(f'[models.{NAME}]\nengine = "onnx-classifier"\nsource = "{root / "models"}"\n')
    key = NewKey.make("learning", ["read", "submit"])
    append_key(root / "keys.toml", key.entry)
    env = {"UQUEUE_MODELS": str(root / "models.toml"), "UQUEUE_API_KEYS_FILE": str(root / "keys.toml")}
    local = LocalModelInterface(root=root / "models", name=NAME, data_roots=[root])
    with (
        running_service(root / "service", concurrency=1, beat=False, env=env) as service,
        running_gateway(service.environment, root / "gateway") as gateway,
    ):
        town = Town(service, gateway, local, root / "pool.avro", key.secret)
        eventually(lambda: town.api().list_versions(), "the classifier is served", seconds=60)
        yield town


def test_over_the_gateway_it_says_what_it_says_here(town: Town) -> None:
    found = town.api().get_model_performance_feedback(str(town.pool), None)
    expected = town.local.get_model_performance_feedback(str(town.pool), None)
    assert found.uncertainty_method == expected.uncertainty_method == "ensemble:5"
    assert_close(*({**one.to_message(), **NOT_COMPARED} for one in (found, expected)))
    (version,) = town.api().list_versions()
    assert found.model_version_evaluated == f"{NAME}@{version}"
    named = town.api(version=version).predict(str(town.pool), None)
    assert np.abs(named.probabilities - town.local.predict(str(town.pool), None).probabilities).max() < 1e-12


def test_who_may_not_is_told_so(town: Town) -> None:
    with pytest.raises(EndpointAuth, match="status 401") as raised:
        town.api(Bearer("uq_wr0ng")).predict(str(town.pool), None)
    assert "wr0ng" not in str(raised.value)
    with pytest.raises(ModelNotFound):
        town.api(model="nobody").predict(str(town.pool), None)
    with pytest.raises(EndpointContract, match="there is no 'lower', only probabilities"):
        town.api(output_name="lower").predict(str(town.pool), None)


def test_health(town: Town) -> None:
    assert town.api().health()["status"] == "ok"
    assert town.api(model="nobody").health()["status"] == "failing"


@pytest.mark.parametrize("binary", [True, False])
def test_nvidias_client_gets_the_same(town: Town, binary: bool) -> None:
    headers = {"Authorization": f"Bearer {town.key}"}
    client = triton.InferenceServerClient(town.gateway.url.removeprefix("http://"))
    try:
        metadata = client.get_model_metadata(NAME, headers=headers)
        assert (metadata["platform"], metadata["inputs"][0]["shape"]) == ("uqueue_classification", [-1, len(FEATURES)])
        rows = np.random.default_rng(1).normal(size=(3, len(FEATURES))).astype(np.float32)
        tensor = triton.InferInput("features", list(rows.shape), "FP32")
        tensor.set_data_from_numpy(rows, binary_data=binary)
        names = [output["name"] for output in metadata["outputs"]]
        wanted = [triton.InferRequestedOutput(name, binary_data=binary) for name in names]
        answer = client.infer(NAME, [tensor], outputs=wanted, headers=headers)
    finally:
        client.close()
    direct: Any = town.service.client.submit(rows, NAME).result(timeout=20)
    for name in ("probabilities", "total", "epistemic", "aleatoric", "disagreement"):
        assert np.array_equal(answer.as_numpy(name), getattr(direct, name)), name
    assert tuple(answer.as_numpy("classes")) == CLASSES


def test_the_documentation_knows_the_answer(town: Town) -> None:
    document = httpx.get(f"{town.gateway.url}/openapi.json").json()
    data = document["components"]["schemas"]["OutputTensor"]["properties"]["data"]
    assert {"type": "string"} in data["anyOf"][0]["items"]["anyOf"]
