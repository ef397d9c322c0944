"""What all requests share: settings, the client, keys, limits, metrics."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Mapping
from typing import Annotated, Any, cast

from fastapi import Depends, Request

from uqueue.aio import AsyncClient
from uqueue.gateway.keys import KeyEntry, KeyRing, Scope
from uqueue.gateway.limits import RateLimiter
from uqueue.gateway.metrics import Metrics
from uqueue.gateway.problems import Problem
from uqueue_config.connections import connect_async, translated
from uqueue_config.errors import SettingsError
from uqueue_config.names import Queue, wanted_key
from uqueue_config.settings import Settings


class Gateway:
    """One gateway process. Opens nothing before its first request; reads the file of keys at once."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.keys = _key_ring(settings)
        self.client = AsyncClient(settings)
        self.limiter = RateLimiter(settings.gateway_rate, settings.gateway_burst, time.monotonic)
        self.metrics = Metrics()
        self.active = 0
        #: Set when the process was asked to end: streams then end too, and /ready says no.
        self.stopping = False
        self._records = connect_async(settings.result_store)
        self._queues = connect_async(settings.broker)

    async def close(self) -> None:
        await self.client.close()
        await self._records.aclose()
        await self._queues.aclose()

    def wait_seconds(self, asked: float | None) -> float:
        """Return how long a request may wait for a job that asked for so much."""
        return min(asked or 0.0, self.settings.gateway_wait_seconds.total_seconds())

    async def ping(self) -> None:
        """Raises ServiceUnreachable."""
        with translated(self.settings.result_store):
            await cast(Any, self._records.ping())

    async def jobs_waiting(self) -> int:
        """Raises ServiceUnreachable."""
        with translated(self.settings.broker):
            return int(await cast(Any, self._queues.llen(Queue.PREDICTIONS.value)))

    async def shape(self, model: str) -> tuple[int | None, int | None]:
        """Return how many features and targets the wanted version has, as far as known. Raises ServiceUnreachable."""
        with translated(self.settings.result_store):
            wanted: Mapping[bytes, bytes] = await cast(Any, self._records.hgetall(wanted_key(model)))
        numbers = [int(wanted[name]) if name in wanted else None for name in (b"n_features", b"n_targets")]
        return numbers[0], numbers[1]


def _key_ring(settings: Settings) -> KeyRing | None:
    """Return the keys, None where none are wanted. Raises SettingsError where they are wanted and not there."""
    if not wants_keys(settings):
        return None
    if settings.api_keys_file is None:
        problem = (
            "UQUEUE_API_KEYS_FILE: the gateway wants API keys here, and there is no file of them. Make one with "
            "`uqueue gateway new-key NAME --file FILE`, or set UQUEUE_GATEWAY_AUTH=off"
        )
        raise SettingsError(f"The settings are not usable:\n  {problem}.", problems=[problem])
    ring = KeyRing(settings.api_keys_file)
    ring.look()
    return ring


def wants_keys(settings: Settings) -> bool:
    """Return whether requests need a key: always, unless it is off or only this computer can reach the gateway."""
    if settings.gateway_auth != "auto":
        return settings.gateway_auth == "on"
    return settings.api_keys_file is not None or not is_loopback(settings.gateway_address)


def is_loopback(address: str) -> bool:
    """Return whether only this computer can reach what listens at an address or name."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address.lower() == "localhost"


async def _gateway(request: Request) -> Gateway:
    return cast(Gateway, request.app.state.gateway)


async def _caller(request: Request) -> KeyEntry | None:
    return cast(KeyEntry | None, getattr(request.state, "caller", None))


def needs(scope: Scope) -> Any:
    """Return the dependency that refuses a key without this scope."""

    async def check(caller: Caller) -> None:
        if caller is not None and not caller.allows(scope):
            raise Problem(403, "forbidden", f"This needs a key with the scope {scope}.")

    return Depends(check)


GatewayState = Annotated[Gateway, Depends(_gateway)]
#: The key that a request came with; None where no keys are wanted.
Caller = Annotated[KeyEntry | None, Depends(_caller)]
