"""The check of whatever comes off a queue: it refuses with one error, and accepts what honest programs send."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from celery.canvas import Signature
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic_core import from_json

from builders.hostile import ANSWERED, FAILING, ILL_FORMED, STRANGERS, Target, as_bytes, mutations, named_id
from uqueue_config.envelope import check_unacked, read_celery_message, read_for_celery
from uqueue_config.errors import InvalidMessage
from uqueue_config.names import Queue, Task
from uqueue_config.template import template

GOLDEN = Path(__file__).parents[2] / "data" / "golden" / "envelope.json"
#: What the lane may read because it makes nothing of it: `PredictRequest` refuses it there.
ONLY_FOR_KOMBU = {"body: typed bytes", "body: typed and broken", "body: typed and unknown", "body: argument named self"}


def stock_message(**options: Any) -> bytes:
    """Return what `send_task` of a program that knows only Celery puts on the queue."""
    with Celery("stock", broker="memory://", set_as_current=False) as app, app.connection_for_write() as connection:
        channel = connection.default_channel
        app.send_task("uqueue.predict", kwargs={"features": [[1.5]]}, queue="stock", connection=connection, **options)
        message: dict[str, Any] = channel._get("stock")
    return as_bytes(message)


def test_there_are_enough_classes() -> None:
    assert len(ILL_FORMED) + len(STRANGERS) + len(FAILING) >= 200


@pytest.mark.parametrize("queue", list(Queue))
@pytest.mark.parametrize("name", ILL_FORMED)
def test_what_is_ill_formed_is_refused_with_a_reason(name: str, queue: Queue) -> None:
    target = Target(queue)
    message = ILL_FORMED[name](target)
    with pytest.raises(InvalidMessage) as refusal:
        read_for_celery(message)
    assert 10 < len(refusal.value.reason) < 250
    if name not in ONLY_FOR_KOMBU:
        with pytest.raises(InvalidMessage):
            read_celery_message(message)


@pytest.mark.parametrize("name", [*STRANGERS, *FAILING, *ANSWERED])
def test_what_is_well_formed_is_read(name: str) -> None:
    target = Target(Queue.PREDICTIONS)
    message = {**STRANGERS, **FAILING, **ANSWERED}[name](target)
    task, kwargs = read_celery_message(message)
    envelope, same = read_for_celery(message)
    assert envelope["headers"]["task"] == task
    assert envelope["headers"]["id"] == target.job_id == named_id(message)
    assert json.loads(envelope["body"])[1] == kwargs == same


def test_only_what_was_checked_goes_on() -> None:
    message = Target(Queue.PREDICTIONS).changed("headers", {"task": "t", "id": "1", "is_eager": True, "update": 5})
    envelope, _ = read_for_celery(message)
    assert envelope["headers"] == {"task": "t", "id": "1"}
    assert set(envelope) == {"body", "headers", "properties", "content-type", "content-encoding"}


def test_our_own_messages_are_read() -> None:
    own = template(Task.PREDICT, Queue.PREDICTIONS, "a 'shown' text").message("job-1", '{"features":[[1.5]]}')
    golden = GOLDEN.read_bytes()
    for message in (own, golden, Target(Queue.CONTROL).good()):
        read_for_celery(message)
    assert read_celery_message(own) == ("uqueue.predict", {"features": [[1.5]]})


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"expires": 60},
        {"expires": datetime.now(UTC) + timedelta(days=1)},
        {"time_limit": 30, "soft_time_limit": 20.5},
        {"priority": 9},
        {"task_id": "order:17.2_b"},
        {"headers": {"traceparent": "00-1-2-01"}, "shadow": "shown", "ignore_result": True, "retries": 2},
        {"root_id": "r", "parent_id": "p", "reply_to": "someone"},
    ],
    ids=lambda options: "+".join(options),
)
def test_what_stock_celery_sends_is_read(options: dict[str, Any]) -> None:
    message = stock_message(**options)
    assert read_celery_message(message) == ("uqueue.predict", {"features": [[1.5]]})
    assert read_for_celery(message)[0]["headers"]["id"] == options.get("task_id", named_id(message))


@pytest.mark.parametrize("options", [{"countdown": 5}, {"link": Signature("x")}, {"group_id": "g"}], ids=str)
def test_what_stock_celery_can_send_and_uqueue_cannot_do_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidMessage, match="not supported"):
        read_celery_message(stock_message(**options))


def test_escapes_of_a_body_do_not_count_as_header() -> None:
    body = json.dumps([[], {"model": '"' * 100_000}, None])
    assert read_celery_message(Target(Queue.PREDICTIONS).changed("body", body))[1]["model"] == '"' * 100_000


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
HEADERS = st.sampled_from(["task", "id", "eta", "expires", "retries", "timelimit", "group"]).map("headers.{}".format)
PROPERTIES = st.sampled_from(["delivery_info", "delivery_tag", "body_encoding", "priority"]).map("properties.{}".format)
MEMBER = st.sampled_from(["headers", "properties", "body", "content-type", "content-encoding"]) | HEADERS | PROPERTIES


@given(st.binary(max_size=300))
@example(b"")
def test_bytes_raise_nothing_else(message: bytes) -> None:
    with pytest.raises(InvalidMessage):
        read_celery_message(message)


@given(MEMBER, ANYTHING)
def test_members_raise_nothing_else(member: str, value: Any) -> None:
    message = Target(Queue.PREDICTIONS).changed(member, value)
    for read in (read_celery_message, read_for_celery, check_unacked):
        try:
            read(message)  # type: ignore[operator]
        except InvalidMessage:
            continue


@given(st.lists(ANYTHING, max_size=4), st.booleans())
def test_bodies_raise_nothing_else(parts: list[Any], encoded: bool) -> None:
    body = json.dumps(parts)
    target = Target(Queue.PREDICTIONS)
    try:
        read_for_celery(target.encoded(body.encode()) if encoded else target.changed("body", body))
    except InvalidMessage:
        return
    assert parts[0] == []
    assert isinstance(parts[1], dict)


@settings(max_examples=200)
@given(st.integers(0, 2**32), st.sampled_from(list(Queue)))
def test_damage_raises_nothing_else(seed: int, queue: Queue) -> None:
    for message in mutations(seed, 10, queue):
        try:
            task, kwargs = read_celery_message(message)
        except InvalidMessage:
            continue
        # What was accepted is what Celery would have read.
        envelope = json.loads(message)
        encoding = envelope["properties"].get("body_encoding")
        body = base64.b64decode(envelope["body"]) if encoding == "base64" else envelope["body"]
        assert (task, named_id(message)) == (envelope["headers"]["task"], envelope["headers"]["id"])
        assert kwargs == json.loads(body)[1]


@given(ANYTHING.map(json.dumps), st.integers(0, 40), st.sampled_from(["", ",", "]", "NaN", "\\u12", "'", "\x00"]))
def test_the_quick_parser_accepts_no_more_than_the_standard_one(text: str, place: int, damage: str) -> None:
    damaged = text[:place] + damage + text[place:]
    try:
        value = from_json(damaged, allow_inf_nan=False)
    except ValueError:
        return
    assert json.loads(damaged) == value


@pytest.mark.parametrize(
    "kept", [b"", b"null", b"[]", b'[{},"",""]', b'["x","","celery"]', b"[" * 20_000, b"\xff"], ids=repr
)
def test_what_kombu_could_not_restore_is_refused(kept: bytes) -> None:
    with pytest.raises(InvalidMessage):
        check_unacked(kept)


def test_what_kombu_keeps_is_accepted() -> None:
    envelope = Target(Queue.CONTROL).envelope()
    check_unacked(as_bytes([envelope, "", "control"]))
    envelope["headers"]["redelivered"] = True
    check_unacked(as_bytes([envelope, "control", "control"]))
