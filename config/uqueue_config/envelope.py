"""A job as Celery and kombu write it on a Redis list: message protocol 2 inside kombu's JSON envelope.

Written here rather than through a Celery producer because the ledger's script pushes the message in the same atomic
step that writes the job's record. Reference: Celery documentation, "Message Protocol", version 2.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import socket
import uuid
from collections.abc import Mapping
from typing import Any

from uqueue_config.errors import InvalidMessage


def celery_message(job_id: str, task: str, kwargs: Mapping[str, Any], *, queue: str, argsrepr: str) -> str:
    """Return the text to LPUSH onto `queue`. `argsrepr` is what Flower shows in place of the arguments."""
    embed = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
    body = json.dumps([[], kwargs, embed], separators=(",", ":"), allow_nan=False)
    envelope = {
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {
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
            "delivery_tag": str(uuid.uuid4()),
        },
        # Without body_encoding kombu takes it as it stands; base64 would add a third to every job. It comes last, so
        # that whoever looks for the id in the text meets it early.
        "body": body,
    }
    return json.dumps(envelope, separators=(",", ":"))


def read_celery_message(message: bytes) -> tuple[str, dict[str, Any]]:
    """Return (task name, keyword arguments) of a message, trusting nothing in it.

    Raises InvalidMessage for what is not JSON of protocol 2 with keyword arguments only, and for what asks for more
    than one answer: callbacks, chains, chords, an eta.
    """
    try:
        envelope = json.loads(message)
        body, headers, properties = envelope["body"], envelope["headers"], envelope["properties"]
        task = headers["task"]
        if not (isinstance(task, str) and isinstance(body, str) and isinstance(properties, dict)):
            raise InvalidMessage(reason="body and task must be text")
        if envelope.get("content-type") != "application/json":
            raise InvalidMessage(reason=f"content type {str(envelope.get('content-type'))[:40]!r}, expected JSON")
        if headers.get("eta") is not None:
            raise InvalidMessage(reason="an eta is not supported")
        return task, _keyword_arguments(_plain_body(body, properties.get("body_encoding")))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InvalidMessage(reason=f"it does not follow Celery's protocol 2 ({type(error).__name__})") from error


def _plain_body(body: str, encoding: Any) -> str | bytes:
    if encoding is None or encoding == "utf-8":
        return body
    if encoding != "base64":
        raise InvalidMessage(reason=f"body encoding {str(encoding)[:20]!r}")
    try:
        return base64.b64decode(body, validate=True)
    except binascii.Error as error:
        raise InvalidMessage(reason="the body is not base64") from error


def _keyword_arguments(body: str | bytes) -> dict[str, Any]:
    args, kwargs, embed = json.loads(body)
    if args or not isinstance(args, list) or not isinstance(kwargs, dict):
        raise InvalidMessage(reason="expected keyword arguments only")
    if isinstance(embed, dict) and any(embed.values()):
        raise InvalidMessage(reason="callbacks, chains and chords are not supported")
    return kwargs
