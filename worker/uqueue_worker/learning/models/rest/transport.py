"""Requests to one endpoint: TLS, headers, limits, retries with full jitter, and the breaker around them."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Any, NoReturn, Self
from uuid import uuid4

import httpx
import structlog

from uqueue_config.errors import SettingsError
from uqueue_worker.learning.breaker import CircuitBreaker
from uqueue_worker.learning.errors import EndpointAuth, EndpointContract
from uqueue_worker.learning.models.rest.auth import Auth
from uqueue_worker.learning.models.rest.endpoint import Endpoint
from uqueue_worker.learning.models.rest.failures import Failure, of_exception, of_status, scrubbed
from uqueue_worker.learning.observability.metrics import metrics

_JSON = "application/json"
_FORM = "application/x-www-form-urlencoded"
_ERROR_BYTES = 64 * 1024
_LOG = structlog.get_logger("uqueue.learning.rest")


class Transport:
    """Sends requests while its `async with` runs; it belongs to one event loop.

    deadline  moment of `clock` after which no try begins
    """

    def __init__(
        self,
        endpoint: Endpoint,
        auth: Auth,
        breaker: CircuitBreaker,
        deadline: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        rng: random.Random | None = None,
    ) -> None:
        self._endpoint = endpoint
        self._auth = auth
        self._breaker = breaker
        self._deadline = deadline
        self._clock = clock
        self._sleep = sleep
        self._rng = rng or random.Random()  # noqa: S311 - it spreads retries
        self._auth_lock = asyncio.Lock()
        self._client: httpx.AsyncClient | None = None

    async def __aenter__(self) -> Self:
        endpoint = self._endpoint
        try:
            tls = endpoint.tls()
        except OSError as error:  # of which an ssl.SSLError is one
            reason = f"the certificate files cannot be used ({error.strerror or type(error).__name__})"
            raise EndpointContract(f"{endpoint.base_url}: {reason}.", url=endpoint.base_url, reason=reason) from None
        self._client = httpx.AsyncClient(
            verify=tls,
            timeout=httpx.Timeout(endpoint.read_seconds, connect=endpoint.connect_seconds),
            limits=httpx.Limits(max_connections=endpoint.concurrency, max_keepalive_connections=endpoint.concurrency),
            follow_redirects=False,
            trust_env=False,  # neither proxies nor .netrc of whoever runs this
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._client is not None:
            await self._client.aclose()

    async def get(self, path: str) -> Any:
        """Return the JSON at a path, None for an empty body. Raises errors of the tree."""
        return _parsed(await self._called("GET", path, None, str(uuid4())), self._endpoint.base_url + path)

    async def text(self, path: str) -> str:
        """Return the first line of what is at a path, without what a terminal would obey."""
        said = await self._called("GET", path, None, str(uuid4()))
        return scrubbed(said.decode("ascii", "replace").strip().split("\n")[0], self._auth.secrets())

    async def post(self, path: str, body: bytes, request_id: str) -> Any:
        """Return the JSON that a request is answered with; each try of it has the same idempotency key."""
        return _parsed(await self._called("POST", path, body, request_id), self._endpoint.base_url + path)

    async def _called(self, method: str, path: str, body: bytes | None, request_id: str) -> bytes:
        url = self._endpoint.base_url + path
        headers = {"X-Request-ID": request_id}
        if body is not None:
            headers |= {"Idempotency-Key": request_id, "Content-Type": _JSON}
        with self._breaker.call():
            return await self._retried(lambda: self._authorised(method, url, headers, body), request_id)

    async def _retried(self, attempt: Callable[[], Awaitable[bytes]], request_id: str) -> bytes:
        """Make a first try and up to `retries` more, as long as the reason is one that may pass."""
        began = self._clock()
        for number in range(self._endpoint.retries + 1):
            try:
                answer = await attempt()
            except _Failed as failed:
                failure = failed.failure
            else:
                return answer
            if failure.again is None or number == self._endpoint.retries:
                break
            await self._wait(failure, number)
        _LOG.warning(
            "endpoint_failed",
            component="rest",
            request_id=request_id,
            duration_ms=round((self._clock() - began) * 1000, 1),
            outcome="failed",
            error_code=failure.error.code,
            message=failure.error.message,
        )
        raise failure.error

    async def _wait(self, failure: Failure, number: int) -> None:
        """Wait before the next try: a random part of a time that doubles, or what the server asks for if longer."""
        longest = min(self._endpoint.backoff_seconds * 2**number, self._endpoint.longest_backoff_seconds)
        seconds = max(self._rng.uniform(0, longest), failure.retry_after or 0.0)
        if self._clock() + seconds >= self._deadline:
            raise failure.error
        metrics().retries.labels(self._breaker.target, failure.again).inc()
        await self._sleep(seconds)

    async def _authorised(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> bytes:
        """Make one try, and after a 401 one more where the credentials can be renewed."""
        given = await self._credentials()
        try:
            return await self._once(method, url, {**headers, **given}, body)
        except _Failed as failed:
            if failed.failure.status != 401 or not self._auth.renew(given):
                raise
        return await self._once(method, url, {**headers, **await self._credentials()}, body)

    async def _credentials(self) -> dict[str, str]:
        async with self._auth_lock:
            try:
                return await self._auth.headers(self._post_form)
            except SettingsError as error:  # a file or a vault that no longer has the secret
                raise EndpointAuth(url=self._endpoint.base_url, reason=error.message.rstrip(".")) from None

    async def _post_form(self, url: str, headers: Mapping[str, str], body: bytes) -> Any:
        given = {**headers, "Content-Type": _FORM}
        try:
            return _parsed(await self._once("POST", url, given, body), url)
        except _Failed as failed:
            if failed.failure.status != 400:
                raise
            # … by which OAuth2 says that it does not know the client or the grant
            raise _Failed(Failure(EndpointAuth(url=url, reason=failed.failure.error.facts["reason"]))) from None

    async def _once(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> bytes:
        """Send one request and return the body of its answer. Raises _Failed."""
        if self._client is None:
            raise RuntimeError("use it in `async with`")
        given = {"Accept": _JSON, "Accept-Encoding": "identity", **headers}
        endpoint = self._endpoint
        try:
            async with (
                asyncio.timeout(endpoint.connect_seconds + endpoint.read_seconds),
                self._client.stream(method, url, headers=given, content=body) as response,
            ):
                if response.status_code == 200:
                    return await _whole(response, endpoint.response_bytes, url)
                said = await _beginning(response)
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            # The cause would lead to the request with its headers, so it stays behind.
            raise _Failed(of_exception(error, url, endpoint.read_seconds)) from None
        raise _Failed(of_status(response.status_code, response.headers, said, url, self._auth.secrets()))


class _Failed(Exception):
    """One try failed; `failure` says how."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.error.message)
        self.failure = failure


async def _whole(response: httpx.Response, limit: int, url: str) -> bytes:
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise _broken(url, "a compressed answer, which was not asked for")
    content = bytearray()
    async for part in response.aiter_raw():
        content += part
        if len(content) > limit:
            raise _broken(url, f"more than the {limit} bytes that are read")
    return bytes(content)


async def _beginning(response: httpx.Response) -> bytes:
    """Return the body of an error; of one that is longer than any message, only the beginning."""
    content = bytearray()
    async for part in response.aiter_raw():
        content += part
        if len(content) > _ERROR_BYTES:
            break
    return bytes(content)


def _parsed(content: bytes, url: str) -> Any:
    if not content.strip():
        return None
    try:
        return json.loads(content, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise EndpointContract(url=url, reason="no JSON, or JSON with NaN") from None


def _broken(url: str, reason: str) -> _Failed:
    return _Failed(Failure(EndpointContract(url=url, reason=reason)))


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")
