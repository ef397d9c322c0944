"""Celery's remote control, checked: what makes a worker fail at a command would also make it deaf from then on.

Over Redis, Celery answers such a failure by opening its mailbox anew, and with that stops consuming altogether.
"""

from __future__ import annotations

import base64
from typing import Annotated, Any, Literal, NotRequired

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, with_config
from pydantic_core import to_json
from typing_extensions import TypedDict  # pydantic reads only this one before Python 3.12

from uqueue_config.envelope_schema import Name, Properties, reason_of
from uqueue_config.errors import InvalidMessage


@with_config(ConfigDict(strict=True, extra="ignore"))
class _Headers(TypedDict):
    clock: NotRequired[Annotated[int, Field(ge=0, lt=2**53)] | None]
    expires: NotRequired[float | None]


_Broadcast = TypedDict(
    "_Broadcast",
    {
        "content-type": Literal["application/json"],
        "content-encoding": Literal["utf-8"],
        "headers": _Headers,
        "properties": Properties,
        "body": str,
    },
)


@with_config(ConfigDict(strict=True, extra="forbid"))
class _ReplyTo(TypedDict):
    exchange: Name
    routing_key: Name


@with_config(ConfigDict(strict=True, extra="forbid"))
class _Command(TypedDict):
    method: Name
    arguments: NotRequired[dict[str, Any] | None]
    destination: NotRequired[list[Name] | None]
    pattern: NotRequired[Name | None]
    matcher: NotRequired[Literal["glob"] | None]
    reply_to: NotRequired[_ReplyTo | None]
    ticket: NotRequired[Name | None]


_parse_broadcast = TypeAdapter(_Broadcast).validator.validate_json
_parse_command = TypeAdapter(_Command).validator.validate_json


def read_command(message: bytes) -> bytes:
    """Return a command to workers as kombu may read it, with only the members that were checked.

    Raises InvalidMessage for what is none, and for one that picks workers by a regular expression.
    """
    try:
        broadcast: dict[str, Any] = _parse_broadcast(message)
        if broadcast["properties"].pop("body_encoding", None) == "base64":
            broadcast["body"] = base64.b64decode(broadcast["body"], validate=True)
        broadcast["body"] = to_json(_parse_command(broadcast["body"])).decode()
    except ValidationError as error:
        raise InvalidMessage(reason=reason_of(error)) from None
    except ValueError:
        raise InvalidMessage(reason="body: it is not base64") from None
    return to_json(broadcast)
