"""Around every request: its identity, its line in the log, its place in the metrics, the headers of its answer."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from uqueue.gateway import headers, logs, problems
from uqueue.gateway.headers import Trace
from uqueue.gateway.state import Gateway
from uqueue_config.trace import TraceContext, current_trace

#: For answers that say nothing else themselves.
SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}
_SECURITY_HEADERS = [(name.lower().encode(), value.encode()) for name, value in SECURITY_HEADERS.items()]
#: What is logged for a client that went away before its answer began.
GONE = 499


@dataclass
class Exchange:
    """One request and what became of it."""

    request_id: str
    trace: Trace
    status: int = GONE
    begun: bool = False


class Observe:
    """The outermost middleware. Nothing that happens inside leaves without an answer, a log line and a count."""

    def __init__(self, app: ASGIApp, gateway: Gateway) -> None:
        self._app, self._gateway = app, gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope)
        exchange = Exchange(
            headers.request_id(given.get("x-request-id")), headers.Trace.parse(given.get("traceparent"))
        )
        scope.setdefault("state", {})["request_id"] = exchange.request_id
        current_trace.set(TraceContext(exchange.trace.traceparent, exchange.request_id))
        problems.REQUEST_ID.set(exchange.request_id)
        start = time.perf_counter()
        self._gateway.metrics.began(scope["path"])
        try:
            await self._app(scope, receive, _decorated(send, exchange))
        except Exception:
            await self._unforeseen(scope, receive, send, exchange)
        finally:
            self._gateway.metrics.ended(scope["path"])
            self._note(scope, exchange, time.perf_counter() - start)

    async def _unforeseen(self, scope: Scope, receive: Receive, send: Send, exchange: Exchange) -> None:
        logging.getLogger(logs.NAME).exception("unforeseen", extra={"facts": {"request_id": exchange.request_id}})
        if exchange.begun:
            raise  # the server then cuts the connection, which tells the client that the answer is not whole
        sentence = "The gateway met an unforeseen problem. Its log has the details under reference "
        reference = exchange.request_id
        answer = problems.response(500, "internal", f"{sentence}{reference}.", path=scope["path"], reference=reference)
        await answer(scope, receive, _decorated(send, exchange))

    def _note(self, scope: Scope, exchange: Exchange, seconds: float) -> None:
        # Only known paths and methods: a label for whatever strangers ask for would grow without end.
        route = getattr(scope.get("route"), "path", "other")
        method = scope["method"] if scope["method"] in _METHODS else "OTHER"
        self._gateway.metrics.answered(method, route, exchange.status, seconds)
        state: dict[str, Any] = scope["state"]
        caller, client = state.get("caller"), scope.get("client")
        logs.write(
            logging.WARNING if exchange.status >= 500 else logging.INFO,
            "request",
            method=method,
            path=scope["path"][:200],
            route=route,
            status=exchange.status,
            duration_ms=round(seconds * 1000, 3),
            request_id=exchange.request_id,
            trace_id=exchange.trace.trace_id,
            span_id=exchange.trace.span_id,
            job_id=state.get("job_id"),
            key=caller.id if caller else None,
            client=client[0] if client else None,
        )


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def _decorated(send: Send, exchange: Exchange) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            exchange.status, exchange.begun = message["status"], True
            out: list[tuple[bytes, bytes]] = message["headers"]
            said = {name for name, _ in out}
            out += [header for header in _SECURITY_HEADERS if header[0] not in said]
            out.append((b"x-request-id", exchange.request_id.encode()))
            out.append((b"traceparent", exchange.trace.traceparent.encode()))
        await send(message)

    return sending
