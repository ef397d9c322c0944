"""What travels in the queue. Every message carries its schema number; golden files hold yesterday's."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import to_json

from uqueue_config.arrays import Encoding, decode_array, encode_array
from uqueue_config.errors import InvalidFeatures, InvalidMessage
from uqueue_config.names import DEFAULT_MODEL
from uqueue_config.payload import PayloadFolder, PayloadTable, Reference

#: Features of more rows or cells than this travel as base64; 4 times smaller, 30 times faster than JSON.
MAX_LIST_ROWS = 100
MAX_LIST_CELLS = 10_000
MODEL_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
VERSION = r"^@?[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
MAX_SEED = 2**63 - 1
#: An acknowledgement that nobody renews lapses after this time.
LAPSE_SECONDS = 10


class PredictRequest(BaseModel):
    """The keyword arguments of `uqueue.predict`.

    `features` is rows x columns, as nested lists, as base64 of little-endian float32, or as a reference to a payload;
    the answer's arrays come back as nested lists in the first case, as base64 in the others. `version` is stable,
    canary, the 16 characters of a version, or a name of the model's source (a version's, or @ and an alias).
    Where it is missing, `sticky_key` decides between stable and canary, or the job's id. Any program may send it:
    `send_task("uqueue.predict", kwargs={"features": [[...], ...]})`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)

    message_schema: Literal[1] = Field(1, alias="schema")
    model: str = Field(DEFAULT_MODEL, pattern=MODEL_NAME)
    features: list[Any] | dict[str, Any]
    seed: int | None = Field(None, ge=0, le=MAX_SEED)
    target_dim: int | None = Field(None, ge=1)
    version: str | None = Field(None, pattern=VERSION)
    sticky_key: str | None = Field(None, min_length=1, max_length=200)

    @classmethod
    def of(
        cls,
        features: NDArray[np.float32],
        model: str,
        seed: int | None = None,
        target_dim: int | None = None,
        version: str | None = None,
        sticky_key: str | None = None,
    ) -> Self:
        """Build the request for float32 features (rows, columns). Raises InvalidMessage."""
        is_small = len(features) <= MAX_LIST_ROWS and features.size <= MAX_LIST_CELLS
        encoding: Encoding = "lists" if is_small else "base64"
        # float32 values widen to exactly themselves, so lists and base64 carry the same numbers
        encoded = encode_array(features.astype(np.float64) if encoding == "lists" else features, encoding)
        request = {"model": model, "features": encoded, "seed": seed, "target_dim": target_dim}
        return cls.read({**request, "version": version, "sticky_key": sticky_key})

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

    def by_reference(self, reference: Reference) -> Self:
        """Return the same request with its features in a payload."""
        return self.model_copy(update={"features": reference.message()})

    def raw_features(self, payloads: PayloadFolder | None = None) -> Any:
        """Return the features as they came: nested lists, a float32 array, or what reads `payloads` when it is used as
        one. None is checked yet.
        """
        if isinstance(self.features, list):
            return self.features
        try:
            if "ref" in self.features:
                return PayloadTable(payloads, Reference.parse(self.features))
            return decode_array(self.features, "<f4")
        except ValueError as error:
            raise InvalidFeatures(reason=str(error)) from None

    def to_json(self) -> str:
        """Return the keyword arguments as JSON, always with the same members in the same order."""
        kwargs: dict[str, Any] = {
            "schema": self.message_schema,
            "model": self.model,
            "features": self.features,
            "seed": self.seed,
            "target_dim": self.target_dim,
        }
        # Left out where they say nothing, so that yesterday's request keeps its digest.
        kwargs |= {name: value for name in ("version", "sticky_key") if (value := getattr(self, name)) is not None}
        return to_json(kwargs).decode()

    def digest(self) -> str:
        """Return what tells two requests apart; see `digest`."""
        return digest(self.to_json())


def digest(request_json: str) -> str:
    """Return what tells two requests apart: the first 128 bits of the sha256 of their JSON."""
    return hashlib.sha256(request_json.encode()).hexdigest()[:32]


class Acknowledgement(BaseModel):
    """One process saying which model it serves. `state` is ready, or why it is not (see docs/concepts.md).

    busy_since  when it began what it computes now (seconds since the epoch), None while it waits
    pool_pid    the process that keeps it in a pool, None where it is alone
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    host: str
    pid: int
    model: str
    state: Literal["not_configured", "no_model", "loading", "ready", "stale", "invalid", "unloaded"]
    version: str | None = None
    sha256: str | None = None
    state_sha256: str | None = None
    engine: str | None = None
    forward_mode: str | None = None
    stochastic: bool | None = None
    loaded_at: float | None = None
    jobs_done: int = 0
    busy_since: float | None = None
    pool_pid: int | None = None
    artifacts_missing: bool = False
    reason: str | None = None


class PollReport(BaseModel):
    """What one look at the artifacts found: the result of `uqueue.artifacts.poll`.

    `elsewhere` means that another watcher looks in this interval, `overtaken` that a later look ended before this one.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    model: str
    outcome: Literal["unchanged", "moved", "rejected", "missing", "elsewhere", "overtaken"]
    version: str | None = None
    previous: str | None = None
    reason: str | None = None
