"""What may stand in a message around its body, member by member, as pydantic checks it while it parses the JSON."""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired

from pydantic import ConfigDict, Field, OnErrorOmit, ValidationError, with_config
from pydantic_core import ErrorDetails
from typing_extensions import TypedDict  # pydantic reads only this one before Python 3.12

from uqueue_config.trace import REQUEST_ID, TRACEPARENT

_ID = r"^[A-Za-z0-9_.:-]{1,128}$"
_EXPIRES = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?(Z|[+-][0-9]{2}:[0-9]{2})?$"

Name = Annotated[str, Field(max_length=255)]
Shown = Annotated[str, Field(max_length=16 * 1024)]
#: Celery ends the process at the first of the two limits: a wish for less than a second would be a way to kill it.
LimitSeconds = Annotated[float, Field(ge=1, le=86_400)]
_STRICT = ConfigDict(strict=True, extra="ignore")


@with_config(_STRICT)
class Headers(TypedDict):
    """The headers that Celery reads, and what ties a job to its request, which is dropped where it is malformed. Others
    are left out, so that none can stand in for an attribute of Celery's own.
    """

    task: Name
    id: Annotated[str, Field(pattern=_ID)]
    root_id: NotRequired[Name | None]
    parent_id: NotRequired[Name | None]
    group: NotRequired[None]
    compression: NotRequired[None]
    shadow: NotRequired[Name | None]
    eta: NotRequired[None]
    expires: NotRequired[Annotated[str, Field(pattern=_EXPIRES)] | None]
    retries: NotRequired[Annotated[int, Field(ge=0, le=1000)]]
    timelimit: NotRequired[Annotated[list[LimitSeconds | None], Field(min_length=2, max_length=2)] | None]
    argsrepr: NotRequired[Shown | None]
    kwargsrepr: NotRequired[Shown | None]
    ignore_result: NotRequired[bool | None]
    traceparent: NotRequired[OnErrorOmit[Annotated[str, Field(pattern=TRACEPARENT)]]]
    request_id: NotRequired[OnErrorOmit[Annotated[str, Field(pattern=REQUEST_ID)]]]


@with_config(_STRICT)
class DeliveryInfo(TypedDict):
    """Where kombu puts a message back that nobody acknowledged."""

    exchange: Name
    routing_key: Name
    redelivered: NotRequired[bool | None]


@with_config(_STRICT)
class Properties(TypedDict):
    """What kombu needs to take a message off a Redis list and to file it until it is acknowledged."""

    delivery_info: DeliveryInfo
    delivery_tag: Name
    body_encoding: NotRequired[Literal["utf-8", "base64"] | None]
    correlation_id: NotRequired[Name | None]
    reply_to: NotRequired[Name | None]
    priority: NotRequired[Annotated[int, Field(ge=0, le=255)] | None]


Envelope = TypedDict(
    "Envelope",
    {
        "content-type": Literal["application/json"],
        "content-encoding": Literal["utf-8"],
        "headers": Headers,
        "properties": Properties,
        "body": str,
    },
)

_HINTS = {
    "headers.eta": "an eta is not supported",
    "headers.group": "groups are not supported",
    "headers.compression": "compression is not supported",
    "headers.id": "expected at most 128 letters, digits or any of _ . : -",
    "headers.expires": "expected a moment such as 2030-01-31T12:00:00+00:00",
    "content-type": "expected application/json",
    "content-encoding": "expected utf-8",
}


def reason_of(error: ValidationError) -> str:
    """Return what is wrong first, without the value itself."""
    first: ErrorDetails = error.errors(include_url=False, include_context=False, include_input=False)[0]
    member = ".".join(map(str, first["loc"]))
    if first["type"] == "missing":
        return f"{member} is missing, expected Celery's message protocol 2"
    if not member:
        return f"it is not a JSON object ({first['msg']})"
    return f"{member}: {_HINTS.get(member, first['msg'])}"
