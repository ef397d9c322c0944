"""The gate between a real Redis and Celery: what goes through, what becomes a dead letter, what is held."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from kombu import Connection

from builders.hostile import ANSWERED, HOSTILE, ROW, Target
from builders.waiting import eventually
from uqueue import Client
from uqueue.embedded import EmbeddedRedis, start_redis
from uqueue_config.connections import connect
from uqueue_config.ledger import Ledger, LedgerCommands
from uqueue_config.names import CELERY_DEFAULT_QUEUE, DEAD_KEY, Queue, job_key
from uqueue_config.settings import Settings
from uqueue_worker import gate as gate_module
from uqueue_worker import transport
from uqueue_worker.gate import Gate
from uqueue_worker.transport import GuardedConnection, GuardedTransport

QUEUES = [*Queue, CELERY_DEFAULT_QUEUE]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    with start_redis(tmp_path) as running:
        yield running


@pytest.fixture
def settings(server: EmbeddedRedis) -> Settings:
    return Settings.load({"UQUEUE_BROKER_URL": server.url})


@pytest.fixture
def connection(settings: Settings) -> Iterator[redis.Redis]:
    with connect(settings.broker) as connected:
        yield connected


@pytest.fixture
def gate(settings: Settings, connection: redis.Redis) -> Gate:
    return Gate(settings, Ledger(connection))


def letters(connection: redis.Redis, settings: Settings) -> list[Any]:
    commands = LedgerCommands(settings.result_ttl_seconds, settings.record_ttl_seconds)
    ledger = Ledger(connection)
    found = ledger.run(commands.letters(0, 10_000)).letters
    return [ledger.run(commands.letter(str(one.number))) for one in found]


@pytest.mark.parametrize("queue", QUEUES)
def test_every_hostile_message_is_kept_with_its_reason(
    queue: str, gate: Gate, connection: redis.Redis, settings: Settings
) -> None:
    pushed = []
    for make in HOSTILE.values():
        message = make(Target(queue))
        assert gate.admit(queue, message) is None
        pushed.append(message)
    found = letters(connection, settings)[::-1]
    assert [letter.message for letter in found] == [message[:65536] for message in pushed]
    assert [letter.size_bytes for letter in found] == [len(message) for message in pushed]
    assert all(letter.queue == queue and 10 < len(letter.reason) < 250 for letter in found)
    assert not gate.holds


@pytest.mark.parametrize("name", ANSWERED)
def test_what_is_only_odd_goes_through_without_its_oddity(name: str, gate: Gate) -> None:
    target = Target(Queue.PREDICTIONS)
    admitted = gate.admit(target.queue, ANSWERED[name](target))
    assert admitted is not None
    assert admitted["headers"]["id"] == target.job_id
    assert admitted["headers"]["ignore_result"] is False
    assert admitted["properties"]["delivery_info"]["routing_key"] == Queue.PREDICTIONS
    assert admitted["properties"]["delivery_info"]["exchange"] == ""
    assert "is_eager" not in admitted["headers"]


def test_two_messages_with_one_delivery_tag_get_two(gate: Gate) -> None:
    target = Target(Queue.PREDICTIONS)
    tags = {gate.admit(target.queue, target.good())["properties"]["delivery_tag"] for _ in range(2)}  # type: ignore[index]
    assert len(tags) == 2


def test_only_a_poll_that_is_nobodys_prediction_goes_through(
    gate: Gate, settings: Settings, connection: redis.Redis
) -> None:
    """Its outcome would become that of the prediction whose id it carries."""
    with Client(settings) as client:
        job = client.submit([ROW])
    forged = Target(Queue.CONTROL, job_id=job.id)
    assert gate.admit(Queue.CONTROL, forged.good()) is None
    assert "belongs to a prediction" in letters(connection, settings)[0].reason
    connection.hset(job_key("sent-by-celery"), mapping={"model": "mccp-uq", "state": "running"})
    assert gate.admit(Queue.CONTROL, Target(Queue.CONTROL, job_id="sent-by-celery").good()) is None
    assert gate.admit(Queue.CONTROL, Target(Queue.CONTROL).good()) is not None


def test_a_poll_has_two_arguments(gate: Gate, connection: redis.Redis, settings: Settings) -> None:
    for kwargs in ({"models": "mccp-uq"}, {"model": "mccp-uq", "a": 1}):
        assert gate.admit(Queue.CONTROL, Target(Queue.CONTROL).with_kwargs(**kwargs)) is None
        assert "no arguments but" in letters(connection, settings)[0].reason
    for kwargs in ({"model": ["mccp-uq"]}, {"model": {}}, {"model": None}, {"scheduled": 1}):
        assert gate.admit(Queue.CONTROL, Target(Queue.CONTROL).with_kwargs(**kwargs)) is None
        assert "names its `model` in text" in letters(connection, settings)[0].reason
    assert gate.admit(Queue.CONTROL, Target(Queue.CONTROL).with_kwargs(model="mccp-uq", scheduled=True)) is not None
    assert gate.admit(Queue.CONTROL, Target(Queue.CONTROL).with_kwargs()) is not None


def test_a_message_cannot_end_the_job_it_names(gate: Gate, settings: Settings) -> None:
    with Client(settings) as client:
        job = client.submit([ROW])
    for known in (True, False):
        target = Target(Queue.PREDICTIONS, job_id=job.id) if known else Target(Queue.PREDICTIONS)
        limited = gate.admit(target.queue, target.changed("headers.timelimit", [1, 1]))
        expired = gate.admit(target.queue, target.changed("headers.expires", "2001-01-01T00:00:00"))
        assert limited is not None
        assert expired is not None
        assert (limited["headers"]["timelimit"] is None) == known
        assert (expired["headers"]["expires"] is None) == known


def test_without_the_ledger_a_message_is_held_and_comes_back(
    gate: Gate, server: EmbeddedRedis, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate_module, "_RETRY_SECONDS", 0.05)
    limited = Target(Queue.PREDICTIONS).changed("headers.expires", "2999-01-01T00:00:00")
    server.stop()
    assert gate.admit("predictions", b"{") is None
    assert gate.admit("predictions", limited) is None
    assert gate.holds
    assert gate.admit_held() is None, "not yet"
    with start_redis(tmp_path / "again", port=server.port) as again, connect(again.url) as connection:
        admitted: list[Any] = []

        def settle() -> bool:
            admitted.append(gate.admit_held())
            return not gate.holds

        eventually(settle, "both are settled")
        assert [one[0] for one in admitted if one] == ["predictions"]
        assert [letter.message for letter in letters(connection, settings)] == [b"{"]


def test_what_is_held_can_go_back_to_its_queue(gate: Gate, server: EmbeddedRedis, tmp_path: Path) -> None:
    server.stop()
    for message in (b"one", b"two"):
        gate.admit("celery", message)
    with start_redis(tmp_path / "again", port=server.port) as again, connect(again.url) as connection:
        gate.put_back(connection)
        assert not gate.holds
        assert sorted(connection.lrange("celery", 0, -1)) == [b"one", b"two"]


@pytest.fixture
def guarded(gate: Gate, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Connection]:
    monkeypatch.setattr(transport, "gate", lambda: gate)
    with GuardedConnection(settings.broker) as connection:
        yield connection


def test_only_redis_gets_this_transport() -> None:
    assert GuardedConnection("redis://").get_transport_cls() is GuardedTransport
    assert GuardedConnection("rediss://?ssl_cert_reqs=required").get_transport_cls() is GuardedTransport
    assert GuardedConnection("memory://").get_transport_cls() is Connection("memory://").get_transport_cls()
    assert GuardedConnection("redis://").clone().get_transport_cls() is GuardedTransport


def test_a_consumer_sees_only_good_messages(guarded: Connection, connection: redis.Redis) -> None:
    good = Target("celery").good()
    seen = []
    with guarded.SimpleQueue("celery") as queue:
        for make in list(HOSTILE.values())[:40]:
            connection.lpush("celery", make(Target("celery")), good)
        for _ in range(40):
            message = queue.get(timeout=5)
            seen.append(message.headers["task"])
            message.ack()
        assert seen == ["uqueue.predict"] * 40
        assert connection.llen(DEAD_KEY) == 40
        assert connection.hlen("unacked") == 0
        connection.lpush("celery", b"{", good, b"{")
        assert queue.get_nowait().headers["task"] == "uqueue.predict"


def test_while_a_message_is_held_no_other_is_taken(
    guarded: Connection, gate: Gate, connection: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    with guarded.SimpleQueue("celery") as queue:
        with monkeypatch.context() as away:
            away.setattr(gate, "_ledger", Ledger(connect("redis://127.0.0.1:1", retries=0)))
            connection.lpush("celery", b"{", Target("celery").good())
            with pytest.raises(queue.Empty):
                queue.get(timeout=1.5)
            assert gate.holds
            assert connection.llen("celery") == 1
        assert queue.get(timeout=5).headers["task"] == "uqueue.predict"
        assert connection.llen(DEAD_KEY) == 1


def test_held_messages_go_back_when_the_channel_closes(
    guarded: Connection, gate: Gate, connection: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel = guarded.channel()
    with monkeypatch.context() as away:
        away.setattr(gate, "_ledger", Ledger(connect("redis://127.0.0.1:1", retries=0)))
        gate.admit("celery", b"{")
    channel.close()
    assert connection.lrange("celery", 0, -1) == [b"{"]


@pytest.mark.parametrize("kept", [b"", b"nonsense", b'[{},"","celery"]', b"[" * 20_000], ids=repr)
def test_garbage_among_the_unacknowledged_is_buried(kept: bytes, guarded: Connection, connection: redis.Redis) -> None:
    channel = guarded.channel()
    good = json.dumps([json.loads(Target("celery").good()), "", "celery"])
    connection.hset("unacked", mapping={"bad": kept, "good": good})
    connection.zadd("unacked_index", {"bad": 0, "good": 1, "gone": 2})
    channel.qos.restore_visible(num=10, interval=1)
    assert connection.hlen("unacked") == connection.zcard("unacked_index") == 0
    assert connection.llen("celery") == 1
    assert connection.hget("uqueue:dead:1", "message") == kept
    assert connection.hget("uqueue:dead:1", "queue") == b"unacked"


def test_replies_to_remote_control_are_no_tasks(guarded: Connection, connection: redis.Redis) -> None:
    reply = Target("celery").changed("headers", {"ticket": "t", "clock": 1})
    name = "0123.reply.celery.pidbox"
    with guarded.SimpleQueue(name) as queue:
        connection.lpush(name, reply)
        assert queue.get(timeout=5).headers == {"ticket": "t", "clock": 1}
    assert connection.llen(DEAD_KEY) == 0
