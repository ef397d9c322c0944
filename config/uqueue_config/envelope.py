"""A job as Celery and kombu write it on a Redis list: message protocol 2 inside kombu's JSON envelope.

Written here rather than through a Celery producer because the ledger's script pushes the message in the same atomic
step that writes the job's record. Reference: Celery documentation, "Message Protocol", version 2.

What comes off a queue is checked here before anything trusts it, on the lane and ahead of Celery alike.
"""

from __future__ import annotations

import base64
import json
import os
import socket
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json

from uqueue_config.envelope_schema import Envelope, Name, reason_of
from uqueue_config.errors import InvalidMessage
from uqueue_config.trace import TraceContext


def celery_message(
    job_id: str,
    task: str,
    kwargs: Mapping[str, Any],
    *,
    queue: str,
    argsrepr: str,
    delivery_tag: str | None = None,
    trace: TraceContext | None = None,
) -> str:
    """Return the text to LPUSH onto `queue`. `argsrepr` is what Flower shows in place of the arguments."""
    embed = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
    body = json.dumps([[], kwargs, embed], separators=(",", ":"), allow_nan=False)
    envelope = {
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {
            **(trace.headers if trace else {}),
            "lang": "py",
            "task": task,
            "id": job_id,
            "root_id": job_id,
            "parent_id": None,
            "group": None,
            "eta": None,
            "expires": None,
            "retries": 0,
            "timelimit": [None, None],
            "argsrepr": "()",
            "kwargsrepr": argsrepr,
            "origin": f"{os.getpid()}@{socket.gethostname()}",
            "ignore_result": False,
        },
        "properties": {
            "correlation_id": job_id,
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": queue},
            "priority": 0,
            "delivery_tag": delivery_tag or str(uuid.uuid4()),
        },
        # Without body_encoding kombu takes it as it stands; base64 would add a third to every job. It comes last, so
        # that whoever looks for the id in the text meets it early.
        "body": body,
    }
    return json.dumps(envelope, separators=(",", ":"))


#: Most of what a message may spend on anything but its body.
MAX_HEADER_BYTES = 64 * 1024
_EXPIRY_YEARS = range(2000, 3000)
_parse_envelope = TypeAdapter(Envelope).validator.validate_json
#: What kombu keeps of a message that is not acknowledged yet: the envelope, its exchange and its routing key.
_parse_unacked = TypeAdapter(tuple[Envelope, Name, Name]).validator.validate_json
_NO_SUCCESSORS: dict[str, None] = dict.fromkeys(("callbacks", "errbacks", "chain", "chord"))


def read_celery_message(message: bytes) -> tuple[str, dict[str, Any]]:
    """Return (task name, keyword arguments) of a message, trusting nothing in it.

    Raises InvalidMessage for what is not JSON of protocol 2 with keyword arguments only, and for what asks for more
    than one answer: callbacks, chains, chords, groups, an eta. Nesting is bounded, NaN is refused, and so is protocol
    1, which Celery itself stopped sending with version 4.
    """
    headers, kwargs = read_headers(message)
    return headers["task"], kwargs


def read_headers(message: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return (checked headers, keyword arguments); raises as `read_celery_message` does."""
    envelope, body = _read(message)
    return envelope["headers"], _keyword_arguments(body)


def is_overdue(headers: Mapping[str, Any]) -> bool:
    """Whether the moment has passed before which a worker should have begun; without a zone it is UTC."""
    expires = headers.get("expires")
    if expires is None:
        return False
    moment = datetime.fromisoformat(expires)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) <= datetime.now(UTC)


def read_for_celery(message: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return (envelope, keyword arguments); of the envelope only what was checked, its body as kombu may read it.

    Raises InvalidMessage as `read_celery_message` does.
    """
    envelope, body = _read(message)
    kwargs = _keyword_arguments(body)
    # Kombu makes other objects of {"__type__": ..., "__value__": ...}, and a key may be written with escapes.
    if ("\\" in body or "__type__" in body) and _holds_typed_values(kwargs):
        raise InvalidMessage(reason="body: typed values (`__type__`) are not supported")
    if "self" in kwargs:
        raise InvalidMessage(reason="body: no task has an argument `self`")
    return envelope, kwargs


def _read(message: bytes) -> tuple[dict[str, Any], str]:
    """Return the envelope and its plain body; the fields of the envelope are checked, the body is not."""
    try:
        envelope: dict[str, Any] = _parse_envelope(message)
    except ValidationError as error:
        raise InvalidMessage(reason=reason_of(error)) from None
    headers, body = envelope["headers"], envelope["body"]
    # The ledger's scripts take the first id that they meet in the text: it must be the one that Celery would read.
    at = message.find(b'"id":') + 5
    quoted = f'"{headers["id"]}"'.encode()
    if message.find(quoted, at) != at and message.find(b" " + quoted, at) != at:
        raise InvalidMessage(reason="headers.id: it is not the first id in the text")
    if len(message) - len(body) > MAX_HEADER_BYTES:
        _check_header_bytes(message)
    if headers.get("expires") is not None:
        _check_expires(headers["expires"])
    if envelope["properties"].get("body_encoding") == "base64":
        body = _decoded(body)
    return envelope, body


def check_unacked(kept: bytes) -> None:
    """Raise InvalidMessage for what kombu could not restore to its queue."""
    try:
        _parse_unacked(kept)
    except ValidationError as error:
        raise InvalidMessage(reason=reason_of(error)) from None


def _check_header_bytes(message: bytes) -> None:
    """The difference may come from the escapes in the body, so this counts anew without it."""
    envelope = from_json(message)
    del envelope["body"]
    if len(json.dumps(envelope)) > MAX_HEADER_BYTES:
        raise InvalidMessage(reason=f"more than {MAX_HEADER_BYTES} bytes beside the body")


def _check_expires(expires: str) -> None:
    try:
        moment = datetime.fromisoformat(expires)
    except ValueError:
        raise InvalidMessage(reason="headers.expires: no such moment") from None
    if moment.year not in _EXPIRY_YEARS:
        raise InvalidMessage(reason=f"headers.expires: the year {moment.year} is out of range")


def _decoded(body: str) -> str:
    try:
        return base64.b64decode(body, validate=True).decode()
    except ValueError:
        raise InvalidMessage(reason="body: it is not base64 of UTF-8 text") from None


def _keyword_arguments(body: str) -> dict[str, Any]:
    try:
        parts = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise InvalidMessage(reason=f"body: it is not JSON ({error})") from None
    if type(parts) is not list or len(parts) != 3:
        raise InvalidMessage(reason="body: expected a list of arguments, keyword arguments and successors")
    args, kwargs, successors = parts
    if args or type(args) is not list or type(kwargs) is not dict:
        raise InvalidMessage(reason="body: expected keyword arguments only")
    if successors != _NO_SUCCESSORS:
        _check_successors(successors)
    return kwargs


def _check_successors(successors: Any) -> None:
    if successors is None:
        return
    if type(successors) is not dict or not successors.keys() <= _NO_SUCCESSORS.keys():
        raise InvalidMessage(reason="body: expected callbacks, errbacks, chain and chord, all of them null")
    if any(value is not None and value != [] for value in successors.values()):
        raise InvalidMessage(reason="body: callbacks, chains and chords are not supported")


def _holds_typed_values(value: Any) -> bool:
    if isinstance(value, dict):
        return "__type__" in value or any(map(_holds_typed_values, value.values()))
    return isinstance(value, list) and any(map(_holds_typed_values, value))
