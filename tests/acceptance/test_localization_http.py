"""Localization over HTTP as it runs: two gateways, a real worker, a real MLflow registry."""

from __future__ import annotations

import gzip
import json
import math
import os
import signal
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import httpx
import numpy as np
import pytest
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from builders.gateway import RunningGateway, running_gateway
from builders.iq import as_base64, as_lists, iq
from builders.mlflow_server import mlflow_server, registry_client
from builders.onnx_models import register_localizer, tiny_localizer
from builders.service import RunningService, running_service
from builders.waiting import eventually
from uqueue.embedded import EmbeddedRedis, start_redis
from uqueue.gateway.localization.selection import sticky_choice
from uqueue_config.connections import connect

MODEL = "mccp-uq"  # the one that settings alone describe
REGISTERED = "localization_model"
PREFIXES = ("", "/api/v1/inference", "/v1/inference")
NAN = float("nan")


class Strict(BaseModel):
    """As the web client reads: members it knows are of the right type, never null, none is missing."""

    model_config = ConfigDict(strict=True, extra="ignore")


class Place(Strict):
    latitude: float = Field(ge=-90, le=90)
    longitude: float = Field(ge=-180, le=180)


class Sigmas(Strict):
    sigma_x: float = Field(ge=0)
    sigma_y: float = Field(ge=0)
    theta: float = Field(ge=-180, le=180)
    confidence_interval: float = Field(ge=0, le=1)


class Answer(Strict):
    position: Place
    uncertainty: Sigmas
    uncertainty_m: float = Field(ge=0)
    uncertainty_source: Literal["model", "absent"]
    confidence: float = Field(ge=0, le=1)
    confidence_source: Literal["model", "derived"]
    model_version: str
    inference_time_ms: float = Field(ge=0)
    timestamp: str
    session_id: str
    hit: bool = Field(alias="_cache_hit")
    ellipse: dict[str, Any]


class Batch(Strict):
    predictions: list[Answer]
    total_time_ms: float = Field(ge=0)
    samples_per_second: float = Field(ge=0)
    batch_size: int
    batch_id: str


class Moment(BaseModel):
    at: AwareDatetime


@dataclass
class Town:
    service: RunningService
    one: RunningGateway
    two: RunningGateway
    mlflow: str
    cache: EmbeddedRedis


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    folder = tmp_path_factory.mktemp("localization")
    (folder / "mlflow").mkdir()
    with mlflow_server(folder / "mlflow") as mlflow, start_redis(folder / "cache") as cache:
        register_localizer(mlflow, tiny_localizer((52.0, 5.0)), alias="production")
        env = {
            "UQUEUE_ENGINE": "onnx",
            "UQUEUE_ARTIFACT_SOURCE": f"models:/{REGISTERED}@production",
            "UQUEUE_MLFLOW_TRACKING_URL": mlflow,
            "UQUEUE_POLL_SECONDS": "600",  # only what a test asks for
            "UQUEUE_LOCALIZATION_CACHE_URL": cache.url,
            "UQUEUE_LOCALIZATION_RESULT_SECONDS": "6",
            "UQUEUE_LOCALIZATION_ARM_FAILURES": "2",
        }
        with (
            running_service(folder / "service", concurrency=1, beat=False, env=env) as service,
            running_gateway(service.environment, folder / "one") as one,
            running_gateway(service.environment, folder / "two") as two,
        ):
            found = Town(service, one, two, mlflow, cache)
            with httpx.Client(base_url=one.url, timeout=30) as http:
                eventually(
                    lambda: http.post("/predict", json=as_base64(iq())).status_code == 200,
                    "a model answers",
                    seconds=60,
                )
            yield found
            for gateway in (one, two):
                assert [line for line in gateway.lines if line["event"] == "unforeseen"] == []


@pytest.fixture
def http(town: Town) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=town.one.url, timeout=30) as client:
        yield client


def answer(response: httpx.Response) -> Answer:
    assert response.status_code == 200, response.text
    found = Answer.model_validate(response.json())
    assert found.timestamp.endswith("Z")
    assert Moment.model_validate({"at": found.timestamp}).at.year >= 2024
    return found


def problem(response: httpx.Response, status: int, error: str) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert (body["status"], body["error"]) == (status, error), body
    assert body["message"] == body["detail"]
    assert body["timestamp"].endswith("Z")
    assert body["request_id"] == response.headers["x-request-id"]
    assert {"type", "title", "instance"} <= set(body)
    assert ("retry-after" in response.headers) == (status == 503)
    return body


