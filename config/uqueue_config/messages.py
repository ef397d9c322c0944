"""What travels in the queue. Every message carries its schema number; golden files hold yesterday's."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from uqueue_config.arrays import Encoding, decode_array, encode_array
from uqueue_config.errors import InvalidFeatures, InvalidMessage
from uqueue_config.names import DEFAULT_MODEL

#: Features of more rows than this travel as base64; it is 4 times smaller and 30 times faster than JSON numbers.
MAX_LIST_ROWS = 100
MODEL_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
MAX_SEED = 2**63 - 1


class PredictRequest(BaseModel):
    """The keyword arguments of `uqueue.predict`.

    `features` is rows x columns, as nested lists or as base64 of little-endian float32; the answer's arrays come back
    in the same encoding. Any program may send it: `send_task("uqueue.predict", kwargs={"features": [[...], ...]})`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)

    message_schema: Literal[1] = Field(1, alias="schema")
    model: str = Field(DEFAULT_MODEL, pattern=MODEL_NAME)
    features: list[Any] | dict[str, Any]
    seed: int | None = Field(None, ge=0, le=MAX_SEED)
    target_dim: int | None = Field(None, ge=1)

    @classmethod
    def of(cls, features: NDArray[np.float32], model: str, seed: int | None, target_dim: int | None) -> Self:
        """Build the request for float32 features (rows, columns). Raises InvalidMessage."""
        encoding: Encoding = "lists" if len(features) <= MAX_LIST_ROWS else "base64"
        # float32 values widen to exactly themselves, so lists and base64 carry the same numbers
        encoded = encode_array(features.astype(np.float64) if encoding == "lists" else features, encoding)
        return cls.read({"model": model, "features": encoded, "seed": seed, "target_dim": target_dim})

    @classmethod
    def read(cls, kwargs: Mapping[str, Any]) -> Self:
        """Check what came out of a queue. Raises InvalidMessage saying which member is wrong."""
        try:
            return cls.model_validate(dict(kwargs))
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            member = ".".join(str(part) for part in first["loc"][:1]) or "kwargs"
            raise InvalidMessage(reason=f"{member}: {first['msg'][:200]}") from None

    @property
    def encoding(self) -> Encoding:
        return "base64" if isinstance(self.features, dict) else "lists"

    def raw_features(self) -> Any:
        """Return the features undecoded but for base64: a float32 array or nested lists, neither checked yet."""
        if isinstance(self.features, list):
            return self.features
        try:
            return decode_array(self.features, "<f4")
        except ValueError as error:
            raise InvalidFeatures(reason=str(error)) from None

    def to_kwargs(self) -> dict[str, Any]:
        return {
            "schema": self.message_schema,
            "model": self.model,
            "features": self.features,
            "seed": self.seed,
            "target_dim": self.target_dim,
        }


def digest(kwargs: Mapping[str, Any]) -> str:
    """Return what tells two requests apart: the first 128 bits of the sha256 of their canonical JSON."""
    canonical = json.dumps(kwargs, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:32]


class Acknowledgement(BaseModel):
    """One process saying which model it serves. `state` is ready, or why it is not (see docs/concepts.md)."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    host: str
    pid: int
    model: str
    state: Literal["not_configured", "no_model", "loading", "ready", "stale", "invalid"]
    version: str | None = None
    sha256: str | None = None
    engine: str | None = None
    forward_mode: str | None = None
    stochastic: bool | None = None
    loaded_at: float | None = None
    jobs_done: int = 0
    artifacts_missing: bool = False
    reason: str | None = None


class PollReport(BaseModel):
    """What one look at the artifacts found: the result of `uqueue.artifacts.poll`."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    model: str
    outcome: Literal["unchanged", "moved", "rejected", "missing"]
    version: str | None = None
    previous: str | None = None
    reason: str | None = None
