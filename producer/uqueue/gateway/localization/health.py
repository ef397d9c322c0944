"""Whether localizations are answered: Redis, its cache, worker processes and the model, looked at together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from redis.exceptions import RedisError

from uqueue.aio import AsyncClient
from uqueue.gateway.localization.arms import Look, SharedArms
from uqueue.gateway.localization.named import localization_model
from uqueue.gateway.localization.recorder import Recorder
from uqueue.gateway.localization.shared_metrics import LOADED, SERVING
from uqueue.status import ModelStatus
from uqueue_config.connections import connect_async
from uqueue_config.errors import UqueueError
from uqueue_config.localization import ModelCard
from uqueue_config.messages import Acknowledgement
from uqueue_config.settings import Settings

#: A dependency that takes longer to answer is down.
CHECK_SECONDS = 1.0
#: How old a look may be for `/health`, which anybody may ask as often as he likes.
HEALTH_SECONDS = 1.0
T = TypeVar("T")


@dataclass(frozen=True)
class Check:
    """What one look at a dependency gave; `reason` where it is not up."""

    name: str
    status: Literal["up", "down", "degraded", "unknown"]
    seconds: float
    reason: str | None = None


@dataclass(frozen=True)
class Condition:
    """One look. `model` is the localization model, None where none is configured: then any model counts.

    look      what gateways share of its versions; None where Redis does not answer, or there is no such model
    statuses  who serves it, or all models
    """

    model: str | None
    look: Look | None
    statuses: tuple[ModelStatus, ...]
    store: Check
    cache: Check
    seconds: float

    @property
    def processes(self) -> tuple[Acknowledgement, ...]:
        """The worker processes that say something of the models that count."""
        return tuple(process for status in self.statuses for process in status.processes)

    @property
    def model_loaded(self) -> bool:
        """Whether some process holds a model."""
        return any(process.state in LOADED for process in self.processes)

    @property
    def model_ready(self) -> bool:
        """Whether some process answers. One that loads its model with the first job counts where no model is named."""
        states = SERVING if self.model is None else LOADED
        return any(process.state in states for process in self.processes)

    @property
    def status(self) -> Literal["healthy", "degraded", "unhealthy"]:
        if not self.model_ready:
            return "unhealthy"
        return "healthy" if self.cache.status == "up" else "degraded"

    @property
    def reason(self) -> str | None:
        """Why it is not healthy, None where it is."""
        return next((check.reason for check in self.checks if check.reason), None)

    @property
    def checks(self) -> tuple[Check, ...]:
        return self.store, self.cache, self._workers, self._model

    @property
    def card(self) -> ModelCard | None:
        """The version that answers most requests; where none does, the one that was held last."""
        if self.look is None:
            return None
        cards = self.look.cards
        return cards.get(self.look.active or "") or max(cards.values(), key=lambda card: card.seen_at, default=None)

    @property
    def loaded_at(self) -> float:
        """When the version of `card` was loaded first by those that hold it, in seconds since the epoch; when it was
        last held where nobody does."""
        card = self.card
        content, seen_at = (card.content, card.seen_at) if card else (None, 0.0)
        found = [process.loaded_at for process in self.processes if process.version == content and process.loaded_at]
        return min(found, default=seen_at)

    @property
    def _workers(self) -> Check:
        if self.store.status != "up":
            return Check("workers", "unknown", self.seconds, "Redis does not answer.")
        if not self.processes:
            return Check("workers", "down", self.seconds, "No worker process answers.")
        return Check("workers", "up", self.seconds)

    @property
    def _model(self) -> Check:
        if self.store.status != "up":
            return Check("model", "unknown", self.seconds, "Redis does not answer.")
        if self.model_ready:
            return Check("model", "up", self.seconds)
        reasons = [process.reason for process in self.processes if process.reason]
        return Check("model", "down", self.seconds, reasons[0] if reasons else "No worker process serves a model.")


class Examiner:
    """Looks for all who ask at the same time once. Opens nothing before the first look."""

    def __init__(self, settings: Settings, client: AsyncClient, recorder: Recorder) -> None:
        self.model = localization_model(settings)
        self._client, self._records = client, recorder.connection
        url = settings.localization_cache_url
        self._cache = connect_async(url.get_secret_value()) if url else None
        self._shared = SharedArms(self._records, client, self.model) if self.model else None
        self._looking = asyncio.Lock()
        self._last: tuple[float, Condition] | None = None

    async def close(self) -> None:
        if self._cache is not None:
            await self._cache.aclose()

    async def look(self, *, at_most_seconds_old: float = 0.0) -> Condition:
        """Return the condition; raises nothing, and takes about a second at most."""
        since = time.monotonic() - at_most_seconds_old
        async with self._looking:
            if self._last is None or self._last[0] < since:
                begun = time.monotonic()
                self._last = begun, await self._look()
            return self._last[1]

    async def _look(self) -> Condition:
        begun = time.monotonic()
        store, found = await asyncio.gather(_checked("redis", self._records.ping), _tried(self._statuses))
        if self._cache is None:
            cache = Check("cache", store.status, store.seconds, store.reason)
        else:
            cache = await _checked("cache", self._cache.ping)
        look, statuses = found or (None, ())
        return Condition(self.model, look, statuses, store, cache, time.monotonic() - begun)

    async def _statuses(self) -> tuple[Look | None, tuple[ModelStatus, ...]]:
        if self._shared is None:
            return None, tuple(await self._client.models())
        look = await self._shared.look()
        return look, (look.status,) if look.status else ()


async def _checked(name: str, ping: Callable[[], Any]) -> Check:
    begun = time.monotonic()
    answered = await _tried(ping)
    seconds = time.monotonic() - begun
    if answered is None:
        return Check(name, "down", seconds, "It does not answer.")
    return Check(name, "up", seconds)


async def _tried(ask: Callable[[], Awaitable[T]]) -> T | None:
    """Return what was asked for, None where it did not come in time."""
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            return await ask()
    except (RedisError, UqueueError, OSError, TimeoutError):
        return None
