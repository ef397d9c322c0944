"""Metrics, analytics and health of the localization service: two gateways, one worker, one set of figures."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from builders.gateway import RunningGateway, running_gateway
from builders.guarded_redis import guarded_redis
from builders.iq import as_base64, iq
from builders.onnx_models import tiny_localizer, write_localizer
from builders.service import RunningService, running_service
from builders.waiting import eventually
from uqueue.embedded import EmbeddedRedis, start_redis
from uqueue.local import child_environment
from uqueue_config.settings import Settings

MODEL = "mccp-uq"  # the one that settings alone describe
PREFIXES = ("/v1/analytics", "/api/v1/analytics")
HEALTH = ("/health", "/v1/inference/health", "/api/v1/inference/health", "/api/api/v1/inference/health")
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=0)]


class Strict(BaseModel):
    """As the web client's own schemas: types are not coerced, nothing is missing. `no_null` checks the rest."""

    model_config = ConfigDict(strict=True, extra="forbid")


class Info(Strict):
    active_version: str
    stage: str
    model_name: str
    loaded_at: str
    uptime_seconds: Positive
    is_ready: bool
    health_status: Literal["healthy", "degraded", "unhealthy"]
    latency_p95_ms: Positive = 0
    cache_hit_rate: Share = 0
    last_prediction_at: str = ""
    predictions_total: Count = 0
    predictions_successful: Count = 0
    predictions_failed: Count = 0
    error_message: str = ""


class Performance(Strict):
    inference_latency_ms: Positive
    p50_latency_ms: Positive
    p95_latency_ms: Positive
    p99_latency_ms: Positive
    throughput_samples_per_second: Positive
    cache_hit_rate: Share
    success_rate: Share
    predictions_total: Count
    requests_total: Count
    errors_total: Count
    uptime_seconds: Positive
    timestamp: str


class Localization(Strict):
    id: str
    session_id: str
    timestamp: str
    latitude: float
    longitude: float
    uncertainty_m: Positive
    confidence: Share
    source_frequency_mhz: Annotated[float, Field(gt=0)]
    snr_avg_db: float
    websdr_count: Annotated[int, Field(gt=0)]


class Dashboard(Strict):
    signalDetections: Count
    systemUptime: Positive
    predictionsTotal: Count
    predictionsSuccessful: Count
    predictionsFailed: Count
    modelAccuracy: Share
    lastUpdate: str


class Point(Strict):
    timestamp: str
    value: float


class Series(Strict):
    total_predictions: list[Point]
    successful_predictions: list[Point]
    failed_predictions: list[Point]
    average_confidence: list[Point]
    average_uncertainty: list[Point]


class Ranges(Strict):
    accuracy_ranges: list[str]
    counts: list[Count]


class System(Strict):
    cpu_usage: list[Point]
    memory_usage: list[Point]
    api_response_times: list[Point]
    active_tasks: list[Point]


class Health(Strict):
    status: Literal["healthy", "degraded", "unhealthy"]
    service: Literal["inference"]
    version: str
    timestamp: str
    model_ready: bool
    model_loaded: bool
    cache_available: bool
    details: dict[str, Any]


class Dependency(Strict):
    name: str
    status: Literal["up", "down", "degraded", "unknown"]
    response_time_ms: Annotated[str, Field(pattern=r"^\d+\.\d\d$")]
    error_message: str = ""


class Detailed(Health):
    service_name: str
    uptime_seconds: Positive
    dependencies: list[Dependency]


SHAPES: dict[str, Any] = {
    "model/info": Info,
    "model/performance": Performance,
    "localizations/recent": list[Localization],
    "dashboard/metrics": Dashboard,
    "predictions/metrics": Series,
    "localizations/accuracy-distribution": Ranges,
    "websdr/performance": list[Any],
    "system/performance": System,
    "system": System,
}


@dataclass
class Town:
    service: RunningService
    one: RunningGateway
    two: RunningGateway
    cache: EmbeddedRedis
    before: dict[str, Any]

    def ask(self, path: str, gateway: RunningGateway | None = None, **params: Any) -> httpx.Response:
        return httpx.get(f"{(gateway or self.one).url}{path}", params=params, timeout=20)

    def figures(self, gateway: RunningGateway) -> dict[tuple[str, ...], float]:
        """Return every sample of /metrics by its name and its labels' values."""
        families = text_string_to_metric_families(self.ask("/metrics", gateway).text)
        samples = [sample for family in families for sample in family.samples]
        return {(one.name, *(one.labels[label] for label in sorted(one.labels))): one.value for one in samples}


