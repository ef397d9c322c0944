"""The bodies of localization requests and answers, as OpenAPI shows them."""

from __future__ import annotations

import base64
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from uqueue.gateway.localization.requests import MAX_ITEMS, MAX_SESSION

_PAIR = {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}
_SAMPLES = {"type": "array", "items": _PAIR}
_IQ: dict[str, Any] = {
    "anyOf": [_SAMPLES, {"type": "array", "items": _SAMPLES}],
    "description": "[I, Q] pairs (n, 2), or (receivers, n, 2) of as many receivers as the model reads; 2048 to 262144 "
    "samples per receiver, and no other numbers than finite ones.",
}
_SETTINGS: dict[str, Any] = {
    "session_id": {
        "type": ["string", "null"],
        "maxLength": MAX_SESSION,
        "description": "Comes back with the answer, and is answered by the same version every time.",
    },
    "cache_enabled": {"type": "boolean", "default": True, "description": "false neither reads nor fills the cache."},
    "sample_rate_hz": {
        "type": "number",
        "exclusiveMinimum": 0,
        "description": "Refused where it is off the model's by more than 1 %. Nothing is resampled.",
    },
    "frequency_mhz": {"type": "number", "exclusiveMinimum": 0, "description": "For listings only."},
}
_SINGLE: dict[str, Any] = {
    "iq_data": _IQ,
    "iq_base64": {
        "type": "string",
        "contentEncoding": "base64",
        "description": "Standard padded base64 of little-endian complex64 in C order; needs shape.",
    },
    "shape": {
        "type": "array",
        "items": {"type": "integer", "minimum": 0},
        "minItems": 1,
        "maxItems": 2,
        "description": "[n] or [receivers, n], counted in complex samples.",
    },
    **_SETTINGS,
}
#: 2048 samples of silence: what is shortest of all that is answered.
_SILENCE = {"iq_base64": base64.b64encode(bytes(8 * 2048)).decode(), "shape": [2048]}


def _object(properties: dict[str, Any], *required: list[str]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "oneOf": [{"required": one} for one in required]}


PREDICT = _object(_SINGLE, ["iq_data"], ["iq_base64", "shape"])
BATCH = _object(
    {
        "iq_samples": {"type": "array", "items": _IQ, "minItems": 1, "maxItems": MAX_ITEMS},
        "predictions": {"type": "array", "items": PREDICT, "minItems": 1, "maxItems": MAX_ITEMS},
        **_SETTINGS,
        "continue_on_error": {"type": "boolean", "default": False, "description": "Answer the items that can be."},
    },
    ["iq_samples"],
    ["predictions"],
)


