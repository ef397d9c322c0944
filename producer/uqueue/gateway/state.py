"""What all requests share: settings, the client, keys, limits, metrics."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated, Any, cast

from fastapi import Depends, Request

from uqueue.aio import AsyncClient
from uqueue.gateway import reloads
from uqueue.gateway.keys import KeyEntry, KeyRing, Scope
from uqueue.gateway.limits import RateLimiter
from uqueue.gateway.localization.health import Examiner
from uqueue.gateway.localization.recorder import Recorder
from uqueue.gateway.metrics import Metrics
from uqueue.gateway.page.samples import Samples
from uqueue.gateway.problems import Problem
from uqueue.gateway.tensors import Kind
from uqueue.gateway.webhooks import Webhooks
from uqueue.gateway.webhooks_signing import Secrets
from uqueue.status import ReloadReport
from uqueue_config.connections import connect_async, translated
from uqueue_config.errors import SettingsError
from uqueue_config.localization import cards_key
from uqueue_config.names import DEAD_KEY, Queue, wanted_key
from uqueue_config.settings import Settings


class Gateway:
    """One gateway process. Opens nothing before its first request; reads the file of keys at once."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.keys = _key_ring(settings)
        self.client = AsyncClient(settings)
        self.limiter = RateLimiter(settings.gateway_rate, settings.gateway_burst, time.monotonic)
        self.active = 0
        #: Set when the process was asked to end: streams then end too, and /ready says no.
        self.stopping = False
        self._records = connect_async(settings.result_store)
        self._queues = connect_async(settings.broker)
        self.recorder = Recorder(self._records, settings)
        self.examiner = Examiner(settings, self.client, self.recorder)
        self.metrics = Metrics(self.recorder)
        #: Some of the intervals that were handed out, for the page.
        self.handed_out = Samples()
        secrets = Secrets(settings)
        #: None where nothing could be signed.
        self.webhooks = Webhooks(settings, secrets, self.metrics) if secrets else None

    async def close(self) -> None:
        if self.webhooks is not None:
            await self.webhooks.close()
        await self.recorder.close()
        await self.examiner.close()
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

    async def reload(self, model: str, timeout_seconds: float) -> ReloadReport:
        """Have the artifacts of a model looked at now; see `reloads.reload` for what it raises."""
        return await reloads.reload(self.client, self._records, model, timeout_seconds)

    async def depths(self) -> dict[str, int]:
        """Return how many messages wait in each queue, dead letters included. Raises ServiceUnreachable."""
        names = [queue.value for queue in Queue]
        with translated(self.settings.broker):
            pipeline = self._queues.pipeline(transaction=False)
            for name in names:
                pipeline.llen(name)
            found = await pipeline.execute()
        with translated(self.settings.result_store):
            dead = await cast(Any, self._records.llen(DEAD_KEY))
        return {**dict(zip(names, map(int, found), strict=True)), DEAD_KEY: int(dead)}

    async def memory_bytes(self) -> int:
        """Return how much memory the Redis with the records uses. Raises ServiceUnreachable."""
        with translated(self.settings.result_store):
            return int((await self._records.info("memory"))["used_memory"])

    async def kind(self, model: str) -> Kind:
        """Return what a model answers; intervals where nothing is known of it yet. Raises ServiceUnreachable."""
        with translated(self.settings.result_store):
            pipeline = self._records.pipeline(transaction=False)
            pipeline.hgetall(cards_key(model))
            pipeline.hgetall(wanted_key(model))
            cards, wanted = await pipeline.execute()
        if cards:
            return "localization"
        return "classification" if b"n_features" in wanted and b"n_targets" not in wanted else "intervals"

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


@lru_cache(maxsize=1024)
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
        require(scope, caller)

    return Depends(check)


def require(scope: Scope, caller: KeyEntry | None) -> None:
    """Refuse a key without this scope."""
    if caller is not None and not caller.allows(scope):
        raise Problem(403, "forbidden", f"This needs a key with the scope {scope}.")


GatewayState = Annotated[Gateway, Depends(_gateway)]
#: The key that a request came with; None where no keys are wanted.
Caller = Annotated[KeyEntry | None, Depends(_caller)]
