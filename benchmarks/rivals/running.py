"""One event loop for a synchronous caller of an asynchronous client."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from functools import cache
from typing import Any, TypeVar

T = TypeVar("T")
TOGETHER = 50


@cache
def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.new_event_loop()


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    return _loop().run_until_complete(coroutine)


async def many(count: int, one: Callable[[], Awaitable[T]]) -> list[T]:
    """Return the results of `count` calls, some of them under way at the same time."""
    found: list[T] = []
    while len(found) < count:
        found += await asyncio.gather(*(one() for _ in range(min(TOGETHER, count - len(found)))))
    return found
