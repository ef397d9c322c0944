"""What a request has to pass before a route sees it: load, host, key, rate, and a body that is small and in time."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from uqueue.gateway import logs, problems
from uqueue.gateway.headers import bearer_key, host_name
from uqueue.gateway.health import PUBLIC_PATHS
from uqueue.gateway.keys import KeyEntry
from uqueue.gateway.problems import Problem
from uqueue.gateway.state import Gateway, is_loopback
from uqueue_config.errors import SettingsError

#: Answered without a key, and however busy the gateway is.
PUBLIC = PUBLIC_PATHS | {"/v2/health/live", "/v2/health/ready", "/openapi.json"}
_CLOSE = {"Connection": "close"}


class Gate:
    """Refuses before the body is read what needs no body to be refused."""

    def __init__(self, app: ASGIApp, gateway: Gateway) -> None:
        self._app, self._gateway = app, gateway
        self._complained = ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        gateway, begun = self._gateway, time.perf_counter()
        gateway.active += 1
        try:
            headers = Headers(scope=scope)
            self._admit(scope, headers)
            whole = await self._body(receive, headers)
            if whole is not None:
                await self._app(scope, whole, send)
        except Problem as problem:
            seconds = time.perf_counter() - begun
            gateway.metrics.refused_request(scope["path"], problem, seconds)
            await problems.of_problem(problem, scope["path"])(scope, receive, send)
        finally:
            gateway.active -= 1

    def _admit(self, scope: Scope, headers: Headers) -> None:
        gateway, path = self._gateway, scope["path"]
        if gateway.keys is None:
            self._check_host(headers)
        caller = self._key(headers)
        scope["state"]["caller"] = caller
        if path in PUBLIC:
            return
        if gateway.active > gateway.settings.gateway_max_requests:
            raise Problem(
                503, "overloaded", "The gateway has as much to do as it may. Try again.", {"Retry-After": "1"}
            )
        seconds = gateway.limiter.take(caller.id if caller else _address(scope))
        if seconds:
            detail = f"More than {gateway.settings.gateway_rate:g} requests per second. Try again in {seconds} s."
            raise Problem(429, "rate_limited", detail, {"Retry-After": str(seconds)})
        if gateway.keys is not None and caller is None:
            detail = "This needs an API key: `Authorization: Bearer uq_…` or `X-API-Key: uq_…`."
            raise Problem(401, "unauthorized", detail, {"WWW-Authenticate": 'Bearer realm="uqueue"'})

    def _check_host(self, headers: Headers) -> None:
        """Where no keys are wanted, a web page must not reach the gateway through a name that leads to it."""
        name = host_name(headers.get("host", ""))
        address = self._gateway.settings.gateway_address
        if is_loopback(address) and not is_loopback(name):
            detail = "Without API keys the gateway answers only to the names of this computer: localhost, 127.0.0.1."
            raise Problem(421, "misdirected_request", detail)

    def _key(self, headers: Headers) -> KeyEntry | None:
        keys = self._gateway.keys
        secret = bearer_key(headers.get("authorization"), headers.get("x-api-key"))
        if keys is None or secret is None:
            return None
        try:
            keys.look()
        except SettingsError as error:  # the keys known before stay
            if error.message != self._complained:
                logs.write(logging.ERROR, "keys", reason=error.message)
                self._complained = error.message
        return keys.find(secret)

    async def _body(self, receive: Receive, headers: Headers) -> Receive | None:
        """Read the whole body and return what hands it on; None where the client went away."""
        settings = self._gateway.settings
        limit, seconds = settings.gateway_max_body_bytes, settings.gateway_body_seconds.total_seconds()
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length[:20]) > limit:
            raise _too_large(limit)
        if length == "0" and "transfer-encoding" not in headers:
            return receive
        try:
            async with asyncio.timeout(seconds):
                data = await _read(receive, limit)
        except TimeoutError:
            detail = f"The body of the request did not arrive within {seconds:g} s."
            raise Problem(408, "body_timeout", detail, _CLOSE) from None
        return None if data is None else _replay(data, receive)


async def _read(receive: Receive, limit: int) -> bytes | None:
    data = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        data += message.get("body", b"")
        if len(data) > limit:
            raise _too_large(limit)
        if not message.get("more_body", False):
            return bytes(data)


def _replay(data: bytes, receive: Receive) -> Receive:
    messages: list[Any] = [{"type": "http.request", "body": data, "more_body": False}]

    async def replayed() -> Message:
        return messages.pop() if messages else await receive()

    return replayed


def _too_large(limit: int) -> Problem:
    return Problem(413, "body_too_large", f"The body of a request may have {limit} bytes.", _CLOSE)


def _address(scope: Scope) -> str:
    client = scope.get("client")
    return f"address {client[0] if client else 'unknown'}"
