"""What the web client reads of the analytics, as its own schemas require it. Optional members are never null, but
absent."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0, le=1)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]
Moment = Annotated[str, Field(description="ISO 8601, UTC, with Z.", examples=["2026-11-21T10:00:00.000Z"])]
HealthStatus = Literal["healthy", "degraded", "unhealthy"]
RANGES = ("<10m", "10-20m", "20-30m", "30-50m", "50-100m", ">100m")
#: Upper bounds in metres of all ranges but the last; a value on a bound belongs above it.
RANGE_BOUNDS = (10.0, 20.0, 30.0, 50.0, 100.0)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class ActiveModel(_Strict):
    """The model that answers, and how it does."""

    active_version: str
    stage: str
    model_name: str
    loaded_at: Moment
    uptime_seconds: NotNegative
    is_ready: bool
    health_status: HealthStatus
    latency_p95_ms: NotNegative | None = None
    cache_hit_rate: Share | None = None
    last_prediction_at: Moment | None = None
    predictions_total: Count | None = None
    predictions_successful: Count | None = None
    predictions_failed: Count | None = None
    error_message: str | None = None


class Performance(_Strict):
    """Figures of all gateways since counting began; throughput is that of the last minute."""

    inference_latency_ms: NotNegative
    p50_latency_ms: NotNegative
    p95_latency_ms: NotNegative
    p99_latency_ms: NotNegative
    throughput_samples_per_second: NotNegative
    cache_hit_rate: Share
    success_rate: Share
    predictions_total: Count
    requests_total: Count
    errors_total: Count
    uptime_seconds: NotNegative
    timestamp: Moment


class RecentLocalization(_Strict):
    """One localization that was answered."""

    id: Annotated[str, Field(description="UUID.")]
    session_id: str
    timestamp: Moment
    latitude: Annotated[float, Field(ge=-90, le=90)]
    longitude: Annotated[float, Field(ge=-180, le=180)]
    uncertainty_m: NotNegative
    confidence: Share
    source_frequency_mhz: Annotated[float, Field(gt=0)]
    snr_avg_db: Annotated[float, Field(allow_inf_nan=False)]
    websdr_count: Annotated[int, Field(gt=0)]


class Dashboard(_Strict):
    """`signalDetections` is the number of successful predictions; `modelAccuracy` the mean confidence of those kept."""

    signalDetections: Count
    systemUptime: NotNegative
    predictionsTotal: Count
    predictionsSuccessful: Count
    predictionsFailed: Count
    modelAccuracy: Share
    lastUpdate: Moment


class Point(_Strict):
    """A value for the hour that begins at `timestamp`, or measured then."""

    timestamp: Moment
    value: Annotated[float, Field(allow_inf_nan=False)]


class PredictionSeries(_Strict):
    """By hour; hours without any localization are left out."""

    total_predictions: list[Point]
    successful_predictions: list[Point]
    failed_predictions: list[Point]
    average_confidence: list[Point]
    average_uncertainty: list[Point]


class AccuracyDistribution(_Strict):
    """How many of the localizations kept have an `uncertainty_m` in each range."""

    accuracy_ranges: list[str]
    counts: list[Count]


class ReceiverPerformance(_Strict):
    """Receivers are outside this service: there is never one."""


class SystemPerformance(_Strict):
    """By hour, in ms: how long localization requests took; now: how many are in work. CPU and memory are not measured
    here."""

    cpu_usage: list[Point]
    memory_usage: list[Point]
    api_response_times: list[Point]
    active_tasks: list[Point]
