"""The connection below HTTP: the head of a request has a size and a time too, which uvicorn leaves to others."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES = 64 * 1024
#: A server that ends still answers requests that arrive within this time over connections that are there.
LINGER_SECONDS = 1.0


class BoundedProtocol(HttpToolsProtocol):
    """Cuts a connection whose next request has not shown its whole head in `head_seconds` or `MAX_HEAD_BYTES`."""

    def __init__(self, *args: Any, head_seconds: float, **options: Any) -> None:
        super().__init__(*args, **options)
        self._head_seconds = head_seconds
        self._head_bytes = 0
        self._heads = 0
        self._in_body = False
        self._head_timer: asyncio.TimerHandle | None = None
        self._is_ending = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        heads, was_in_body = self._heads, self._in_body
        super().data_received(data)
        if was_in_body or self._in_body or self._heads != heads:  # the end of a body is no part of the next head
            return
        self._head_bytes += len(data)
        if self._head_bytes > MAX_HEAD_BYTES:
            self.transport.abort()
        elif self._head_timer is None and not self.transport.is_closing():
            self._expect_head()

    def on_headers_complete(self) -> None:
        self._heads += 1
        self._head_bytes, self._in_body = 0, True
        self._expect_nothing()
        super().on_headers_complete()
        if self._is_ending:
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        self._in_body = False
        super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._expect_nothing()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """Close the connection after the request in work, or the one that may be on its way: it would be lost."""
        self._is_ending = True
        if self.cycle is None or self.cycle.response_complete:
            self.loop.call_later(LINGER_SECONDS, self._end_if_idle)
        else:
            self.cycle.keep_alive = False

    def _end_if_idle(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()

    def _expect_head(self) -> None:
        self._head_timer = self.loop.call_later(self._head_seconds, self.transport.close)

    def _expect_nothing(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
