"""What localization requests hold: bytes of JSON to checked values. Pure; large bodies take a while, so call it from a
thread.

Problems are 400 for what is no JSON, 422 for what has not the form of the schema. The samples themselves are looked at
in features.py, once it is known which model reads them.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StrictBool, ValidationError
from pydantic_core import from_json

from uqueue.gateway.localization.refusals import invalid_request, refusal
from uqueue.gateway.problems import Problem

MAX_ITEMS = 100
MAX_SESSION = 256
Positive = Annotated[float, Field(gt=0, strict=True, allow_inf_nan=False)]
Session = Annotated[str, Field(max_length=MAX_SESSION, strict=True)]
M = TypeVar("M", bound=BaseModel)


class _Single(BaseModel):
    """The members of a single request; samples are looked at later."""

    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True)

    iq_data: Any = None
    iq_base64: Annotated[str, Field(strict=True)] | None = None
    shape: Annotated[list[Annotated[int, Field(ge=0, strict=True)]], Field(min_length=1, max_length=2)] | None = None
    session_id: Session | None = None
    cache_enabled: StrictBool | None = None
    sample_rate_hz: Positive | None = None
    frequency_mhz: Positive | None = None


class _Batch(BaseModel):
    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True)

    iq_samples: list[Any] | None = None
    predictions: list[Any] | None = None
    session_id: Session | None = None
    cache_enabled: StrictBool | None = None
    sample_rate_hz: Positive | None = None
    frequency_mhz: Positive | None = None
    continue_on_error: StrictBool | None = None


@dataclass(frozen=True)
class Item:
    """One localization asked for. Either `iq_data`, or `iq_base64` with its `shape`, is there; None elsewhere means
    that the request did not say.
    """

    iq_data: Any
    iq_base64: str | None
    shape: Sequence[int] | None
    session_id: str | None
    cache_enabled: bool
    sample_rate_hz: float | None
    frequency_mhz: float | None


@dataclass(frozen=True)
class Batch:
    """Up to 100 items; one that could not be read is the problem with it, which only `continue_on_error` allows.

    `session_id` is the one that chooses the version: the batch's own, else the one that all items have.
    """

    items: tuple[Item | Problem, ...]
    session_id: str | None
    continue_on_error: bool


def read_single(data: bytes) -> Item:
    """Return what the body of a single request asks for. Raises Problem."""
    return _item(_object(_parse(data)), {})


def read_batch(data: bytes) -> Batch:
    """Return what the body of a batch asks for. Raises Problem, which names the item where it is about one."""
    given = _checked(_Batch, _object(_parse(data)))
    if (given.iq_samples is None) == (given.predictions is None):
        raise invalid_request("Expected exactly one of iq_samples and predictions.")
    raw: list[Any] = [{"iq_data": one} for one in given.iq_samples or ()] or given.predictions or []
    if not 1 <= len(raw) <= MAX_ITEMS:
        raise invalid_request(f"Expected 1 to {MAX_ITEMS} items, got {len(raw)}.")
    defaults = {
        name: getattr(given, name) for name in ("session_id", "cache_enabled", "sample_rate_hz", "frequency_mhz")
    }
    items = tuple(_items(raw, defaults))
    skip = bool(given.continue_on_error)
    if not skip and (first := next((one for one in items if isinstance(one, Problem)), None)):
        raise first
    sessions = {one.session_id for one in items if isinstance(one, Item)}
    shared = sessions.pop() if len(sessions) == 1 else None
    return Batch(items, given.session_id or shared, skip)


def unpacked(data: bytes, limit: int) -> bytes:
    """Return what gzip packed. Problem 413 as soon as it is more than `limit` bytes, 400 for what is no gzip."""
    inflate = zlib.decompressobj(wbits=31)
    try:
        plain = inflate.decompress(data, limit + 1)
    except zlib.error:
        raise Problem(400, "invalid_body", "The body is not gzip, as its Content-Encoding says.") from None
    if len(plain) > limit:
        raise Problem(413, "body_too_large", f"The body of a request may have {limit} bytes, unpacked.")
    if not inflate.eof or inflate.unused_data:
        raise Problem(400, "invalid_body", "The body is not one whole gzip member, as its Content-Encoding says.")
    return plain


def _items(raw: Sequence[Any], defaults: Mapping[str, Any]) -> Iterator[Item | Problem]:
    for index, one in enumerate(raw):
        try:
            yield _item(_object(one), defaults)
        except Problem as problem:
            yield refusal(problem, index)


def _item(value: Mapping[str, Any], defaults: Mapping[str, Any]) -> Item:
    given = _checked(_Single, value)
    if (given.iq_data is None) == (given.iq_base64 is None):
        raise invalid_request("Expected exactly one of iq_data and iq_base64.")
    if given.iq_base64 is not None and given.shape is None:
        raise invalid_request("shape: iq_base64 needs it, [n] or [receivers, n], counted in complex samples.")

    def or_default(name: str) -> Any:
        own = getattr(given, name)
        return defaults.get(name) if own is None else own

    return Item(
        iq_data=given.iq_data,
        iq_base64=given.iq_base64,
        shape=given.shape,
        session_id=or_default("session_id") or None,
        cache_enabled=or_default("cache_enabled") is not False,
        sample_rate_hz=or_default("sample_rate_hz"),
        frequency_mhz=or_default("frequency_mhz"),
    )


def _parse(data: bytes) -> Any:
    try:
        return from_json(data, allow_inf_nan=False)
    except ValueError as error:
        raise Problem(400, "invalid_json", f"The body is not JSON: {str(error)[:200]}.") from None


def _object(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise invalid_request("Expected a JSON object.")
    return value


def _checked(kind: type[M], value: Mapping[str, Any]) -> M:
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)[:20]
        errors = [
            {"pointer": "/" + "/".join(str(part) for part in one["loc"]), "detail": str(one["msg"])[:200]}
            for one in found
        ]
        detail = "; ".join(f"{one['pointer'][1:].replace('/', '.')}: {one['detail']}" for one in errors[:5])
        raise invalid_request(f"{detail}.", errors) from None
