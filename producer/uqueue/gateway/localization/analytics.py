"""/v1/analytics and /api/v1/analytics: what the web client shows of localizations. Only measured numbers; without data
0 or empty lists."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query

from uqueue.gateway.documents import responses
from uqueue.gateway.localization.analytics_figures import (
    active_model,
    distribution,
    mean,
    performance,
    prediction_series,
    response_times,
)
from uqueue.gateway.localization.analytics_schemas import (
    AccuracyDistribution,
    ActiveModel,
    Dashboard,
    Performance,
    Point,
    PredictionSeries,
    ReceiverPerformance,
    RecentLocalization,
    SystemPerformance,
)
from uqueue.gateway.localization.answers import utc_text
from uqueue.gateway.localization.health import HEALTH_SECONDS
from uqueue.gateway.state import GatewayState, needs

router = APIRouter(tags=["analytics"])
PREFIXES = ("/v1/analytics", "/api/v1/analytics")
TimeRange = Annotated[Literal["24h", "7d", "30d"], Query(description="How far back.")]
Limit = Annotated[int, Query(ge=1, le=100, description="How many at most.")]
HOURS = {"24h": 24, "7d": 7 * 24, "30d": 30 * 24}
_OPTIONS: Mapping[str, Any] = {
    "dependencies": [needs("read")],
    "responses": responses(),
    "response_model_exclude_none": True,
}


@router.get("/model/info", **_OPTIONS)
async def model_info(gateway: GatewayState) -> ActiveModel:
    """Return the model that answers. 503 where none is known."""
    condition = await gateway.examiner.look(at_most_seconds_old=HEALTH_SECONDS)
    totals, recent = await gateway.recorder.totals(), await gateway.recorder.recent(1)
    return active_model(condition, totals, recent, gateway.recorder.uptime_seconds)


@router.get("/model/performance", **_OPTIONS)
async def model_performance(gateway: GatewayState, time_range: TimeRange = "7d") -> Performance:
    """Return latency, throughput and rates."""
    totals, recent = await gateway.recorder.totals(), await gateway.recorder.recent()
    return performance(totals, recent, gateway.recorder.uptime_seconds, time.time())


@router.get("/localizations/recent", **_OPTIONS)
async def localizations_recent(gateway: GatewayState, limit: Limit = 10) -> list[RecentLocalization]:
    """Return the last localizations, newest first."""
    recent = await gateway.recorder.recent(limit)
    names = RecentLocalization.model_fields
    return [RecentLocalization(**{name: record[name] for name in names}) for record in recent]


@router.get("/dashboard/metrics", **_OPTIONS)
async def dashboard_metrics(gateway: GatewayState, time_range: TimeRange = "7d") -> Dashboard:
    """Return the numbers at the top of the dashboard."""
    totals, recent = await gateway.recorder.totals(), await gateway.recorder.recent()
    return Dashboard(
        signalDetections=totals.successful,
        systemUptime=gateway.recorder.uptime_seconds,
        predictionsTotal=totals.predictions,
        predictionsSuccessful=totals.successful,
        predictionsFailed=totals.failed,
        modelAccuracy=mean(record["confidence"] for record in recent),
        lastUpdate=utc_text(datetime.now(UTC)),
    )


@router.get("/predictions/metrics", **_OPTIONS)
async def predictions_metrics(gateway: GatewayState, time_range: TimeRange = "7d") -> PredictionSeries:
    """Return counts and means by hour."""
    return prediction_series(await gateway.recorder.series(HOURS[time_range]))


@router.get("/localizations/accuracy-distribution", **_OPTIONS)
async def accuracy_distribution(gateway: GatewayState, time_range: TimeRange = "7d") -> AccuracyDistribution:
    """Count the localizations kept, of that time, by their uncertainty."""
    since = utc_text(datetime.fromtimestamp(time.time() - 3600 * HOURS[time_range], UTC))
    recent = await gateway.recorder.recent()
    return distribution(record["uncertainty_m"] for record in recent if record["timestamp"] >= since)


@router.get("/websdr/performance", **_OPTIONS)
async def websdr_performance(time_range: TimeRange = "7d") -> list[ReceiverPerformance]:
    """Return nothing: receivers are outside this service."""
    return []


@router.get("/system", **_OPTIONS)
@router.get("/system/performance", **_OPTIONS)
async def system_performance(gateway: GatewayState, time_range: TimeRange = "7d") -> SystemPerformance:
    """Return response times by hour, and how many requests are in work now."""
    recorder = gateway.recorder
    now = Point(timestamp=utc_text(datetime.now(UTC)), value=float(await recorder.in_work()))
    times = response_times(await recorder.series(HOURS[time_range]))
    return SystemPerformance(cpu_usage=[], memory_usage=[], api_response_times=times, active_tasks=[now])
