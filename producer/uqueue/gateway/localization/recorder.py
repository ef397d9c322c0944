"""What localization requests leave behind: shared counters, sums per hour, and the last answers.

Everything is counted in memory and sent to Redis about twice a second, by a task of the event loop; what Redis did not
take is kept and sent again. No method that counts waits or raises: a prediction never fails because of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ParamSpec

import redis.asyncio
from pydantic_core import to_json
from redis.exceptions import RedisError

from uqueue.gateway import logs
from uqueue.gateway.localization.analytics_reading import FINE_LATENCY, Reading, Series, Totals, latency_bucket
from uqueue_config.figures import Sums
from uqueue_config.figures.definitions import series_key
from uqueue_config.figures.outbox import RECENT_MAX, Outbox, script
from uqueue_config.settings import Settings

FLUSH_SECONDS = 0.5
#: How long the last flush may take when the gateway ends.
CLOSE_SECONDS = 2.0
#: A gateway that works on something says so at least this often.
TELL_SECONDS = 2.0
P = ParamSpec("P")


@dataclass(frozen=True, slots=True)
class Recorded:
    """One successful localization as `localizations/recent` shows it; `timestamp` is aware.

    ellipse  semi-axes in metres and rotation in degrees, as the answer had them; for the page's map, not for that list
    """

    id: str
    session_id: str
    timestamp: datetime
    latitude: float
    longitude: float
    uncertainty_m: float
    confidence: float
    source_frequency_mhz: float
    snr_avg_db: float
    websdr_count: int
    ellipse: tuple[float, float, float] | None = None


def _quiet(count: Callable[P, None]) -> Callable[P, None]:
    """Log what a counting method raises, and go on."""

    @functools.wraps(count)
    def counting(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            count(*args, **kwargs)
        except Exception:
            logging.getLogger(logs.NAME).exception("not_counted")

    return counting


class Recorder:
    """Counts for one gateway process. `connection` may be used by others too; nothing is sent before the first count.

    `close` sends what is left.
    """

    def __init__(self, connection: redis.asyncio.Redis, settings: Settings) -> None:
        self.settings = settings
        self.connection = connection
        self.outbox = Outbox()
        self._started = time.monotonic()
        #: Localization requests in work, as the gateway's middleware counts them.
        self.active = 0
        self._told = (0, -math.inf)
        self._reading = Reading(connection, settings.result_store)
        self._take: Any = connection.register_script(script())
        self._sending = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._complained = False

    async def answered(self, records: Sequence[Recorded]) -> None:
        """Keep successful localizations, those from the cache and of batches too."""
        self._keep(records)

    @_quiet
    def _keep(self, records: Sequence[Recorded]) -> None:
        for record in records:
            key = series_key(record.timestamp.timestamp())
            self.outbox.add("successful", key=key)
            self.outbox.add("confidence", amount=record.confidence, key=key)
            self.outbox.add("uncertainty", amount=record.uncertainty_m, key=key)
            self.outbox.keep(to_json(_stored(record)))
        self.outbox.add("predictions", "successful", amount=len(records))
        self._begin()

    @_quiet
    def request(self, endpoint: str, status: int, seconds: float, error_type: str | None) -> None:
        """Count a request to `predict` or `predict/batch`; `error_type` is the member `error` of its problem."""
        milliseconds, key = 1000 * seconds, series_key(time.time())
        self.outbox.add("inference_requests_total", endpoint)
        self.outbox.observe("inference_latency_ms", value=milliseconds)
        self.outbox.add(FINE_LATENCY, str(latency_bucket(milliseconds)))
        self.outbox.add("requests", key=key)
        self.outbox.add("milliseconds", amount=milliseconds, key=key)
        if error_type is not None or status >= 400:
            self.outbox.add("inference_errors_total", error_type or "Unknown")
        self._begin()

    @_quiet
    def cache(self, hits: int, misses: int) -> None:
        """Count items looked up in the cache."""
        if hits:
            self.outbox.add("cache_hits_total", amount=hits)
        if misses:
            self.outbox.add("cache_misses_total", amount=misses)
        self._begin()

    @_quiet
    def preprocessing(self, seconds: float) -> None:
        """Count how long one input's features took."""
        self.outbox.observe("preprocessing_latency_ms", value=1000 * seconds)
        self._begin()

    @_quiet
    def inference(self, model_version: str, rows: int, onnx_seconds: float) -> None:
        """Count a run of a model."""
        self.outbox.observe("onnx_latency_ms", value=1000 * onnx_seconds)
        self.outbox.add("model_inference_count_total", amount=rows)
        self.outbox.add("inferences", model_version, amount=rows)
        self.outbox.add("inference_seconds", model_version, amount=onnx_seconds)
        self._begin()

    @_quiet
    def failed(self, rows: int) -> None:
        """Count localizations that could not be answered."""
        self.outbox.add("predictions", "failed", amount=rows)
        self.outbox.add("failed", amount=rows, key=series_key(time.time()))
        self._begin()

    @_quiet
    def reloaded(self) -> None:
        """Count a completed reload."""
        self.outbox.add("model_reloads_total")
        self._begin()

    @_quiet
    def route(self, endpoint: str, status: int, seconds: float) -> None:
        """Count any request to the gateway by its route."""
        self.outbox.observe("uqueue_request_duration_seconds", endpoint, str(status), value=seconds)
        self._begin()

    async def recent(self, limit: int = RECENT_MAX) -> list[dict[str, Any]]:
        """Return the last localizations, newest first, as `Recorded` with its timestamp as text.

        This and the next two see what this gateway has counted so far, and what the others have sent. Raises
        ServiceUnreachable.
        """
        await self.flush()
        return (await self._reading.recent())[:limit]

    async def totals(self) -> Totals:
        """Return the sums since counting began. Raises ServiceUnreachable."""
        await self.flush()
        return await self._reading.totals()

    async def series(self, hours: int) -> Series:
        """Return sums by hour, the oldest first, for the last so many hours. Raises ServiceUnreachable."""
        await self.flush()
        return await self._reading.series(hours)

    async def in_work(self) -> int:
        """Return how many localization requests all gateways work on. Raises ServiceUnreachable."""
        return self.active + await self._reading.in_work(except_for=self.outbox.name)

    async def sums(self) -> Sums:
        """Return all shared counters. Raises ServiceUnreachable."""
        await self.flush()
        return await self._reading.sums()

    @property
    def uptime_seconds(self) -> float:
        return time.monotonic() - self._started

    async def flush(self) -> bool:
        """Send what was counted; False where Redis did not take it, which is then kept."""
        async with self._sending:
            told = self.active, time.monotonic()
            if self.outbox.is_empty and not self._has_to_tell(*told):
                return True
            parcel = self.outbox.parcel(self.active)
            try:
                await self._take(parcel.keys, parcel.args)
            except (RedisError, OSError) as error:
                if not self._complained:
                    logs.write(logging.WARNING, "figures_not_stored", reason=str(error))
                self._complained = True
                return False
            self.outbox.confirm(parcel)
            self._told, self._complained = told, False
            return True

    async def close(self) -> None:
        """Send what is left, for a short time, and stop."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        self.active = 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                while await self.flush() and not self.outbox.is_empty:
                    pass

    def _has_to_tell(self, active: int, now: float) -> bool:
        said, at = self._told
        return active != said or (active > 0 and now - at > TELL_SECONDS)

    def _begin(self) -> None:
        if self._task is None or self._task.done():
            with contextlib.suppress(RuntimeError):  # called from a thread; the next call from the loop begins
                self._task = asyncio.get_running_loop().create_task(self._go_on())

    async def _go_on(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            try:
                await self.flush()
            except Exception:
                logging.getLogger(logs.NAME).exception("figures_not_stored")


def _stored(record: Recorded) -> dict[str, Any]:
    values = {name: getattr(record, name) for name in Recorded.__slots__}
    moment = record.timestamp.astimezone(UTC)
    return values | {"timestamp": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")}
