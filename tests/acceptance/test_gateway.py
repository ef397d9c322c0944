"""The gateway as it runs: its own process, over real HTTP, before a real worker."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest

from builders.artifacts import mqnn_h5_bytes, write_workspace
from builders.gateway import RunningGateway, running_gateway
from builders.service import RunningService, running_service
from builders.waiting import eventually
from builders.worker_log import check_traces

ROW = [0.98, 514.5, 294.0, 110.25, 7.0, 2, 0.0, 0]
WAIT = {"Prefer": "wait=20"}


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningService, RunningGateway]]:
    folder = tmp_path_factory.mktemp("gateway")
    write_workspace(folder / "workspace")
    with (
        running_service(folder / "service", workspace=folder / "workspace", concurrency=1) as service,
        running_gateway(service.environment, folder / "gateway") as gateway,
    ):
        yield service, gateway


@pytest.fixture
def service(town: tuple[RunningService, RunningGateway]) -> RunningService:
    return town[0]


@pytest.fixture
def gateway(town: tuple[RunningService, RunningGateway]) -> RunningGateway:
    return town[1]


@pytest.fixture
def http(gateway: RunningGateway) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=gateway.url, timeout=40) as client:
        yield client


def problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert (body["status"], body["code"], body["type"]) == (status, code, f"urn:uqueue:problem:{code}")
    return body


def test_submit_poll_and_read(service: RunningService, http: httpx.Client) -> None:
    accepted = http.post("/v1/jobs", json={"features": [ROW, ROW], "seed": 11})
    assert accepted.status_code == 202
    assert int(accepted.headers["retry-after"]) >= 1
    job = accepted.headers["location"]
    assert accepted.json()["links"] == {"self": job, "result": f"{job}/result", "events": f"{job}/events"}
    eventually(lambda: http.get(job).json()["state"] == "succeeded", "the job ends")
    result = http.get(f"{job}/result")
    assert result.status_code == 200
    direct = service.client.submit([ROW, ROW], seed=11).result(timeout=20)
    assert result.json()["lower"] == direct.lower.tolist()
    assert result.json()["model"]["version"] == direct.model.version
    packed = http.get(f"{job}/result", params={"encoding": "base64"}).json()
    assert packed["upper"]["dtype"] == "<f8"


def test_the_client_reads_what_the_gateway_accepted(service: RunningService, http: httpx.Client) -> None:
    job = http.post("/v1/jobs", json={"features": [ROW]}).json()["id"]
    assert len(service.client.job(job).result(timeout=20)) == 1


def test_prefer_wait_answers_in_one_request(http: httpx.Client) -> None:
    answer = http.post("/v1/jobs", json={"features": [ROW]}, headers={"Prefer": "respond-async, wait=20"})
    assert answer.status_code == 200
    assert answer.headers["preference-applied"] == "wait=20"
    assert answer.headers["location"].startswith("/v1/jobs/")
    assert np.shape(answer.json()["lower"]) == (1, 2)


def test_features_as_base64(http: httpx.Client) -> None:
    import base64

    data = base64.b64encode(np.array([ROW], "<f4").tobytes()).decode()
    packed = {"dtype": "<f4", "shape": [1, 8], "data": data}
    one = http.post("/v1/jobs", json={"features": packed, "seed": 3}, headers=WAIT).json()
    assert one["lower"] == http.post("/v1/jobs", json={"features": [ROW], "seed": 3}, headers=WAIT).json()["lower"]
    problem(http.post("/v1/jobs", json={"features": packed | {"shape": [2, 8]}}), 422, "invalid_features")


def test_the_same_key_is_the_same_job(http: httpx.Client) -> None:
    headers = {"Idempotency-Key": '"order-17"'}
    first = http.post("/v1/jobs", json={"features": [ROW], "seed": 1}, headers=headers).json()["id"]
    assert http.post("/v1/jobs", json={"features": [ROW], "seed": 1}, headers=headers).json()["id"] == first
    body = problem(
        http.post("/v1/jobs", json={"features": [ROW], "seed": 2}, headers=headers), 409, "idempotency_conflict"
    )
    assert "'order-17'" in body["detail"]


def test_wrong_features_say_where(http: httpx.Client) -> None:
    body = problem(http.post("/v1/jobs", json={"features": [ROW, [1, 2]]}), 422, "invalid_features")
    assert "row 1 has 2" in body["detail"]
    body = problem(http.post("/v1/jobs", json={"features": [ROW[:3]]}), 422, "invalid_features")
    assert "expects 8 columns, got 3" in body["detail"]


def test_a_job_that_fails_says_why(http: httpx.Client) -> None:
    answer = http.post("/v1/jobs", json={"features": [ROW], "model": "nobody"}, headers=WAIT)
    problem(answer, 422, "unknown_model")
    answer = http.post("/v1/jobs", json={"features": [ROW], "version": "0123456789abcdef"}, headers=WAIT)
    problem(answer, 422, "version_not_served")


def test_unknown_jobs(http: httpx.Client) -> None:
    for answer in (
        http.get("/v1/jobs/x"),
        http.get("/v1/jobs/x/result"),
        http.get("/v1/jobs/x/events"),
        http.delete("/v1/jobs/x"),
    ):
        assert problem(answer, 404, "job_not_found")["job_id"] == "x"


def test_a_result_past_its_retention_is_gone(service: RunningService, http: httpx.Client) -> None:
    import redis

    from uqueue_config.names import result_key

    accepted = http.post("/v1/jobs", json={"features": [ROW]})
    service.client.job(accepted.json()["id"]).result(timeout=20)
    with redis.Redis.from_url(service.redis.url) as store:
        store.delete(result_key(accepted.json()["id"]))
    problem(http.get(accepted.json()["links"]["result"]), 410, "result_expired")


def test_cancelled_and_expired_jobs_are_gone(service: RunningService, http: httpx.Client) -> None:
    service.services["worker"].stop()
    try:
        cancelled = http.post("/v1/jobs", json={"features": [ROW]}).json()["links"]
        expired = http.post("/v1/jobs", json={"features": [ROW], "expires": 0.05}).json()["links"]
        waiting = http.post("/v1/jobs", json={"features": [ROW]}, headers={"Prefer": "wait=1"})
        assert (waiting.status_code, waiting.headers["preference-applied"]) == (202, "respond-async")
        assert http.get(waiting.json()["links"]["result"]).status_code == 202
        answer = http.delete(cancelled["self"])
        assert (answer.status_code, answer.json()["state"]) == (200, "cancelled")
        problem(http.get(cancelled["result"]), 410, "job_cancelled")
        eventually(lambda: http.get(expired["self"]).json()["state"] == "expired", "the job expires")
        problem(http.get(expired["result"]), 410, "job_expired")
        eventually(lambda: http.get("/ready").status_code == 503, "not ready without a worker", seconds=30)
        assert http.get("/health").status_code == 200
        inference = http.post("/v2/models/mccp-uq/versions/0123456789abcdef/infer", json={})
        assert problem(inference, 422, "invalid_request")["error"]
        metrics = http.get("/metrics").text
        assert float(re.search(r"^uqueue_jobs_waiting (\S+)$", metrics, re.M)[1]) >= 1  # type: ignore[index]
    finally:
        service.start_worker()
    eventually(lambda: http.get("/ready").status_code == 200, "ready again")
    result = http.get(waiting.json()["links"]["result"], headers=WAIT)
    assert result.status_code == 200


def test_events_tell_of_the_end_once(http: httpx.Client) -> None:
    job = http.post("/v1/jobs", json={"features": [ROW]}).json()["links"]
    with http.stream("GET", job["events"]) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        text = "".join(stream.iter_text())
    blocks = [dict(line.split(": ", 1) for line in block.splitlines()) for block in text.strip().split("\n\n")]
    assert blocks[0] == {"retry": "1000"}
    assert blocks[-1]["event"] == "end"
    assert json.loads(blocks[-1]["data"])["state"] == "succeeded"
    assert len({block["id"] for block in blocks[1:]}) == len(blocks) - 1
    heard = http.get(job["events"], headers={"Last-Event-ID": blocks[-1]["id"]})
    assert heard.status_code == 204
    again = http.get(job["events"], headers={"Last-Event-ID": "0-0-0"})
    assert again.text.count("event: end") == 1


def test_events_follow_a_job_from_the_queue_to_its_end(service: RunningService, http: httpx.Client) -> None:
    service.services["worker"].stop()
    heard: list[str] = []

    def listen(url: str) -> None:
        with httpx.Client(base_url=http.base_url, timeout=60) as own, own.stream("GET", url) as stream:
            heard.extend(line.removeprefix("data: ") for line in stream.iter_lines() if line.startswith("data: "))

    try:
        job = http.post("/v1/jobs", json={"features": [ROW]}).json()["links"]
        listener = threading.Thread(target=listen, args=(job["events"],))
        listener.start()
        time.sleep(0.5)
    finally:
        service.start_worker()
    listener.join(30)
    assert not listener.is_alive()
    states = [json.loads(data)["state"] for data in heard]
    assert states[0] == "queued"
    assert states[-1] == "succeeded"


def test_models_and_reload(service: RunningService, http: httpx.Client) -> None:
    (model,) = http.get("/v1/models").json()["models"]
    assert (model["name"], model["converged"]) == ("mccp-uq", True)
    assert {process["state"] for process in model["processes"]} == {"ready"}
    report = http.post("/v1/models/mccp-uq/reload").json()
    assert report["poll"]["outcome"] in ("unchanged", "elsewhere", "overtaken")
    before = model["wanted_version"]
    workspace = service.settings.workspace_root
    assert workspace is not None
    write_workspace(workspace, model=mqnn_h5_bytes(seed=9), q_hat=np.array([0.5, 0.5]))
    eventually(
        lambda: http.post("/v1/models/mccp-uq/reload").json()["model"]["wanted_version"] != before, "it is taken over"
    )
    problem(http.post("/v1/models/nobody/reload"), 404, "unknown_model")


def test_open_inference(service: RunningService, http: httpx.Client) -> None:
    assert http.get("/v2/health/live").json() == {"live": True}
    assert http.get("/v2/health/ready").json() == {"ready": True}
    assert http.get("/v2").json()["name"] == "uqueue"
    metadata = http.get("/v2/models/mccp-uq").json()
    assert metadata["inputs"] == [{"name": "features", "datatype": "FP32", "shape": [-1, 8]}]
    assert {"name": "lower", "datatype": "FP64", "shape": [-1, 2]} in metadata["outputs"]
    (version,) = metadata["versions"]
    path = f"/v2/models/mccp-uq/versions/{version}"
    assert http.get(path).json() == metadata
    assert http.get(f"{path}/ready").json() == {"name": "mccp-uq", "ready": True}
    assert http.get("/v2/models/mccp-uq/ready").status_code == 200
    tensor = {"name": "features", "shape": [2, 8], "datatype": "FP32", "data": ROW + ROW}
    body = {"id": "mine", "inputs": [tensor], "parameters": {"seed": 5}}
    answer = http.post("/v2/models/mccp-uq/infer", json=body)
    assert answer.status_code == 200, answer.text
    assert {name: answer.json()[name] for name in ("model_name", "model_version", "id")} == {
        "model_name": "mccp-uq",
        "model_version": version,
        "id": "mine",
    }
    direct = service.client.submit([ROW, ROW], seed=5).result(timeout=20)
    outputs = {one["name"]: one for one in answer.json()["outputs"]}
    assert outputs["lower"]["data"] == direct.lower.ravel().tolist()
    assert outputs["pass_std"]["shape"] == [2, 2, 2]
    nested = tensor | {"data": [ROW, ROW]}
    body = {"inputs": [nested], "outputs": [{"name": "upper"}], "parameters": {"seed": 5}}
    pinned = http.post(f"{path}/infer", json=body).json()
    assert [one["name"] for one in pinned["outputs"]] == ["upper"]
    assert pinned["outputs"][0]["data"] == direct.upper.ravel().tolist()


def test_open_inference_refuses_in_its_own_way(http: httpx.Client) -> None:
    tensor = {"name": "features", "shape": [2, 8], "datatype": "FP32", "data": ROW}
    url = "/v2/models/mccp-uq/infer"
    body = problem(http.post(url, json={"inputs": [tensor]}), 422, "invalid_features")
    assert body["error"] == body["detail"] == "features: shape [2, 8] needs 16 numbers in data, got 8."
    good = tensor | {"shape": [1, 8]}
    problem(http.post(url, json={"inputs": [good | {"name": "x"}]}), 422, "unknown_tensor")
    problem(http.post(url, json={"inputs": [good], "outputs": [{"name": "x"}]}), 422, "unknown_tensor")
    problem(http.post("/v2/models/nobody/infer", json={"inputs": [good]}), 404, "unknown_model")
    problem(http.get("/v2/models/mccp-uq/versions/0123456789abcdef"), 404, "version_not_served")
    problem(http.get("/v2/models/mccp-uq/versions/0123456789abcdef/ready"), 503, "not_ready")


def test_identity_of_a_request_is_in_answer_and_log(gateway: RunningGateway, http: httpx.Client) -> None:
    trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"
    sent = {"X-Request-Id": "request-7", "traceparent": f"00-{trace_id}-00f067aa0ba902b7-01"}
    answer = http.post("/v1/jobs", json={"features": [ROW]}, headers=sent)
    assert answer.headers["x-request-id"] == "request-7"
    _, returned, span_id, flags = answer.headers["traceparent"].split("-")
    assert (returned, flags) == (trace_id, "01")
    assert span_id != "00f067aa0ba902b7"
    eventually(lambda: gateway.requests(request_id="request-7"), "the request is in the log")
    (line,) = gateway.requests(request_id="request-7")
    assert (line["trace_id"], line["span_id"], line["status"]) == (trace_id, span_id, 202)
    assert line["job_id"] == answer.json()["id"]


def test_a_request_is_found_in_the_log_of_the_worker(service: RunningService, gateway: RunningGateway) -> None:
    check_traces(service, gateway)


def test_webhooks_want_a_secret_to_sign_with(http: httpx.Client) -> None:
    webhook = {"url": "https://example.org/hook"}
    problem(http.post("/v1/jobs", json={"features": [ROW], "webhook": webhook}), 422, "webhooks_not_configured")


def test_metrics_count_requests_by_route(http: httpx.Client) -> None:
    http.get("/v1/jobs/some-job")
    text = http.get("/metrics").text
    assert re.search(
        r'^uqueue_gateway_requests_total\{method="GET",route="/v1/jobs/\{id\}",status="404"\} ', text, re.M
    )
    assert re.search(
        r'^uqueue_model_processes\{model="mccp-uq",state="ready",version="[0-9a-f]{16}"\} 1\.0$', text, re.M
    )
    assert "some-job" not in text


def test_a_name_that_leads_here_is_not_enough(http: httpx.Client) -> None:
    problem(http.get("/v1/models", headers={"Host": "evil.example"}), 421, "misdirected_request")
