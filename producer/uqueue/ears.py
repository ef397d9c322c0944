"""Waiting for the ends of many jobs under asyncio, over one connection.

The ledger publishes each result on a channel of the job's own (see `uqueue.announcements`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import redis.asyncio
from redis.exceptions import ConnectionError, RedisError

from uqueue.gathering import Gatherer

#: How many channels one command names.
MOST = 256
#: A connection that does not confirm a subscription for so long hears nothing any more.
CONFIRM_SECONDS = 5.0


class Ear:
    """Hears what is published on one channel."""

    def __init__(self) -> None:
        self._heard: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def next(self, seconds: float) -> bytes | None:
        """Return what was published since the last time, None if that takes longer than `seconds`. Raises RedisError.

        Of several publications the first counts; they are reasons to look.
        """
        heard = self._heard
        done, _ = await asyncio.wait([heard], timeout=seconds)
        if not done:
            return None
        if heard.exception() is None:  # a lost connection stays lost
            self._heard = asyncio.get_running_loop().create_future()
        return heard.result()

    def hear(self, data: bytes) -> None:
        if not self._heard.done():
            self._heard.set_result(data)

    def deafen(self, error: RedisError) -> None:
        if not self._heard.done():
            self._heard.set_exception(error)
            self._heard.exception()  # nobody may be waiting for it


class Ears:
    """All ears of one event loop. The connection is opened by the first, and opened anew after it was lost."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._client = client
        self._connection: Any = None
        self._listening: set[asyncio.Task[None]] = set()  # one, and those whose connection was given up just now
        self._ears: dict[bytes, list[Ear]] = {}
        self._left: set[bytes] = set()
        self._confirmed: dict[bytes, asyncio.Event] = {}
        self._subscriptions: Gatherer[bytes, None] = Gatherer(self._subscribe, MOST)

    @asynccontextmanager
    async def listening(self, channel: str) -> AsyncIterator[Ear]:
        """Lend an ear that hears all that is published on `channel` from now on. Raises RedisError."""
        name, ear = channel.encode(), Ear()
        self._ears.setdefault(name, []).append(ear)
        try:
            await self._subscriptions.ask(name)
            yield ear
        finally:
            ears = self._ears[name]
            ears.remove(ear)
            if not ears:
                del self._ears[name]
                self._left.add(name)

    async def close(self) -> None:
        """Close the connection; the next ear opens another."""
        await self._subscriptions.close()
        for listening in self._listening:
            listening.cancel()
        if self._listening:
            await asyncio.wait(self._listening)
        await self._client.aclose()

    async def _subscribe(self, channels: list[bytes]) -> Sequence[None]:
        """Listen to these channels too, and no longer to those that nobody waits for."""
        await self._connect()
        connection, last = self._connection, channels[-1]
        left, self._left = [name for name in self._left if name not in self._ears], set()
        confirmed = self._confirmed[last] = asyncio.Event()
        try:
            async with asyncio.timeout(CONFIRM_SECONDS):
                if left:
                    await connection.send_command("UNSUBSCRIBE", *left)
                await connection.send_command("SUBSCRIBE", *channels)
                await confirmed.wait()
        except TimeoutError:
            self._lose(ConnectionError("a subscription was not confirmed"))
        finally:
            self._confirmed.pop(last, None)
        if connection is not self._connection:
            raise ConnectionError("the connection was lost")
        return [None] * len(channels)

    async def _connect(self) -> None:
        if self._connection is None:
            pool: Any = self._client.connection_pool
            connection = pool.make_connection()
            try:
                await connection.connect()
            except BaseException:
                await connection.disconnect(nowait=True)
                raise
            self._connection = connection
            listening = asyncio.get_running_loop().create_task(self._listen(connection))
            self._listening.add(listening)
            listening.add_done_callback(self._listening.discard)

    async def _listen(self, connection: Any) -> None:
        try:
            while True:
                kind, channel, data = await connection.read_response()
                if kind == b"message":
                    for ear in self._ears.get(channel, ()):
                        ear.hear(data)
                elif kind == b"subscribe" and channel in self._confirmed:
                    self._confirmed[channel].set()
        except (RedisError, OSError) as error:
            self._lose(error if isinstance(error, RedisError) else ConnectionError(str(error)))
        finally:
            if self._connection is connection:
                self._connection = None
            with contextlib.suppress(RedisError, OSError):
                await connection.disconnect()

    def _lose(self, error: RedisError) -> None:
        """Give the connection up: every ear says so, and the next one opens another."""
        self._connection = None
        self._left.clear()
        for confirmed in self._confirmed.values():
            confirmed.set()
        for ear in [ear for ears in self._ears.values() for ear in ears]:
            ear.deafen(error)
        for listening in self._listening - {asyncio.current_task()}:
            listening.cancel()
