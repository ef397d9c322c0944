"""Commands to workers: what operators send is read, and what would make a worker deaf is not."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders.hostile import HOSTILE, Target, as_bytes
from uqueue_config.errors import InvalidMessage
from uqueue_config.names import Queue
from uqueue_worker.remote_control import read_command
from uqueue_worker.transport import _broadcast

MAILBOX = "/0.celery.pidbox"
TARGET = Target(Queue.CONTROL)


def command(**members: Any) -> bytes:
    """Return a command as kombu's mailbox sends it."""
    body = {"method": "ping", "arguments": {}, "destination": None, "pattern": None, "matcher": None, **members}
    envelope = json.loads(TARGET.encoded(json.dumps(body).encode()))
    return as_bytes({**envelope, "headers": {"clock": 3, "expires": 1_700_000_000.5}})


@pytest.mark.parametrize(
    "members",
    [
        {},
        {"destination": ["worker@host"]},
        {"ticket": "t", "reply_to": {"exchange": "reply.celery.pidbox", "routing_key": "x"}},
        {"method": "revoke", "arguments": {"task_id": ["a", "b"], "terminate": True, "signal": "SIGTERM"}},
        {"pattern": "worker*", "matcher": "glob"},
    ],
    ids=str,
)
def test_what_operators_send_is_read(members: dict[str, Any]) -> None:
    sent = command(**members)
    read = json.loads(read_command(sent))
    assert json.loads(read["body"]) == json.loads(base64.b64decode(json.loads(sent)["body"]))
    assert read["headers"]["clock"] == 3
    assert read["properties"]["delivery_info"] == json.loads(sent)["properties"]["delivery_info"]
    assert json.loads(_broadcast(MAILBOX, sent)) == read


@pytest.mark.parametrize(
    "members",
    [
        {"method": 5},
        {"method": None},
        {"arguments": [1]},
        {"destination": 5},
        {"destination": "worker@host"},
        {"reply_to": 5},
        {"reply_to": {}},
        {"reply_to": {"exchange": [1], "routing_key": {}}},
        {"ticket": ["t"]},
        {"pattern": "(", "matcher": "pcre"},
        {"pattern": 5},
        {"self": 1},
        {"__type__": "bytes"},
    ],
    ids=str,
)
def test_what_would_deafen_a_worker_is_ignored(members: dict[str, Any]) -> None:
    with pytest.raises(InvalidMessage):
        read_command(command(**members))
    assert _broadcast(MAILBOX, command(**members)) == b""


@pytest.mark.parametrize("clock", ["3", 2**60, -1, [1]])
def test_a_clock_is_a_sane_number(clock: Any) -> None:
    with pytest.raises(InvalidMessage, match="clock"):
        read_command(as_bytes({**json.loads(command()), "headers": {"clock": clock}}))


@pytest.mark.parametrize("name", HOSTILE)
def test_no_hostile_message_is_a_command(name: str) -> None:
    assert _broadcast(MAILBOX, HOSTILE[name](TARGET)) == b""


@given(st.binary(max_size=200))
def test_bytes_raise_nothing_else(message: bytes) -> None:
    for sent in (message, TARGET.encoded(message)):
        with pytest.raises(InvalidMessage):
            read_command(sent)


def test_workers_do_not_hear_one_another_but_monitors_hear_workers() -> None:
    assert _broadcast("/0.celeryev/worker.*", command()) == b""
    assert _broadcast("/0.celeryev/*", b"anything") == b"anything"
