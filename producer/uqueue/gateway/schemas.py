"""The bodies of requests and answers, as OpenAPI shows them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StrictInt, WithJsonSchema

from uqueue_config.messages import MAX_SEED, MODEL_NAME, VERSION, PollReport
from uqueue_config.names import DEFAULT_MODEL, JobState

_ROW: Any = [0.98, 514.5, 294.0, 110.25, 7.0, 2, 0.0, 0]
_JOB_ID = "3f0e8a52-8a53-4f0a-9d5c-0e6c1c2f7a11"
_ARRAY = {
    "type": "object",
    "description": "Base64 of little-endian numbers.",
    "required": ["dtype", "shape", "data"],
    "additionalProperties": False,
    "properties": {
        "dtype": {"type": "string", "enum": ["<f4"]},
        "shape": {"type": "array", "items": {"type": "integer", "minimum": 1}, "minItems": 2, "maxItems": 2},
        "data": {"type": "string", "contentEncoding": "base64"},
    },
}
_ROWS = {
    "type": "array",
    "minItems": 1,
    "items": {"type": "array", "minItems": 1, "items": {"type": "number"}},
}
# The table itself is checked where every client's is, which names the row and column of the first bad cell.
Features = Annotated[
    Any, WithJsonSchema({"anyOf": [_ROWS, _ARRAY], "description": "Rows x columns, as lists or as base64."})
]
Version = Annotated[
    str, Field(pattern=VERSION, description="stable, canary, a version that /v1/models shows, or a name for one.")
]


class Webhook(BaseModel):
    """Where the end of a job is told."""

    model_config = ConfigDict(extra="forbid")

    url: str = Field(
        min_length=1,
        max_length=2000,
        description="Gets a POST as Standard Webhooks describes it when the job has ended: https, and an address of "
        "the internet, unless the gateway's settings allow others.",
        examples=["https://example.org/hooks/jobs"],
    )


class JobRequest(BaseModel):
    """One prediction to be made."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"features": [_ROW]}, {"features": [_ROW], "seed": 7, "expires": 60}]},
    )

    features: Features
    model: str = Field(DEFAULT_MODEL, pattern=MODEL_NAME, description="The model to ask.")
    seed: StrictInt | None = Field(None, ge=0, le=MAX_SEED, description="Makes the passes repeatable.")
    target_dim: StrictInt | None = Field(None, ge=1, description="Refuse a model with another number of targets.")
    expires: Annotated[float, Field(gt=0, strict=True, lt=10 * 365 * 86400)] | AwareDatetime | None = Field(
        None, description="Seconds, or a moment with a time zone, after which a job that has not started is dropped."
    )
    version: Version | None = None
    sticky_key: str | None = Field(
        None, min_length=1, max_length=200, description="Jobs with one key go all to stable or all to canary."
    )
    webhook: Webhook | None = None


class JobError(BaseModel):
    """Why a job has no result."""

    code: str
    message: str


class Links(BaseModel):
    """Where to go on from a job."""

    self: str
    result: str
    events: str


class WebhookOut(BaseModel):
    """How telling the end of a job goes: `waiting` for the end, `sending`, `delivered`, or `failed` for good.

    `status` is what the receiver answered last, 0 where it did not.
    """

    state: Literal["waiting", "sending", "delivered", "failed"]
    tries: int
    status: int | None
    reason: str | None
    next_at: datetime | None


class JobOut(BaseModel):
    """One job at one moment."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": _JOB_ID,
                    "state": "queued",
                    "attempts": 0,
                    "model": DEFAULT_MODEL,
                    "created_at": "2026-11-21T10:00:00.120000Z",
                    "started_at": None,
                    "finished_at": None,
                    "expires_at": None,
                    "rows_done": None,
                    "rows_total": None,
                    "cancel_requested": False,
                    "error": None,
                    "links": {
                        "self": f"/v1/jobs/{_JOB_ID}",
                        "result": f"/v1/jobs/{_JOB_ID}/result",
                        "events": f"/v1/jobs/{_JOB_ID}/events",
                    },
                }
            ]
        }
    )

    id: str
    state: JobState
    attempts: int
    model: str
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    expires_at: datetime | None
    rows_done: int | None
    rows_total: int | None
    cancel_requested: bool
    error: JobError | None
    webhook: WebhookOut | None = Field(None, description="In the answer to GET, where the job has one.")
    links: Links


class Accepted(BaseModel):
    """A job that was accepted and has not ended."""

    id: str
    state: JobState
    links: Links


Table = Annotated[Any, WithJsonSchema({"anyOf": [{"type": "array"}, {"type": "object"}]})]


class Prediction(BaseModel):
    """Intervals: arrays are rows x targets, rows, or rows x 2 x targets; null in rows that failed."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"schema": 1, "lower": [[14.6, 20.1]], "upper": [[16.2, 22.4]], "passes_used": [12]}]
        }
    )

    schema_number: Literal[1] = Field(alias="schema")
    lower: Table
    upper: Table
    midpoint: Table
    width: Table
    passes_used: Table
    converged: Table
    crossed: Table
    failed: Table
    pass_std: Table
    intervals: list[float] = Field(description="Mean width of each target.")
    q_hat: list[float] = Field(description="The conformal correction of each target.")
    seed: int
    stochastic: bool
    forward_mode: str
    nominal_coverage: float | None
    model: dict[str, Any]
    unit: str | None
    warnings: list[str]


class ProcessOut(BaseModel):
    """One worker process and what it serves."""

    state: str
    version: str | None
    engine: str | None
    forward_mode: str | None
    jobs_done: int
    loaded_at: float | None
    reason: str | None


class ModelOut(BaseModel):
    """One model: the version that every process should serve, and who serves what."""

    name: str
    wanted_version: str | None
    converged: bool
    rejected_version: str | None
    rejected_reason: str | None
    processes: list[ProcessOut]


class ModelsOut(BaseModel):
    """All models that workers have reported."""

    models: list[ModelOut]


class ReloadOut(BaseModel):
    """What a look for new artifacts found, and who serves what afterwards."""

    poll: PollReport
    model: ModelOut


class ProblemOut(BaseModel):
    """RFC 9457 problem details."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "examples": [
                {
                    "type": "urn:uqueue:problem:job_not_found",
                    "title": "Not Found",
                    "status": 404,
                    "detail": f"No job {_JOB_ID} is known here: it was never accepted, or its record is past its "
                    "retention.",
                    "instance": f"/v1/jobs/{_JOB_ID}",
                    "code": "job_not_found",
                    "error": "JobNotFound",
                    "message": f"No job {_JOB_ID} is known here: it was never accepted, or its record is past its "
                    "retention.",
                    "timestamp": "2026-11-21T10:00:00.120Z",
                    "request_id": "9f0c1d2e3a4b5c6d7e8f90a1b2c3d4e5",
                    "job_id": _JOB_ID,
                }
            ]
        },
    )

    type: str
    title: str
    status: int
    detail: str
    code: str
    error: str = Field(description="The code in CamelCase; below /v2 the detail.")
    message: str = Field(description="The detail.")
    timestamp: str
    request_id: str