@pytest.mark.parametrize("prefix", PREFIXES)
def test_both_forms_on_every_path(http: httpx.Client, prefix: str) -> None:
    samples = iq(1, 4096, 3)
    given = {"session_id": "van-7", "cache_enabled": False, "sample_rate_hz": 192_500, "frequency_mhz": 144.3, "new": 1}
    first = answer(http.post(f"{prefix}/predict", json=as_lists(samples, **given)))
    second = answer(http.post(f"{prefix}/predict", json=as_base64(samples, **given)))
    assert first.position == second.position
    assert (first.session_id, first.hit, second.hit) == ("van-7", False, False)
    assert abs(first.position.latitude - 52.0) < 0.002
    assert 20 < first.uncertainty.sigma_y < 50  # 0.0003 degrees north, in metres
    assert (first.uncertainty_source, first.confidence_source) == ("model", "derived")
    assert first.uncertainty_m == pytest.approx(
        math.sqrt(first.ellipse["semi_major_axis_m"] * first.ellipse["semi_minor_axis_m"])
    )
    ring = first.ellipse["feature"]["geometry"]["coordinates"][0]
    assert len(ring) == 65
    assert ring[0] == ring[-1]


def test_one_receiver_stands_for_all(http: httpx.Client) -> None:
    samples = iq(2)
    positions = [
        answer(http.post("/predict", json=as_base64(one, cache_enabled=False))).position
        for one in (samples, samples[None], np.stack([samples] * 3))
    ]
    assert positions[0] == positions[1] == positions[2]


def test_a_body_may_be_gzip(http: httpx.Client) -> None:
    packed = gzip.compress(json.dumps(as_base64(iq(3))).encode())
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    answer(http.post("/predict", content=packed, headers=headers))
    bomb = gzip.compress(b"[" + b" " * (16 * 1024 * 1024) + b"]")
    problem(http.post("/predict", content=bomb, headers=headers), 413, "BodyTooLarge")


@pytest.mark.parametrize(
    ("members", "status", "error"),
    [
        ({"iq_base64": "!!!!"}, 400, "InvalidSamples"),
        ({"iq_base64": "AAAA"}, 400, "InvalidSamples"),
        ({"shape": [2049]}, 400, "InvalidSamples"),
        ({"shape": [2, 1024]}, 400, "InvalidSamples"),
        (as_base64(iq(n=2047)), 400, "InvalidSamples"),
        (as_base64(iq(n=2048, receivers=2)), 400, "InvalidSamples"),
        (as_base64(np.full(2048, complex(NAN, 0), np.complex64)), 400, "InvalidSamples"),
        ({"sample_rate_hz": 12_500}, 400, "InvalidSamples"),
        ({"shape": [1, 1, 2048]}, 422, "InvalidRequest"),
        ({"shape": None}, 422, "InvalidRequest"),
        ({"iq_base64": None}, 422, "InvalidRequest"),
        ({"iq_data": [[0, 1]]}, 422, "InvalidRequest"),
        ({"iq_base64": None, "shape": None, "iq_data": [[0, 1], [2]]}, 422, "InvalidRequest"),
        ({"iq_base64": None, "shape": None, "iq_data": [0, 1]}, 422, "InvalidRequest"),
        ({"iq_base64": None, "shape": None, "iq_data": "text"}, 422, "InvalidRequest"),
        ({"iq_base64": None, "shape": None, "iq_data": [[[0, 1]], [[0, 1], [2, 3]]]}, 422, "InvalidRequest"),
        ({"session_id": 5}, 422, "InvalidRequest"),
        ({"cache_enabled": "no"}, 422, "InvalidRequest"),
    ],
)
def test_what_is_refused_and_how(http: httpx.Client, members: dict[str, Any], status: int, error: str) -> None:
    body = as_base64(iq()) | members
    problem(http.post("/predict", json=body), status, error)
    found = problem(http.post("/predict/batch", json={"predictions": [as_base64(iq()), body]}), status, error)
    assert found["index"] == 1