def test_the_gateways_redis_user_may_count(tmp_path: Path) -> None:
    with guarded_redis(tmp_path / "redis") as redis:
        environment = child_environment(Settings.load({"UQUEUE_BROKER_URL": redis.url("gateway")}), os.environ)
        with running_gateway(environment, tmp_path / "gateway") as gateway:
            redis.denials()
            assert httpx.post(f"{gateway.url}/predict", json={}).status_code == 422
            for path in ("model/performance", "predictions/metrics", "localizations/recent", "system"):
                assert httpx.get(f"{gateway.url}/v1/analytics/{path}").status_code == 200
            metrics = httpx.get(f"{gateway.url}/metrics").text
            assert 'inference_errors_total{error_type="InvalidRequest"} 1.0' in metrics
            assert "redis_memory_bytes" in metrics
            assert httpx.get(f"{gateway.url}/health/detailed").json()["status"] == "unhealthy"
            assert redis.denials() == []


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    folder = tmp_path_factory.mktemp("analytics")
    write_localizer(folder / "workspace", tiny_localizer(confidence=0.75), name=MODEL, number="4")
    with start_redis(folder / "cache") as cache:
        env = {"UQUEUE_ENGINE": "onnx", "UQUEUE_LOCALIZATION_CACHE_URL": cache.url}
        with (
            running_service(folder / "service", workspace=folder / "workspace", concurrency=1, env=env) as service,
            running_gateway(service.environment, folder / "one") as one,
            running_gateway(service.environment, folder / "two") as two,
        ):
            town = Town(service, one, two, cache, {})
            eventually(lambda: town.ask("/ready").status_code == 200, "the gateway is ready")
            town.before = {path: town.ask(f"{PREFIXES[0]}/{path}").json() for path in SHAPES}
            traffic(town)
            yield town


def traffic(town: Town) -> None:
    """Seven localizations in five requests through both gateways, one of them from the cache; two requests that are
    refused."""

    def post(gateway: RunningGateway, path: str, body: Any, status: int) -> None:
        answer = httpx.post(f"{gateway.url}{path}", json=body, timeout=20)
        assert answer.status_code == status, answer.text

    for seed in (1, 2, 3):
        post(town.one, "/predict", as_base64(iq(seed), session_id="a", frequency_mhz=433.5), 200)
    post(town.two, "/api/v1/inference/predict", as_base64(iq(1)), 200)
    items = [as_base64(iq(seed, receivers=3)) for seed in (4, 5, 6)]
    post(town.two, "/v1/inference/predict/batch", {"predictions": items}, 200)
    post(town.one, "/predict", {"iq_base64": "AAAA", "shape": [2048]}, 400)
    post(town.two, "/predict/batch", {"predictions": []}, 422)


def no_null(value: Any) -> bool:
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return value is not None and all(map(no_null, parts))


def checked(shape: Any, value: Any) -> Any:
    assert no_null(value), value
    return TypeAdapter(shape).validate_python(value)


def eventually_counted(town: Town) -> dict[tuple[str, ...], float]:
    """Return the figures as soon as both gateways, and the worker with its heartbeat, have sent theirs."""
    name = ("uqueue_tasks_total", "succeeded", "uqueue.predict")

    def complete() -> bool:
        figures = town.figures(town.one)
        return figures["inference_latency_ms_count",] == 7 and figures.get(name, 0) >= 4

    eventually(complete, "everything is counted")
    return town.figures(town.one)


