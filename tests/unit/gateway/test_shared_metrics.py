"""What Prometheus reads, against the names, types and buckets that dashboards were made for."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from uqueue.gateway.localization.shared_metrics import SharedCollector, Snapshot
from uqueue.status import ModelStatus
from uqueue_config.figures import Outbox, Sums
from uqueue_config.messages import Acknowledgement

HISTOGRAMS = {
    "inference_latency_ms": [10, 25, 50, 75, 100, 150, 200, 300, 400, 500, 750, 1000, 2000, 5000],
    "preprocessing_latency_ms": [1, 5, 10, 25, 50, 100],
    "onnx_latency_ms": [5, 10, 25, 50, 75, 100, 150, 200, 500, 1000, 2000],
}
COUNTERS = [
    "cache_hits_total",
    "cache_misses_total",
    "inference_requests_total",
    "inference_errors_total",
    "model_reloads_total",
    "model_inference_count_total",
    "uqueue_predictions_total",
    "uqueue_tasks_total",
]
GAUGES = [
    "cache_hit_rate",
    "cache_miss_rate",
    "inference_active_requests",
    "model_loaded",
    "redis_memory_bytes",
    "model_accuracy_meters",
    "uqueue_queue_depth",
    "uqueue_workers_alive",
]
IN_SECONDS = {
    "uqueue_request_duration_seconds": {"endpoint", "status"},
    "uqueue_queue_wait_seconds": {"queue"},
    "uqueue_task_duration_seconds": {"task", "outcome"},
    "uqueue_model_inference_seconds": {"model_version"},
}


def sums_of(box: Outbox) -> Sums:
    args = box.parcel().args[5:]
    pairs = args[2:]
    return Sums({str(pairs[at]).encode(): str(pairs[at + 1]).encode() for at in range(0, len(pairs), 2)})


def snapshot(box: Outbox, **facts: Any) -> Snapshot:
    given: dict[str, Any] = {"active": 0, "memory_bytes": 7, "depths": {"predictions": 3}, "models": []}
    return Snapshot(sums=sums_of(box), **{**given, "accuracy_meters": None, **facts})


def families(shown: Snapshot | None) -> dict[str, Any]:
    collector, registry = SharedCollector(), CollectorRegistry()
    collector.snapshot = shown
    registry.register(collector)
    found = text_string_to_metric_families(generate_latest(registry).decode())
    return {family.name: family for family in found}


def sample(found: dict[str, Any], family: str, name: str, **labels: str) -> float:
    (value,) = [one.value for one in found[family].samples if one.name == name and one.labels == labels]
    return float(value)


def busy() -> Outbox:
    box = Outbox()
    box.add("inference_errors_total", "ResultTimeout")
    box.add("uqueue_predictions_total", "7", "succeeded", amount=2)
    box.add("uqueue_tasks_total", "uqueue.predict", "succeeded")
    for name, labels in IN_SECONDS.items():
        box.observe(name, *sorted(labels), value=0.02)
    for name in HISTOGRAMS:
        for milliseconds in (0.5, 60, 60, 9999):
            box.observe(name, value=milliseconds)
    return box


def test_names_types_and_buckets() -> None:
    found = families(snapshot(busy(), accuracy_meters=27.5))
    names = {one.name for family in found.values() for one in family.samples}
    assert set(COUNTERS) <= names
    assert {found[name.removesuffix("_total")].type for name in COUNTERS} == {"counter"}
    assert {found[name].type for name in GAUGES} == {"gauge"}
    for name, bounds in HISTOGRAMS.items():
        assert found[name].type == "histogram"
        edges = [one.labels["le"] for one in found[name].samples if one.name == f"{name}_bucket"]
        assert edges == [*(f"{bound:.1f}" for bound in bounds), "+Inf"]
    for name, labels in IN_SECONDS.items():
        assert found[name].type == "histogram"
        assert {label for one in found[name].samples for label in one.labels} == labels | {"le"}
    assert sample(found, "model_accuracy_meters", "model_accuracy_meters") == 27.5


def test_buckets_are_cumulative() -> None:
    found = families(snapshot(busy()))
    counts = [one.value for one in found["onnx_latency_ms"].samples if one.name == "onnx_latency_ms_bucket"]
    assert counts == [1, 1, 1, 1, 3, 3, 3, 3, 3, 3, 3, 4]
    assert sample(found, "onnx_latency_ms", "onnx_latency_ms_count") == 4
    assert sample(found, "onnx_latency_ms", "onnx_latency_ms_sum") == pytest.approx(10119.5)


def test_before_anything_was_counted_everything_is_0() -> None:
    found = families(snapshot(Outbox()))
    for endpoint in ("predict", "predict/batch"):
        assert sample(found, "inference_requests", "inference_requests_total", endpoint=endpoint) == 0
    assert sample(found, "cache_hits", "cache_hits_total") == 0
    assert sample(found, "inference_latency_ms", "inference_latency_ms_count") == 0
    assert sample(found, "cache_hit_rate", "cache_hit_rate") == 0
    assert sample(found, "cache_miss_rate", "cache_miss_rate") == 0


def test_what_is_not_known_is_absent() -> None:
    found = families(snapshot(Outbox(), memory_bytes=None))
    assert "model_accuracy_meters" not in found
    assert "redis_memory_bytes" not in found
    assert families(None) == {}


def test_cache_rates_are_shares() -> None:
    box = Outbox()
    box.add("cache_hits_total", amount=3)
    box.add("cache_misses_total")
    found = families(snapshot(box))
    assert sample(found, "cache_hit_rate", "cache_hit_rate") == 0.75
    assert sample(found, "cache_miss_rate", "cache_miss_rate") == 0.25


def status(name: str, *processes: tuple[int, str]) -> ModelStatus:
    found = [Acknowledgement(host="here", pid=pid, model=name, state=state) for pid, state in processes]  # type: ignore[arg-type]
    return ModelStatus(name, "0" * 16, None, None, tuple(found))


def test_workers_and_what_they_hold() -> None:
    models = [status("energy", (1, "no_model"), (2, "ready")), status("places", (1, "unloaded"), (2, "unloaded"))]
    found = families(snapshot(Outbox(), models=models))
    assert sample(found, "model_loaded", "model_loaded") == 1
    assert sample(found, "uqueue_workers_alive", "uqueue_workers_alive") == 2
    idle = families(snapshot(Outbox(), models=[status("energy", (1, "no_model"), (2, "unloaded"))]))
    assert sample(idle, "model_loaded", "model_loaded") == 0
    assert sample(found, "uqueue_queue_depth", "uqueue_queue_depth", queue="predictions") == 3