def test_what_is_no_request(http: httpx.Client) -> None:
    headers = {"Content-Type": "application/json"}
    for path in ("/predict", "/predict/batch"):
        problem(http.post(path, content=b"{", headers=headers), 400, "InvalidJson")
        problem(http.post(path, content=b'{"iq_data": [[NaN, 0]]}', headers=headers), 400, "InvalidJson")
        problem(http.post(path, content=b"[]", headers=headers), 422, "InvalidRequest")
        problem(http.post(path, content=b"x" * (16 * 1024 * 1024 + 1), headers=headers), 413, "BodyTooLarge")
        problem(http.post(path, content=b"{}", headers={"Content-Type": "text/plain"}), 415, "UnsupportedMediaType")
        problem(http.get(path), 405, "MethodNotAllowed")
    problem(http.post("/v1/inference/nothing"), 404, "NotFound")


def test_repeats_come_from_the_cache_with_fresh_fields(town: Town, http: httpx.Client) -> None:
    before = http.get("/model/cache").json()
    body = as_base64(iq(10))
    first, again = (answer(http.post("/predict", json=body)) for _ in range(2))
    with httpx.Client(base_url=town.two.url) as other:
        third = answer(other.post("/predict", json={**body, "session_id": "van-9"}))
    lists = answer(http.post("/predict", json=as_lists(iq(10))))
    assert [one.hit for one in (first, again, third, lists)] == [False, True, True, True]
    assert first.position == again.position == third.position
    assert first.timestamp < again.timestamp
    assert first.session_id != again.session_id
    assert third.session_id == "van-9"
    eventually(lambda: http.get("/model/cache").json()["total"] == before["total"] + 4, "hits and misses are counted")
    after = http.get("/model/cache").json()
    assert (after["hits"] - before["hits"], after["misses"] - before["misses"]) == (3, 1)
    assert 0 < after["hit_rate"] < 1
    assert after["keys"] >= 1
    assert after["memory_used_bytes"] > 0


def test_without_the_cache_nothing_is_read_written_or_counted(town: Town, http: httpx.Client) -> None:
    answer(http.post("/predict", json=as_base64(iq(11), cache_enabled=False)))
    assert not answer(http.post("/predict", json=as_base64(iq(11)))).hit  # the first left nothing
    assert not answer(http.post("/predict", json=as_base64(iq(11), cache_enabled=False))).hit


def test_a_batch_is_answered_in_its_order_and_equal_items_once(http: httpx.Client) -> None:
    seeds = [20, 21, 20, 22]
    singles = {
        seed: answer(http.post("/predict", json=as_base64(iq(seed), cache_enabled=False))) for seed in set(seeds)
    }
    items = [as_base64(iq(seed), session_id=f"s{seed}") for seed in seeds]
    response = http.post("/predict/batch", json={"predictions": items})
    found = Batch.model_validate(response.json())
    assert [one.session_id for one in found.predictions] == ["s20", "s21", "s20", "s22"]
    assert [one.hit for one in found.predictions] == [False, False, True, False]
    for seed, one in zip(seeds, found.predictions, strict=True):
        assert one.position.latitude == pytest.approx(singles[seed].position.latitude, abs=1e-6)
    times = [one.inference_time_ms for one in found.predictions]
    assert max(times) == found.total_time_ms <= sum(times)
    assert found.batch_size == 4
    assert found.samples_per_second == pytest.approx(4000 / found.total_time_ms)
    assert not {"indices", "errors"} & set(response.json())


def test_a_batch_of_lists_with_lengths_of_their_own(http: httpx.Client) -> None:
    samples = [as_lists(iq(seed, 2048 + 512 * seed))["iq_data"] for seed in range(3)]
    body = {"iq_samples": samples, "session_id": "van-7", "cache_enabled": False}
    found = Batch.model_validate(http.post("/api/v1/inference/predict/batch", json=body).json())
    assert [(one.session_id, one.hit) for one in found.predictions] == [("van-7", False)] * 3


def test_the_largest_batch_travels_in_several_jobs(http: httpx.Client) -> None:
    items = [as_base64(iq(seed), cache_enabled=False) for seed in range(100)]
    found = Batch.model_validate(http.post("/predict/batch", json={"predictions": items}).json())
    assert found.batch_size == len(found.predictions) == 100
    for seed in (0, 31, 32, 99):
        alone = answer(http.post("/predict", json=items[seed]))
        assert found.predictions[seed].position.latitude == pytest.approx(alone.position.latitude, abs=1e-6)
    problem(http.post("/predict/batch", json={"predictions": [*items, items[0]]}), 422, "InvalidRequest")