def test_both_gateways_show_what_all_have_counted(town: Town) -> None:
    found = eventually_counted(town)
    assert found["inference_requests_total", "predict"] == 5
    assert found["inference_requests_total", "predict/batch"] == 2
    assert found["inference_errors_total", "InvalidSamples"] == 1
    assert found["inference_errors_total", "InvalidRequest"] == 1
    assert (found["cache_hits_total",], found["cache_misses_total",]) == (1, 6)
    assert found["cache_hit_rate",] == pytest.approx(1 / 7)
    assert found["cache_miss_rate",] == pytest.approx(6 / 7)
    assert found["model_inference_count_total",] == 6
    assert found["onnx_latency_ms_bucket", "+Inf"] == found["onnx_latency_ms_count",] == 4
    assert found["preprocessing_latency_ms_count",] == 7
    assert (found["model_loaded",], found["inference_active_requests",]) == (1, 0)
    assert found["redis_memory_bytes",] > 100_000
    assert ("model_accuracy_meters",) not in found
    shared = ("cache_", "inference_", "preprocessing_", "onnx_", "model_inference")
    other = town.figures(town.two)
    assert {key: value for key, value in other.items() if key[0].startswith(shared)} == {
        key: value for key, value in found.items() if key[0].startswith(shared)
    }


def test_the_queue_and_its_workers_are_counted_in_seconds(town: Town) -> None:
    found = eventually_counted(town)
    assert found["uqueue_predictions_total", "4", "succeeded"] == 4  # jobs: three single ones and the batch
    assert found["uqueue_task_duration_seconds_bucket", "+Inf", "succeeded", "uqueue.predict"] == 4
    assert found["uqueue_queue_wait_seconds_count", "predictions"] == 4
    assert 0 < found["uqueue_model_inference_seconds_sum", "4"] < 20
    assert found["uqueue_request_duration_seconds_count", "/v1/inference/predict/batch", "200"] == 1
    assert found["uqueue_request_duration_seconds_count", "/predict", "400"] == 1
    assert found["uqueue_queue_depth", "predictions"] == 0
    assert found["uqueue_queue_depth", "dead"] == 0
    assert found["uqueue_workers_alive",] == 1


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("path", SHAPES)
def test_every_answer_is_what_the_web_client_reads(town: Town, path: str, prefix: str) -> None:
    eventually_counted(town)
    for gateway in (town.one, town.two):
        answer = town.ask(f"{prefix}/{path}", gateway)
        assert answer.status_code == 200, answer.text
        checked(SHAPES[path], answer.json())


def test_before_there_are_data_numbers_are_0_and_lists_empty(town: Town) -> None:
    before = town.before
    for path, shape in SHAPES.items():
        checked(shape, before[path])
    assert before["localizations/recent"] == before["websdr/performance"] == []
    assert set(map(len, before["predictions/metrics"].values())) == {0}
    assert set(before["localizations/accuracy-distribution"]["counts"]) == {0}
    times = {"uptime_seconds", "timestamp", "systemUptime", "lastUpdate"}
    for path in ("model/performance", "dashboard/metrics"):
        assert {value for name, value in before[path].items() if name not in times} == {0}
    assert "last_prediction_at" not in before["model/info"]


def test_recent_localizations(town: Town) -> None:
    eventually_counted(town)
    found = town.ask("/v1/analytics/localizations/recent", town.two).json()
    assert len(found) == 7
    assert len({uuid.UUID(one["id"]) for one in found}) == 7
    moments = [datetime.fromisoformat(one["timestamp"]) for one in found]
    assert moments == sorted(moments, reverse=True)
    assert all(moment.utcoffset() == timedelta(0) for moment in moments)
    assert {one["confidence"] for one in found} == {0.75}
    assert [one["websdr_count"] for one in found] == [3, 3, 3, 1, 1, 1, 1]
    assert [one["source_frequency_mhz"] for one in found] == [145.0] * 4 + [433.5] * 3
    assert {one["session_id"] for one in found[4:]} == {"a"}
    assert all(-30 <= one["snr_avg_db"] < 5 for one in found)  # noise alone
    assert town.ask("/v1/analytics/localizations/recent", limit=2).json() == found[:2]


