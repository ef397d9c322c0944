"""NVIDIA's client for Triton talks to the gateway over real HTTP, binary tensors included."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from builders.artifacts import write_workspace
from builders.gateway import RunningGateway, running_gateway
from builders.onnx_models import tiny_localizer, write_localizer
from builders.service import RunningService, running_service

MODEL, LOCALIZER = "mccp-uq", "localization_model"
ROWS = np.array([[0.98, 514.5, 294.0, 110.25, 7.0, 2, 0.0, 0], [0.7, 600, 300, 120, 3.5, 4, 0.1, 1]], np.float32)


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningService, RunningGateway]]:
    folder: Path = tmp_path_factory.mktemp("triton")
    write_workspace(folder / "workspace")
    write_localizer(folder / "workspace", tiny_localizer(confidence=0.75), name=LOCALIZER)
    source = f'source = "{folder / "workspace"}"'
    (folder / "models.toml").write_text(
        f'[models.{MODEL}]\n{source}\n[models.{LOCALIZER}]\n{source}\nengine = "onnx"\n'
    )
    env = {"UQUEUE_MODELS": str(folder / "models.toml")}
    with (
        running_service(folder / "service", concurrency=1, beat=False, env=env) as service,
        running_gateway(service.environment, folder / "gateway") as gateway,
    ):
        yield service, gateway


@pytest.fixture
def service(town: tuple[RunningService, RunningGateway]) -> RunningService:
    return town[0]


@pytest.fixture
def url(town: tuple[RunningService, RunningGateway]) -> str:
    return town[1].url


@pytest.fixture
def client(url: str) -> Iterator[Any]:
    client = triton.InferenceServerClient(url.removeprefix("http://"))
    yield client
    client.close()


def tensor(rows: Any = ROWS, *, binary: bool = True, datatype: str = "FP32", name: str = "features") -> Any:
    made = triton.InferInput(name, list(rows.shape), datatype)
    made.set_data_from_numpy(rows, binary_data=binary)
    return made


def test_server_and_model_are_there(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    metadata = client.get_model_metadata(MODEL)
    assert metadata["inputs"] == [{"name": "features", "datatype": "FP32", "shape": [-1, 8]}]
    (version,) = metadata["versions"]
    assert client.is_model_ready(MODEL)
    assert client.is_model_ready(MODEL, version)
    assert not client.is_model_ready(MODEL, "0123456789abcdef")
    assert not client.is_model_ready("nobody")
    with pytest.raises(InferenceServerException, match="nobody"):
        client.get_model_metadata("nobody")


@pytest.mark.parametrize("binary_input", [True, False])
@pytest.mark.parametrize("binary_output", [True, False, None])
def test_infer(client: Any, service: RunningService, binary_input: bool, binary_output: bool | None) -> None:
    direct = service.client.submit(ROWS, seed=5).result(timeout=20)
    names = ("lower", "passes_used", "converged", "pass_std")
    wanted = [triton.InferRequestedOutput(name, binary_data=binary_output) for name in names]
    outputs = None if binary_output is None else wanted
    answer = client.infer(
        MODEL, [tensor(binary=binary_input)], outputs=outputs, request_id="mine", parameters={"seed": 5}
    )
    for name in names:
        found, expected = answer.as_numpy(name), getattr(direct, name)
        assert found.shape == expected.shape
        assert np.array_equal(found, expected.astype(found.dtype)), name
    assert answer.as_numpy("lower").dtype == np.float64
    shown = answer.get_response()
    assert (shown["id"], shown["model_name"], shown["model_version"]) == ("mine", MODEL, direct.model.version)
    assert (answer.as_numpy("upper") is None) == (outputs is not None)
    again = client.infer(MODEL, [tensor(binary=binary_input)], direct.model.version, parameters={"seed": 5})
    assert np.array_equal(again.as_numpy("upper"), direct.upper)


def test_other_datatypes_and_several_at_a_time(client: Any, service: RunningService) -> None:
    whole = np.arange(8, dtype=np.int64).reshape(1, 8)
    direct = service.client.submit(whole, seed=1).result(timeout=20)
    answers = [
        client.async_infer(MODEL, [tensor(whole, datatype="INT64")], parameters={"seed": 1}, timeout=10**6)
        for _ in range(3)
    ]
    for answer in answers:
        assert np.array_equal(answer.get_result().as_numpy("lower"), direct.lower)


@pytest.mark.parametrize("binary", [True, False])
def test_localization_models_answer_positions(client: Any, service: RunningService, binary: bool) -> None:
    metadata = client.get_model_metadata(LOCALIZER)
    assert metadata["platform"] == "uqueue_localization"
    assert metadata["inputs"][0]["shape"] == [-1, 12288]
    names = [output["name"] for output in metadata["outputs"]]
    rows = np.random.default_rng(1).normal(size=(2, 12288)).astype(np.float32)
    wanted = [triton.InferRequestedOutput(name, binary_data=binary) for name in names]
    answer = client.infer(LOCALIZER, [tensor(rows)], outputs=wanted)
    direct: Any = service.client.submit(rows, LOCALIZER).result(timeout=20)
    for name in names:
        assert np.array_equal(answer.as_numpy(name), getattr(direct, name)), name
    with pytest.raises(InferenceServerException, match="there is no 'lower', only latitude"):
        client.infer(LOCALIZER, [tensor(rows)], outputs=[triton.InferRequestedOutput("lower")])


def test_refusals_are_sentences(client: Any) -> None:
    for bad, complaint in [
        (tensor(name="x"), "expected one of the name features"),
        (tensor(ROWS[:, :3].copy()), "expects 8 columns, got 3"),
        (tensor(np.full((1, 8), np.nan, np.float32)), "row 0"),
    ]:
        with pytest.raises(InferenceServerException, match=complaint):
            client.infer(MODEL, [bad])


@pytest.mark.parametrize(
    ("length", "parameters", "data", "code"),
    [
        (None, {"binary_data_size": 64}, b"x" * 64, "invalid_request"),  # without the header all of it is JSON
        ("-1", {}, b"", "invalid_header"),
        ("99999", {}, b"", "invalid_header"),
        ("x", {}, b"", "invalid_header"),
        ("all", {"binary_data_size": 64}, b"x" * 63, "invalid_features"),
        ("all", {"binary_data_size": 10**15}, b"x" * 64, "invalid_features"),
        ("all", {"binary_data_size": -1}, b"", "invalid_request"),
        ("all", {"binary_data_size": 64}, b"x" * 65, "invalid_features"),
        ("all", {}, b"x" * 64, "invalid_features"),
        ("all", {}, b"", "invalid_features"),
        ("all", {"binary_data_size": 64}, b"\xff" * 64, "invalid_features"),
    ],
)
def test_what_is_not_what_it_says(length: str | None, parameters: Any, data: bytes, code: str, url: str) -> None:
    rows = {"name": "features", "shape": [2, 8], "datatype": "FP32", "parameters": parameters}
    head = httpx.Request("POST", url, json={"inputs": [rows]}).content
    given = str(len(head)) if length == "all" else length
    headers = {"Content-Type": "application/octet-stream" if given else "application/json"}
    headers |= {"Inference-Header-Content-Length": given} if given else {}
    answer = httpx.post(f"{url}/v2/models/{MODEL}/infer", content=head + data, headers=headers)
    assert answer.status_code in (400, 422)
    assert (answer.json()["code"], answer.json()["error"]) == (code, answer.json()["detail"])


def test_a_web_page_may_not_leave_the_type_out(url: str) -> None:
    body = b'{"inputs": []}'
    page = httpx.post(f"{url}/v2/models/{MODEL}/infer", content=body, headers={"Origin": "https://evil.example"})
    other = httpx.post(f"{url}/v2/models/{MODEL}/infer", content=body)
    assert (page.status_code, other.status_code) == (422, 422)
    assert "valid dictionary" in page.json()["detail"]
    assert "at least 1 item" in other.json()["detail"]
