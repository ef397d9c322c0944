"""Redis connections with bounded waits, and the one place that translates Redis errors."""

from __future__ import annotations

import math
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import ExponentialBackoff
from redis.exceptions import BusyLoadingError, ConnectionError, OutOfMemoryError, RedisError, TimeoutError
from redis.retry import Retry

from uqueue_config.errors import ServiceUnreachable, StoreFull
from uqueue_config.settings import redact
from uqueue_config.tls import tls_reason

CONNECT_SECONDS = 2.0
REPLY_SECONDS = 10.0
RETRIES = 2
#: A connection that nobody used for so long is opened anew.
TRUSTED_SECONDS = 10.0
_RETRIED = [BusyLoadingError, ConnectionError, TimeoutError]


def connect(url: str, *, reply_seconds: float | None = REPLY_SECONDS, retries: int = RETRIES) -> redis.Redis:
    """Return a client for `url`; nothing is opened before its first command.

    A command whose reply is lost is sent again up to `retries` times: 0 where running twice would do harm.
    """
    retry = Retry(ExponentialBackoff(cap=0.5, base=0.05), retries)
    client = redis.Redis.from_pool(_Pool.from_url(url, **_options(reply_seconds), retry=retry))
    if client.connection_pool.connection_class is redis.SSLConnection:
        client.connection_pool.connection_class = _TlsConnection
    return client


def connect_async(url: str, *, reply_seconds: float | None = REPLY_SECONDS) -> redis.asyncio.Redis:
    """Return an asyncio client for `url`; nothing is opened before its first command."""
    retry = AsyncRetry(ExponentialBackoff(cap=0.5, base=0.05), RETRIES)
    return cast(redis.asyncio.Redis, redis.asyncio.Redis.from_url(url, **_options(reply_seconds), retry=retry))


class _Pool(redis.ConnectionPool):
    """Does not trust connections that lay idle: where a firewall has forgotten one, only the lack of a reply tells."""

    def release(self, connection: Any) -> None:
        connection.released_at = time.monotonic()
        super().release(connection)

    def get_connection(self, *args: Any, **options: Any) -> Any:
        connection: Any = super().get_connection(*args, **options)
        if time.monotonic() - getattr(connection, "released_at", math.inf) > TRUSTED_SECONDS:
            try:
                connection.disconnect()
                connection.connect()
            except BaseException:
                self.release(connection)
                raise
        return connection


class _TlsConnection(redis.SSLConnection):
    """Grants a handshake the time of a connect; redis-py grants it that of a reply, which may be for ever."""

    def _wrap_socket_with_ssl(self, sock: socket.socket) -> socket.socket:
        sock.settimeout(self.socket_connect_timeout)
        wrapped: socket.socket = super()._wrap_socket_with_ssl(sock)  # type: ignore[no-untyped-call]
        wrapped.settimeout(self.socket_timeout)
        return wrapped


def _options(reply_seconds: float | None) -> dict[str, Any]:
    return {
        "socket_connect_timeout": CONNECT_SECONDS,
        "socket_timeout": reply_seconds,
        "socket_keepalive": True,
        "retry_on_error": list(_RETRIED),
    }


@contextmanager
def translated(url: str, service: str = "Redis") -> Iterator[None]:
    """Raise StoreFull where Redis has no memory left, ServiceUnreachable for whatever else it could not do."""
    try:
        yield
    except OutOfMemoryError as error:
        raise StoreFull(service=service, url=redact(url)) from error
    except RedisError as error:
        reason = tls_reason(error, url) or str(error).rstrip(".") or type(error).__name__
        raise ServiceUnreachable(service=service, url=redact(url), reason=reason) from error