def body(schema: dict[str, Any]) -> dict[str, Any]:
    """Return what an operation says of its JSON body."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


class Position(BaseModel):
    """Degrees on WGS 84."""

    latitude: float = Field(ge=-90, le=90)
    longitude: float = Field(ge=-180, le=180)


class Uncertainty(BaseModel):
    """One sigma in metres, along axes turned by theta (0: x = East, y = North).

    Warning: a one-sigma ellipse holds 39.35 % of the probability; 0.68 is only the nominal label.
    """

    sigma_x: float = Field(ge=0)
    sigma_y: float = Field(ge=0)
    theta: float = Field(ge=-180, le=180)
    confidence_interval: float = Field(json_schema_extra={"const": 0.68})


class Ellipse(BaseModel):
    """The ellipse that holds `confidence_level`; `feature` is GeoJSON."""

    center: list[float]
    semi_major_axis_m: float
    semi_minor_axis_m: float
    rotation_degrees: float = Field(ge=0, lt=360)
    confidence_level: float
    convention: Literal["joint", "marginal"]
    feature: dict[str, Any]


_SHOWN: dict[str, Any] = {
    "position": {"latitude": 45.03, "longitude": 7.61},
    "uncertainty": {"sigma_x": 31.2, "sigma_y": 44.8, "theta": 0.0, "confidence_interval": 0.68},
    "uncertainty_source": "model",
    "uncertainty_m": 56.4,
    "confidence": 0.57,
    "confidence_source": "derived",
    "ellipse": {
        "center": [45.03, 7.61],
        "semi_major_axis_m": 67.6,
        "semi_minor_axis_m": 47.1,
        "rotation_degrees": 90.0,
        "confidence_level": 0.68,
        "convention": "joint",
        "feature": {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": []}, "properties": {}},
    },
    "model_version": "3",
    "inference_time_ms": 14.2,
    "timestamp": "2026-11-21T10:00:00.120Z",
    "session_id": "van-7",
    "_cache_hit": False,
}


class PredictionOut(BaseModel):
    """Where the emitter is."""

    model_config = ConfigDict(json_schema_extra={"examples": [_SHOWN]})

    position: Position
    uncertainty: Uncertainty
    uncertainty_source: Literal["model", "absent"]
    uncertainty_m: float = Field(ge=0)
    confidence: float = Field(ge=0, le=1)
    confidence_source: Literal["model", "derived"]
    ellipse: Ellipse
    model_version: str
    inference_time_ms: float = Field(ge=0)
    timestamp: str
    session_id: str
    cache_hit: bool = Field(alias="_cache_hit")


class BatchError(BaseModel):
    """Why an item has no prediction."""

    index: int
    error: str
    message: str


class BatchOut(BaseModel):
    """The predictions of a batch; `indices` and `errors` are there where it went on without some items."""

    predictions: list[PredictionOut]
    total_time_ms: float = Field(ge=0)
    samples_per_second: float = Field(ge=0)
    batch_size: int
    batch_id: str
    indices: list[int] = Field(default_factory=list)
    errors: list[BatchError] = Field(default_factory=list)


class InfoOut(BaseModel):
    """The version that answers most requests."""

    name: str
    version: str
    semver: str | None
    stage: str
    alias: str | None
    status: Literal["ready", "loading", "error"]
    created_at: str | None
    mlflow_run_id: str | None
    accuracy_meters: float | None
    training_samples: int | None
    last_reloaded: str | None
    inference_count: int = Field(ge=0)
    avg_latency_ms: float = Field(ge=0)
    cache_hit_rate: float = Field(ge=0, le=1)
    feature_recipe: str
    sample_rate_hz: float
    receivers: int
    output_encoding: str
    worker_versions: dict[str, int]


class VersionOut(BaseModel):
    """One version: what it is, and its share of the requests."""

    version: str
    semver: str | None
    stage: str
    status: Literal["loading", "ready", "stale", "error", "deprecated"]
    weight: float
    is_active: bool
    created: str | None
    updated: str | None
    error: str | None
    metrics: dict[str, float]


class AbTestOut(BaseModel):
    """A running test; `traffic_split` is the share of b."""

    id: str
    a: str
    b: str
    traffic_split: float
    started_at: str
    ends_at: str | None
    routed_to_a: int
    routed_to_b: int


class VersionsOut(BaseModel):
    """All versions that workers hold or could not load."""

    active: str | None
    previous: str | None
    loaded_count: int
    max_versions: int
    versions: list[VersionOut]
    ab_test: AbTestOut | None
    stats: dict[str, float]


class WeightIn(BaseModel):
    """A share of the requests: fractions or percents, beside the weights of the other versions."""

    model_config = ConfigDict(extra="ignore", json_schema_extra={"examples": [{"weight": 0.1}]})

    weight: float = Field(ge=0, le=100, strict=True, allow_inf_nan=False)


class AbTestIn(BaseModel):
    """Which versions to compare; `traffic_split` is the share of b."""

    model_config = ConfigDict(
        extra="ignore",
        json_schema_extra={"examples": [{"a": "3", "b": "4", "traffic_split": 0.1, "duration_seconds": 60}]},
    )

    a: str = Field(min_length=1, max_length=64)
    b: str = Field(min_length=1, max_length=64)
    traffic_split: float = Field(0.5, ge=0.01, le=0.99, strict=True)
    duration_seconds: float | None = Field(None, gt=0, le=366 * 86400, strict=True)


class ReloadIn(BaseModel):
    """What to load: `version_id`, or what the registry names now."""

    model_config = ConfigDict(extra="ignore", json_schema_extra={"examples": [{"stage": "Production", "force": False}]})

    version_id: str | None = Field(None, pattern=r"^@?[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    stage: Literal["Production", "Staging", "Archived", "None"] = "Production"
    force: bool = Field(False, strict=True)


class ReloadedOut(BaseModel):
    """What a reload changed."""

    success: bool
    message: str
    previous_version: str | None
    new_version: str | None
    reload_time_ms: float
    requests_drained: int
    timestamp: str


class CacheOut(BaseModel):
    """The cache, over all gateways; null for what the gateway's Redis user may not see."""

    hits: int
    misses: int
    total: int
    hit_rate: float
    keys: int | None
    ttl_seconds: float
    memory_used_bytes: int | None
    memory_peak_bytes: int | None


PREDICT_EXAMPLE = _SILENCE
BATCH_EXAMPLE = {"predictions": [_SILENCE], "session_id": "van-7"}