def test_a_batch_may_go_on_without_some_items(http: httpx.Client) -> None:
    items = [{}, as_base64(iq(30)), as_base64(iq(n=2047)), as_base64(iq(31))]
    body = http.post("/predict/batch", json={"predictions": items, "continue_on_error": True}).json()
    Batch.model_validate(body)
    assert body["indices"] == [1, 3]
    assert [(one["index"], one["error"]) for one in body["errors"]] == [(0, "InvalidRequest"), (2, "InvalidSamples")]
    assert all(one["message"] for one in body["errors"])
    wrong = {"predictions": [items[2], items[0]], "continue_on_error": True}
    assert problem(http.post("/predict/batch", json=wrong), 400, "InvalidSamples")["index"] == 0


def test_what_is_known_of_the_model(http: httpx.Client) -> None:
    answer(http.post("/predict", json=as_base64(iq(40))))
    info = http.get("/model/info").json()
    assert (info["name"], info["version"], info["status"], info["alias"]) == (MODEL, "1", "ready", "production")
    assert info["feature_recipe"] == "envelope-logmel-v1"
    assert (info["sample_rate_hz"], info["receivers"]) == (192_000, 3)
    assert info["worker_versions"] == {"1": 1}
    assert info["accuracy_meters"] is None
    listed = http.get("/model/versions").json()
    assert (listed["active"], listed["loaded_count"], listed["max_versions"]) == ("1", 1, 5)
    assert [(one["version"], one["weight"], one["is_active"]) for one in listed["versions"]] == [("1", 1.0, True)]


def test_shares_sessions_and_a_test_on_two_gateways(town: Town, http: httpx.Client) -> None:
    number = register_localizer(town.mlflow, tiny_localizer((48.0, 11.0), seed=2))
    problem(http.post("/model/ab-test", json={"a": "1", "b": number}), 409, "VersionConflict")
    listed = http.put(f"/model/versions/{number}", json={"weight": 0}).json()
    assert {one["version"]: one["weight"] for one in listed["versions"]} == {"1": 1.0, number: 0.0}
    started = http.post("/model/ab-test", json={"a": "1", "b": number, "traffic_split": 0.5})
    assert started.status_code == 200, started.text
    problem(http.post("/model/ab-test", json={"a": "1", "b": number}), 409, "VersionConflict")
    shares = {"1": 0.5, number: 0.5}
    expected = {f"van-{one}": sticky_choice(shares, f"van-{one}", MODEL) for one in range(12)}
    assert set(expected.values()) == {"1", number}
    with httpx.Client(base_url=town.two.url, timeout=30) as other:
        eventually(lambda: other.get("/model/versions").json()["ab_test"] is not None, "the other gateway has heard")
        for client in (http, other):
            for session, version in expected.items():
                found = answer(client.post("/predict", json=as_base64(iq(50), session_id=session)))
                assert found.model_version == version
                assert abs(found.position.latitude - {"1": 52.0, number: 48.0}[version]) < 0.01
        items = [as_base64(iq(seed)) for seed in range(51, 59)]
        batch = Batch.model_validate(other.post("/predict/batch", json={"predictions": items}).json())
        assert len({one.model_version for one in batch.predictions}) == 1
    test = eventually_test(http, 25)
    assert test["routed_to_a"] + test["routed_to_b"] == 25
    ended = http.delete("/model/ab-test", params={"winner": number}).json()
    assert (ended["ab_test"], ended["active"], ended["previous"]) == (None, number, "1")
    assert answer(http.post("/predict", json=as_base64(iq(50), session_id="van-1"))).model_version == number
    problem(http.delete(f"/model/versions/{number}"), 409, "VersionConflict")
    problem(http.delete("/model/ab-test"), 404, "TestNotFound")
    back = http.post("/model/reload").json()
    assert (back["success"], back["previous_version"], back["new_version"]) == (True, number, "1")
    for version in (number, "1"):
        again = http.post("/model/reload", json={"version_id": version}).json()
        assert (again["new_version"], again["requests_drained"]) == (version, 0)


def eventually_test(http: httpx.Client, requests: int) -> dict[str, Any]:
    def counted() -> int:
        test = http.get("/model/versions").json()["ab_test"]
        return int(test["routed_to_a"] + test["routed_to_b"])

    eventually(lambda: counted() == requests, "all requests of the test are counted")
    return dict(http.get("/model/versions").json()["ab_test"])