def test_numbers_of_the_dashboard(town: Town) -> None:
    eventually_counted(town)
    shown = town.ask("/v1/analytics/dashboard/metrics").json()
    assert (shown["predictionsTotal"], shown["signalDetections"], shown["predictionsFailed"]) == (7, 7, 0)
    assert shown["modelAccuracy"] == 0.75
    performance = town.ask("/v1/analytics/model/performance").json()
    assert (performance["requests_total"], performance["errors_total"], performance["success_rate"]) == (7, 2, 1)
    assert 0 < performance["p50_latency_ms"] <= performance["p95_latency_ms"] <= performance["p99_latency_ms"]
    series = town.ask("/v1/analytics/predictions/metrics", time_range="24h").json()
    assert sum(point["value"] for point in series["successful_predictions"]) == 7
    assert {point["value"] for point in series["average_confidence"]} == {0.75}
    ranges = town.ask("/v1/analytics/localizations/accuracy-distribution", time_range="30d").json()
    recent = town.ask("/v1/analytics/localizations/recent").json()
    small = sum(one["uncertainty_m"] < 10 for one in recent)
    assert (sum(ranges["counts"]), ranges["counts"][0]) == (7, small)
    info = town.ask("/api/v1/analytics/model/info").json()
    assert (info["active_version"], info["model_name"], info["is_ready"]) == ("4", MODEL, True)
    assert info["last_prediction_at"] == recent[0]["timestamp"]
    assert datetime.fromisoformat(info["loaded_at"]) <= datetime.fromisoformat(info["last_prediction_at"])


@pytest.mark.parametrize(
    ("path", "params"),
    [
        ("localizations/recent", {"limit": 0}),
        ("localizations/recent", {"limit": 101}),
        ("localizations/recent", {"limit": "many"}),
        ("predictions/metrics", {"time_range": "1h"}),
        ("system", {"time_range": ""}),
    ],
)
def test_what_is_asked_for_wrongly_is_422(town: Town, path: str, params: dict[str, Any]) -> None:
    answer = town.ask(f"/v1/analytics/{path}", **params)
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")


def test_health(town: Town) -> None:
    for path in HEALTH:
        health = checked(Health, town.ask(path).json())
        assert (health.status, health.model_ready, health.model_loaded, health.cache_available) == (
            *("healthy", True, True),
            True,
        )
    detailed = checked(Detailed, town.ask("/health/detailed").json())
    assert {one.name: one.status for one in detailed.dependencies} == dict.fromkeys(
        ("redis", "cache", "workers", "model"), "up"
    )
    for path in ("/ready", "/startup"):
        answer = town.ask(path)
        assert (answer.status_code, answer.json()["ready"], answer.json()["service"]) == (200, True, "inference")
        checked(list[Dependency], answer.json()["dependencies"])
    for path in ("/", "/api/"):
        root = town.ask(path).json()
        assert (root["service"], root["status"]) == ("inference", "running")
        assert datetime.fromisoformat(root["timestamp"]).utcoffset() == timedelta(0)


def test_a_new_gateway_goes_on_counting(town: Town, tmp_path: Path) -> None:
    before = eventually_counted(town)
    with running_gateway(town.service.environment, tmp_path) as third:
        found = town.figures(third)
        assert found["model_inference_count_total",] == before["model_inference_count_total",]
        assert len(town.ask("/v1/analytics/localizations/recent", third).json()) == 7


def test_without_the_cache_it_is_degraded_and_without_a_worker_unhealthy(town: Town) -> None:
    town.cache.process.terminate()
    town.cache.process.wait()
    eventually(lambda: town.ask("/health").json()["status"] == "degraded", "the cache is missed")
    assert town.ask("/ready").status_code == 200
    assert town.ask("/health").json()["cache_available"] is False
    town.service.services["worker"].stop()
    eventually(lambda: town.ask("/health").json()["status"] == "unhealthy", "the worker is missed", seconds=30)
    health = checked(Detailed, town.ask("/health/detailed").json())
    status = {one.name: one.status for one in health.dependencies}
    assert status == {"redis": "up", "cache": "down", "workers": "down", "model": "down"}
    assert all(one.error_message for one in health.dependencies if one.status == "down")
    for path in ("/ready", "/startup"):
        answer = town.ask(path)
        assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
        assert answer.json()["ready"] is False
        checked(list[Dependency], answer.json()["dependencies"])
    assert town.figures(town.one)["model_loaded",] == 0
    assert town.figures(town.one)["uqueue_workers_alive",] == 0
    info = checked(Info, town.ask("/v1/analytics/model/info").json())
    assert (info.is_ready, info.health_status, info.active_version) == (False, "unhealthy", "4")
    assert info.error_message
