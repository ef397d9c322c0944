"""The analytics as pure functions of what was recorded."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from uqueue.gateway.localization.analytics_reading import Series, Totals
from uqueue.gateway.localization.analytics_schemas import (
    RANGE_BOUNDS,
    RANGES,
    AccuracyDistribution,
    ActiveModel,
    Performance,
    Point,
    PredictionSeries,
)
from uqueue.gateway.localization.answers import utc_text
from uqueue.gateway.localization.health import Condition
from uqueue.gateway.localization.refusals import not_loaded
from uqueue_config.figures.outbox import RECENT_MAX

#: Throughput is measured over so long.
THROUGHPUT_SECONDS = 60.0


def active_model(
    condition: Condition, totals: Totals, recent: Sequence[Mapping[str, Any]], uptime_seconds: float
) -> ActiveModel:
    """Return what is known of the model. Problem 503 where nothing is."""
    card = condition.card
    if card is None:
        raise not_loaded("No localization model is known: no worker has loaded one yet.")
    measured: dict[str, Any] = {}
    if totals.latencies:
        measured["latency_p95_ms"] = totals.latency_ms(0.95)
    if totals.hits + totals.misses:
        measured["cache_hit_rate"] = totals.cache_hit_rate
    if recent:
        measured["last_prediction_at"] = recent[0]["timestamp"]
    if condition.reason:
        measured["error_message"] = condition.reason
    return ActiveModel(
        active_version=card.version,
        stage=card.stage,
        model_name=card.name,
        loaded_at=_text(condition.loaded_at),
        uptime_seconds=uptime_seconds,
        is_ready=condition.model_ready,
        health_status=condition.status,
        predictions_total=totals.predictions,
        predictions_successful=totals.successful,
        predictions_failed=totals.failed,
        **measured,
    )


def performance(totals: Totals, recent: Sequence[Mapping[str, Any]], uptime_seconds: float, now: float) -> Performance:
    """Put the figures together; `recent` has all localizations that are kept."""
    return Performance(
        inference_latency_ms=totals.mean_latency_ms,
        p50_latency_ms=totals.latency_ms(0.50),
        p95_latency_ms=totals.latency_ms(0.95),
        p99_latency_ms=totals.latency_ms(0.99),
        throughput_samples_per_second=throughput(
            [datetime.fromisoformat(record["timestamp"]).timestamp() for record in recent], now
        ),
        cache_hit_rate=totals.cache_hit_rate,
        success_rate=totals.success_rate,
        predictions_total=totals.predictions,
        requests_total=totals.requests,
        errors_total=totals.errors,
        uptime_seconds=uptime_seconds,
        timestamp=utc_text(datetime.now(UTC)),
    )


def throughput(moments: Sequence[float], now: float) -> float:
    """Return localizations per second over the last minute, or over what is kept of it where that is less."""
    late = [moment for moment in moments if now - moment < THROUGHPUT_SECONDS]
    covered = THROUGHPUT_SECONDS
    if len(late) >= RECENT_MAX:  # older ones of this minute were dropped
        covered = max(0.001, now - min(late))
    return len(late) / covered


def prediction_series(series: Series) -> PredictionSeries:
    """Return counts by hour, and means over the successful localizations of those hours that have any."""
    counted = {moment: sums for moment, sums in series.items() if "successful" in sums or "failed" in sums}
    return PredictionSeries(
        total_predictions=_points(counted, lambda sums: sums.get("successful", 0.0) + sums.get("failed", 0.0)),
        successful_predictions=_points(counted, lambda sums: sums.get("successful", 0.0)),
        failed_predictions=_points(counted, lambda sums: sums.get("failed", 0.0)),
        average_confidence=_means(series, "confidence", "successful"),
        average_uncertainty=_means(series, "uncertainty", "successful"),
    )


def response_times(series: Series) -> list[Point]:
    """Return the mean time to answer a localization request by hour, in ms."""
    return _means(series, "milliseconds", "requests")


def distribution(uncertainties: Iterable[float]) -> AccuracyDistribution:
    """Count uncertainties, in metres, by range."""
    counts = [0] * len(RANGES)
    for metres in uncertainties:
        counts[bisect_right(RANGE_BOUNDS, metres)] += 1
    return AccuracyDistribution(accuracy_ranges=list(RANGES), counts=counts)


def mean(values: Iterable[float]) -> float:
    """Return the mean, 0 where there are no values."""
    found = list(values)
    return math.fsum(found) / len(found) if found else 0.0


def _points(series: Series, value: Callable[[Mapping[str, float]], float]) -> list[Point]:
    return [Point(timestamp=_text(moment), value=value(sums)) for moment, sums in sorted(series.items())]


def _means(series: Series, total: str, count: str) -> list[Point]:
    counted = {moment: sums for moment, sums in series.items() if sums.get(count)}
    return _points(counted, lambda sums: sums.get(total, 0.0) / sums[count])


def _text(seconds: float) -> str:
    return utc_text(datetime.fromtimestamp(seconds, UTC))