def test_a_test_ends_by_itself(town: Town, http: httpx.Client) -> None:
    number = register_localizer(town.mlflow, tiny_localizer((47.0, 8.0), seed=3))
    assert http.put(f"/model/versions/{number}", json={"weight": 0}).status_code == 200
    body = {"a": "1", "b": number, "traffic_split": 0.5, "duration_seconds": 0.3}
    assert http.post("/model/ab-test", json=body).json()["ends_at"].endswith("Z")
    eventually(lambda: http.get("/model/versions").json()["ab_test"] is None, "the test is over")
    assert answer(http.post("/predict", json=as_base64(iq(60)))).model_version == "1"
    assert http.delete(f"/model/versions/{number}").status_code == 200


def test_a_version_that_cannot_be_loaded_is_listed_and_gets_nothing(town: Town, http: httpx.Client) -> None:
    number = register_localizer(town.mlflow, tiny_localizer(), tags={"output_encoding": "nonsense"})
    problem(http.put(f"/model/versions/{number}", json={"weight": 0.5}), 503, "ModelNotLoaded")
    listed = {one["version"]: one for one in http.get("/model/versions").json()["versions"]}
    assert listed[number]["status"] == "error"
    assert listed[number]["error"]
    assert listed[number]["weight"] == 0
    for seed in range(4):
        assert answer(http.post("/predict", json=as_base64(iq(seed)))).model_version == "1"
    assert http.delete(f"/model/versions/{number}").status_code == 200


def test_outputs_that_cannot_be_are_neither_shown_nor_kept_and_their_version_is_left_out(
    town: Town, http: httpx.Client
) -> None:
    # silence is all zeros, for which the answer is good; whatever else comes in moves it beyond the pole
    number = register_localizer(town.mlflow, tiny_localizer((89.0, 5.0), sway=1e4, seed=5))
    assert http.put(f"/model/versions/{number}", json={"weight": 1}).status_code == 200
    mixed = {"predictions": [as_base64(np.zeros_like(iq(70))), as_base64(iq(70))]}
    assert problem(http.post("/predict/batch", json=mixed), 500, "ModelOutputInvalid")["index"] == 1
    batch = {"predictions": [as_base64(iq(71))], "continue_on_error": True}
    problem(http.post("/predict/batch", json=batch), 500, "ModelOutputInvalid")
    eventually(lambda: events(town, "version_excluded"), "two failures were enough")
    eventually(lambda: http.post("/predict", json=as_base64(iq(72))) and events(town, "version_is_back"), "it is tried")
    assert http.put("/model/versions/1", json={"weight": 1}).status_code == 200
    assert http.put(f"/model/versions/{number}", json={"weight": 0}).status_code == 200
    assert http.delete(f"/model/versions/{number}").status_code == 200
    assert answer(http.post("/predict", json=as_base64(iq(70)))).model_version == "1"


def events(town: Town, event: str) -> list[dict[str, Any]]:
    return [line for line in town.one.lines if line["event"] == event]


def test_a_reload_under_load_refuses_nothing(town: Town, http: httpx.Client) -> None:
    stop, seen = threading.Event(), []

    def ask(seed: int) -> None:
        with httpx.Client(base_url=town.two.url, timeout=30) as client:
            while not stop.is_set():
                seen.append(client.post("/predict", json=as_base64(iq(seed), cache_enabled=False)))

    number = register_localizer(town.mlflow, tiny_localizer((40.0, -3.0), seed=6))
    with ThreadPoolExecutor(2) as pool:
        asking = [pool.submit(ask, seed) for seed in range(2)]
        try:
            eventually(lambda: len(seen) > 5, "requests are answered")
            registry_client(town.mlflow).set_registered_model_alias(REGISTERED, "production", number)
            body = http.post("/model/reload", json={"stage": "Production", "force": True}).json()
            eventually(lambda: seen[-1].json().get("model_version") == number, "the new version answers")
        finally:
            stop.set()
    for one in asking:
        one.result()
    assert {response.status_code for response in seen} == {200}
    order = [response.json()["model_version"] for response in seen]
    assert order[0] == "1"
    assert (body["success"], body["previous_version"], body["new_version"]) == (True, "1", number)
    assert body["reload_time_ms"] > 0
    assert answer(http.post("/predict", json=as_base64(iq(50)))).position.latitude < 41


def test_of_two_reloads_one_is_told_to_wait(town: Town, http: httpx.Client) -> None:
    with httpx.Client(base_url=town.two.url, timeout=30) as other, ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(client.post, "/model/reload") for client in (http, other, http, other)]
        found = [one.result() for one in asked]
    assert {one.status_code for one in found} == {200, 409}
    problem(next(one for one in found if one.status_code == 409), 409, "ReloadRunning")


