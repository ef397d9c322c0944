"""The analytics, from what was recorded to what the web client is shown."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uqueue.gateway.localization.analytics_figures import (
    distribution,
    mean,
    performance,
    prediction_series,
    response_times,
    throughput,
)
from uqueue.gateway.localization.analytics_reading import Totals, latency_bucket, percentile
from uqueue_config.figures import Sums


@given(
    st.lists(st.floats(0.01, 60_000), min_size=1, max_size=200),
    st.sampled_from([0.5, 0.95, 0.99, 1.0]),
)
def test_percentiles_err_by_two_and_a_half_percent_at_most(latencies: list[float], share: float) -> None:
    buckets: dict[int, float] = {}
    for one in latencies:
        buckets[latency_bucket(one)] = buckets.get(latency_bucket(one), 0) + 1
    exact = sorted(latencies)[math.ceil(share * len(latencies)) - 1]
    assert percentile(buckets, share) == pytest.approx(exact, rel=0.025)


def test_without_data_everything_is_0_or_empty() -> None:
    nothing = Totals.of(Sums({}))
    shown = performance(nothing, [], 3.5, 1e9).model_dump(exclude={"timestamp", "uptime_seconds"})
    assert set(shown.values()) == {0}
    assert distribution([]).counts == [0] * 6
    assert set(map(len, prediction_series({}).model_dump().values())) == {0}
    assert mean([]) == 0


def test_totals_and_rates() -> None:
    fields = {
        "predictions\tsuccessful": 3,
        "predictions\tfailed": 1,
        "inference_requests_total\tpredict": 2,
        "inference_requests_total\tpredict/batch": 1,
        "inference_errors_total\tResultTimeout": 1,
        "cache_hits_total": 1,
        "cache_misses_total": 3,
        "inferences\t7": 3,
        "inference_seconds\t7": 0.25,
        "inference_latency_ms\t25.0": 2,
        "inference_latency_ms\tsum": 30,
    }
    totals = Totals.of(Sums({name.encode(): str(value).encode() for name, value in fields.items()}))
    assert (totals.predictions, totals.requests, totals.errors) == (4, 3, 1)
    assert (totals.success_rate, totals.cache_hit_rate, totals.mean_latency_ms) == (0.75, 0.25, 15)
    assert totals.versions == {"7": (3, 0.25)}


def test_throughput_is_that_of_the_last_minute() -> None:
    now = 1_000_000.0
    assert throughput([now - 1, now - 30, now - 61], now) == 2 / 60
    # 1000 are kept: at 500 a second they tell of the last 2 s.
    assert throughput([now - 2 + n / 500 for n in range(1000)], now) == pytest.approx(500)


def test_a_bound_belongs_to_the_range_above_it() -> None:
    found = distribution([0, 9.99, 10, 20, 30, 49, 50, 99, 100, 1e6])
    assert found.accuracy_ranges == ["<10m", "10-20m", "20-30m", "30-50m", "50-100m", ">100m"]
    assert found.counts == [2, 1, 1, 2, 2, 2]


def test_series_by_hour() -> None:
    hours: dict[int, dict[str, float]] = {
        7200: {"successful": 4, "confidence": 3, "uncertainty": 100, "requests": 2, "milliseconds": 50},
        3600: {"failed": 2, "requests": 1, "milliseconds": 10},
        10800: {"requests": 4, "milliseconds": 40},  # refused: no localization was attempted
    }
    found = prediction_series(hours).model_dump()
    assert values(found["total_predictions"]) == [2, 4]
    assert values(found["successful_predictions"]) == [0, 4]
    assert values(found["failed_predictions"]) == [2, 0]
    assert values(found["average_confidence"]) == [0.75]  # an hour without any has no mean
    assert values(found["average_uncertainty"]) == [25]
    assert [point["timestamp"] for point in found["total_predictions"]] == [
        "1970-01-01T01:00:00.000Z",
        "1970-01-01T02:00:00.000Z",
    ]
    assert values([point.model_dump() for point in response_times(hours)]) == [10, 25, 10]


def test_performance_counts_what_was_kept() -> None:
    now = datetime(2026, 11, 21, 10, 0, 30, tzinfo=UTC).timestamp()
    recent: list[dict[str, Any]] = [
        {"timestamp": "2026-11-21T10:00:00.000Z"},
        {"timestamp": "2026-11-21T09:00:00.000Z"},
    ]
    assert performance(Totals.of(Sums({})), recent, 0, now).throughput_samples_per_second == 1 / 60


def values(points: list[dict[str, Any]]) -> list[float]:
    return [point["value"] for point in points]
