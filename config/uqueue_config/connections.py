"""Redis connections with bounded waits, and the one place that translates Redis errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import ExponentialBackoff
from redis.exceptions import BusyLoadingError, ConnectionError, RedisError, TimeoutError
from redis.retry import Retry

from uqueue_config.errors import ServiceUnreachable
from uqueue_config.settings import redact

CONNECT_SECONDS = 2.0
REPLY_SECONDS = 10.0
RETRIES = 2
_RETRIED = [BusyLoadingError, ConnectionError, TimeoutError]


def connect(url: str, *, reply_seconds: float | None = REPLY_SECONDS, retries: int = RETRIES) -> redis.Redis:
    """Return a client for `url`; nothing is opened before its first command.

    A command whose reply is lost is sent again up to `retries` times: 0 where running twice would do harm.
    """
    retry = Retry(ExponentialBackoff(cap=0.5, base=0.05), retries)
    return redis.Redis.from_url(url, **_options(reply_seconds), retry=retry)


def connect_async(url: str, *, reply_seconds: float | None = REPLY_SECONDS) -> redis.asyncio.Redis:
    """Return an asyncio client for `url`; nothing is opened before its first command."""
    retry = AsyncRetry(ExponentialBackoff(cap=0.5, base=0.05), RETRIES)
    return cast(redis.asyncio.Redis, redis.asyncio.Redis.from_url(url, **_options(reply_seconds), retry=retry))


def _options(reply_seconds: float | None) -> dict[str, Any]:
    return {
        "socket_connect_timeout": CONNECT_SECONDS,
        "socket_timeout": reply_seconds,
        "socket_keepalive": True,
        "retry_on_error": list(_RETRIED),
    }


@contextmanager
def translated(url: str, service: str = "Redis") -> Iterator[None]:
    """Raise ServiceUnreachable for whatever Redis could not do."""
    try:
        yield
    except RedisError as error:
        reason = str(error).rstrip(".") or type(error).__name__
        raise ServiceUnreachable(service=service, url=redact(url), reason=reason) from error
