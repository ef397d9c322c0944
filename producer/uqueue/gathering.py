"""Many small requests at a time as few round trips: what is asked for while one is under way goes with the next."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class Gatherer(Generic[Item, Answer]):
    """Asks for one item at once where nothing is under way, for up to `most` together otherwise.

    `send(items)` returns an answer for each, in their order; one that is an exception is raised where its item was
    asked for, and an exception that `send` raises is raised for all of them.
    """

    def __init__(self, send: Callable[[list[Item]], Awaitable[Sequence[Answer | Exception]]], most: int) -> None:
        self._send = send
        self._most = most
        self._waiting: list[tuple[Item, asyncio.Future[Answer]]] = []
        self._sending: asyncio.Task[None] | None = None

    async def ask(self, item: Item) -> Answer:
        """Return the answer for one item."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Answer] = loop.create_future()
        self._waiting.append((item, answer))
        if self._sending is None:
            self._sending = loop.create_task(self._send_all())
        return await answer

    async def close(self) -> None:
        """Give up what is under way: whoever still waits for it is cancelled."""
        if self._sending is not None:
            self._sending.cancel()
            await asyncio.wait([self._sending])

    async def _send_all(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
                await self._send_batch(batch)
        finally:
            self._sending = None
            for _, answer in self._waiting:  # only where this task was cancelled
                answer.cancel()
            self._waiting.clear()

    async def _send_batch(self, batch: Sequence[tuple[Item, asyncio.Future[Answer]]]) -> None:
        answers: Sequence[Answer | Exception]
        try:
            answers = await self._send([item for item, _ in batch])
        except Exception as error:
            answers = [error] * len(batch)
        except BaseException:
            for _, waiting in batch:
                waiting.cancel()
            raise
        for (_, waiting), answer in zip(batch, answers, strict=True):
            if waiting.done():  # who asked went away
                continue
            if isinstance(answer, Exception):
                waiting.set_exception(answer)
            else:
                waiting.set_result(answer)
