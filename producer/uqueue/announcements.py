"""Waiting for a job's end: the ledger publishes each result on a channel of the job's own.

A connection that was subscribed once is kept for the next wait, because to open one takes longer than most jobs.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis
from redis.exceptions import RedisError


class Announcements:
    """One connection that listens to one channel at a time. Not for use by two threads at once."""

    def __init__(self, client: redis.Redis) -> None:
        self._pool = client.connection_pool
        self._connection: Any = self._pool.make_connection()
        self._channel = b""

    def subscribe(self, channel: str) -> None:
        """Listen to `channel` from now on, and to no other."""
        if self._channel:
            self._connection.send_command("UNSUBSCRIBE", self._channel)
        self._channel = channel.encode()
        self._connection.send_command("SUBSCRIBE", self._channel)
        while self._read() != [b"subscribe", self._channel, 1]:
            pass

    def next(self, seconds: float) -> bytes | None:
        """Return what is published next, None if that takes longer than `seconds`."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if self._connection.can_read(timeout=left):
                kind, channel, data = self._read()
                if kind == b"message" and channel == self._channel:
                    return bytes(data)
        return None

    def close(self) -> None:
        self._connection.disconnect()

    def _read(self) -> Any:
        return self._connection.read_response()


class Listeners:
    """Connections for as many waits as there are at a time."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._free: list[Announcements] = []

    @contextmanager
    def listening(self, channel: str) -> Iterator[Announcements]:
        """Lend a connection that is subscribed to `channel`."""
        one = self._free.pop() if self._free else Announcements(self._client)
        try:
            try:
                one.subscribe(channel)
            except RedisError:  # kept from before the server went away
                one.close()
                one = Announcements(self._client)
                one.subscribe(channel)
            yield one
        except BaseException:
            one.close()
            raise
        self._free.append(one)

    def close(self) -> None:
        while self._free:
            self._free.pop().close()
