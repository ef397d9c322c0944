"""Kombu's transport for Redis with a gate in front: nothing reaches kombu or Celery that was not checked.

Left to themselves they end the worker's main process, or drop the message, at many a malformed message. Here it
becomes a dead letter with a reason, and the worker goes on as if it had not been there. `app.py` names `GuardedAMQP`;
URLs of other brokers get kombu's own transports.
"""

from __future__ import annotations

import select
import time
from queue import Empty
from typing import Any

import structlog
from celery.app.amqp import AMQP
from kombu import Connection
from kombu.transport import redis as kombu_redis
from kombu.utils.json import loads
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from uqueue_config.envelope import check_unacked
from uqueue_config.errors import InvalidMessage
from uqueue_worker.gate import gate
from uqueue_worker.remote_control import read_command

#: Lists and channels of Celery's remote control, both for commands to workers and for replies to whoever sent them.
_REMOTE_CONTROL = ".pidbox"
#: What workers tell one another, for elections whose outcome is a task to run: none are held, so nobody listens.
_GOSSIP = "celeryev/worker.*"
#: Redis answers a blocking pop within a second, with nothing if need be; after this time it never will.
SILENT_SECONDS = 6.0
#: Between attempts to reach the broker; kombu would wait longer every time, up to 30 s.
RECONNECT_SECONDS = 1.0
_log = structlog.get_logger("uqueue.gate")


class GuardedQoS(kombu_redis.QoS):  # type: ignore[misc]
    """Notes unacknowledged messages; what it cannot restore becomes a dead letter."""

    def restore_by_tag(self, tag: Any, client: Any = None, leftmost: bool = False) -> None:
        with self.channel.conn_or_acquire(client) as connection:
            kept = connection.hget(self.unacked_key, tag)
            try:
                if kept is not None:
                    check_unacked(kept)
            except InvalidMessage as error:
                gate().bury(self.unacked_key, kept, error.reason)
                self._remove_from_indices(tag).execute()
            else:
                super().restore_by_tag(tag, connection, leftmost)


class GuardedChannel(kombu_redis.Channel):  # type: ignore[misc]
    """Hands on what the gate lets through. While the gate holds a message, no other is taken."""

    QoS = GuardedQoS
    _asked_at = 0.0

    def expect_reply(self) -> None:
        """Raise redis' ConnectionError for a connection over which nothing comes any more, as behind a firewall.

        Nobody else would notice: kombu waits for the reply to its pop without a limit.
        """
        connection = self._in_poll
        if connection and time.monotonic() - self._asked_at > SILENT_SECONDS and not _has_reply(connection):
            connection.disconnect()
            raise RedisConnectionError(f"no reply for {SILENT_SECONDS:g} s")

    def _brpop_start(self, timeout: float | None = None) -> None:
        held = gate().admit_held()
        if held is not None:
            self.connection._deliver(held[1], held[0])
        if not gate().holds:
            super()._brpop_start(timeout)
            self._asked_at = time.monotonic()

    def _brpop_read(self, **options: Any) -> bool:
        """As kombu's, but for the check."""
        try:
            try:
                popped = self.client.parse_response(self.client.connection, "BRPOP", **options)
            except self.connection_errors:
                self.client.connection.disconnect()
                raise
            if not popped:
                raise Empty
            queue = popped[0].decode().rsplit(self.sep, 1)[0]
            self._queue_cycle.rotate(queue)
            is_reply = queue.endswith(_REMOTE_CONTROL)
            envelope = loads(popped[1]) if is_reply else gate().admit(queue, popped[1])
            if envelope is not None:
                self.connection._deliver(envelope, queue)
            return True
        finally:
            self._in_poll = None

    def _get(self, queue: str) -> dict[str, Any]:
        with self.conn_or_acquire() as client:
            for priority in self.priority_steps:
                while not gate().holds and (message := client.rpop(self._q_for_pri(queue, priority))) is not None:
                    envelope = gate().admit(queue, message)
                    if envelope is not None:
                        return envelope
        raise Empty

    def _handle_message(self, client: Any, r: Any) -> Any:
        received = super()._handle_message(client, r)
        if received and received["type"] == b"pmessage":
            received["data"] = _broadcast(received["pattern"].decode(), received["data"])
        return received

    def close(self) -> None:
        if not self.closed and gate().holds:
            try:
                with self.conn_or_acquire() as client:
                    gate().put_back(client)
            except RedisError as error:
                _log.warning("message_still_held", reason=str(error))
        super().close()


def _has_reply(connection: Any) -> bool:
    """Look without reading: what redis-py had read already, the event loop would wait for."""
    waiting = select.poll()
    waiting.register(connection._sock, select.POLLIN)
    return bool(waiting.poll(0))


def _broadcast(pattern: str, data: bytes) -> bytes:
    """Return what to hand on of a broadcast; kombu passes over an empty one."""
    if pattern.endswith(_GOSSIP):
        return b""
    if not pattern.endswith(_REMOTE_CONTROL):
        return data
    try:
        return read_command(data)
    except InvalidMessage as error:
        # It is nobody's job, and was stored nowhere, so the log is where it is kept.
        _log.warning("command_ignored", reason=error.reason, command=repr(data[:200]))
        return b""


class GuardedPoller(kombu_redis.MultiChannelPoller):  # type: ignore[misc]
    """Takes messages only over connections that answer."""

    def _register_BRPOP(self, channel: GuardedChannel) -> None:
        channel.expect_reply()
        super()._register_BRPOP(channel)


class GuardedTransport(kombu_redis.Transport):  # type: ignore[misc]
    Channel = GuardedChannel

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.cycle = GuardedPoller()


class GuardedConnection(Connection):  # type: ignore[misc]
    """Kombu's connection; over Redis it reads through the gate."""

    def get_transport_cls(self) -> Any:
        return GuardedTransport if self.transport_cls in ("redis", "rediss") else super().get_transport_cls()

    def ensure_connection(self, *args: Any, **options: Any) -> Any:
        patience = {"interval_start": RECONNECT_SECONDS, "interval_step": 0, "interval_max": RECONNECT_SECONDS}
        return super().ensure_connection(*args, **{**patience, **options})


class GuardedAMQP(AMQP):  # type: ignore[misc]
    Connection = GuardedConnection