def test_a_refused_version_leaves_the_old_one(town: Town, http: httpx.Client) -> None:
    before = http.get("/model/info").json()["version"]
    number = register_localizer(town.mlflow, tiny_localizer(), tags={"sha256": "0" * 64})
    registry_client(town.mlflow).set_registered_model_alias(REGISTERED, "production", number)
    assert "serves on" in problem(http.post("/model/reload"), 503, "ReloadFailed")["detail"]
    assert answer(http.post("/predict", json=as_base64(iq(80)))).model_version == before
    assert "error" in {one["status"] for one in http.get("/model/versions").json()["versions"]}
    registry_client(town.mlflow).set_registered_model_alias(REGISTERED, "production", before)


def test_a_hangup_reloads_and_ends_nothing(town: Town, http: httpx.Client) -> None:
    number = register_localizer(town.mlflow, tiny_localizer((30.0, 31.0), seed=7))
    registry_client(town.mlflow).set_registered_model_alias(REGISTERED, "production", number)
    town.one.service.send(signal.SIGHUP)
    eventually(lambda: http.get("/model/info").json()["version"] == number, "the new version is there")
    assert town.one.service.returncode is None


def test_a_client_that_goes_away_takes_its_job_along(town: Town) -> None:
    worker = town.service.worker_processes()[-1]
    worker.suspend()
    try:
        body = json.dumps(as_base64(iq(90), cache_enabled=False)).encode()
        lines = ["POST /predict HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json"]
        head = "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""])
        port = int(town.one.url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(head.encode() + body)
            eventually(lambda: {b"queued", b"running"} & jobs(town, "state"), "its job waits")
        eventually(lambda: town.one.requests(path="/predict", status=499), "the request is given up", seconds=5)
        eventually(
            lambda: b"1" in jobs(town, "cancel_requested") or b"cancelled" in jobs(town, "state"), "its job ends"
        )
    finally:
        worker.resume()


def jobs(town: Town, member: str) -> set[Any]:
    with connect(town.service.settings.broker) as redis:
        return {redis.hget(key, member) for key in redis.scan_iter("uqueue:job:*", 1000)}


def test_without_an_answer_in_time(town: Town, http: httpx.Client) -> None:
    with running_gateway(
        town.service.environment, town.service.folder / "short", localization_result_seconds="0.3"
    ) as short:
        worker = town.service.worker_processes()[-1]
        with httpx.Client(base_url=short.url, timeout=30) as client:
            answer(client.post("/predict", json=as_base64(iq(91))))
            worker.suspend()
            try:
                problem(client.post("/predict", json=as_base64(iq(92))), 504, "ResultTimeout")
                assert answer(client.post("/predict", json=as_base64(iq(91)))).hit  # what is kept needs no worker
            finally:
                worker.resume()
        with httpx.Client(base_url=short.url, timeout=30) as client:
            short.service.send(signal.SIGTERM)
            eventually(lambda: short.service.returncode is not None, "it ends")
    assert answer(http.post("/predict", json=as_base64(iq(93)))).model_version


def test_losing_the_cache_is_no_error(town: Town, http: httpx.Client) -> None:
    town.cache.stop()
    for _ in range(3):
        assert not answer(http.post("/predict", json=as_base64(iq(95)))).hit
    problem(http.get("/model/cache"), 503, "CacheUnreachable")


def test_without_workers_the_wait_is_bounded(town: Town, http: httpx.Client) -> None:
    town.service.services["worker"].stop()
    eventually(lambda: http.post("/predict", json=as_base64(iq(96))).status_code == 503, "it says so", seconds=30)
    problem(http.post("/predict", json=as_base64(iq(96))), 503, "ModelNotLoaded")
    problem(http.post("/predict/batch", json={"predictions": [as_base64(iq(96))]}), 503, "ModelNotLoaded")


def test_without_a_model_the_answer_says_so(tmp_path: Path) -> None:
    with start_redis(tmp_path / "redis") as redis:
        environment = {**os.environ, "UQUEUE_BROKER_URL": redis.url}
        with running_gateway(environment, tmp_path / "gateway") as gateway, httpx.Client(base_url=gateway.url) as http:
            problem(http.post("/predict", json=as_base64(iq())), 503, "ModelNotLoaded")
            for path in ("/model/info", "/model/versions"):
                problem(http.get(path), 503, "ModelNotLoaded")
