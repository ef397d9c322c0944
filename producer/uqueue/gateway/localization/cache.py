"""Outputs of models, kept in Redis by what went in. A cache that fails is a miss, never an error.

Only what a model said is kept, decoded: whatever belongs to one request is made anew for each.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar, cast

import redis.asyncio
from pydantic_core import from_json, to_json
from redis.exceptions import NoPermissionError, RedisError

from uqueue.gateway import logs
from uqueue.gateway.localization.features import Features
from uqueue.localization import Estimate
from uqueue_config.figures import Sums
from uqueue_config.figures.definitions import COUNTERS_KEY
from uqueue_config.localization import ModelCard

PREFIX = "pred:"
FORMAT = 1
#: What the counters were when the statistics were reset (a hash).
BASELINE_KEY = "uqueue:localization:cache-baseline"
#: A command takes no longer; after one that failed the cache is left alone for a while.
REPLY_SECONDS = 1.0
REST_SECONDS = 2.0
COMPLAIN_SECONDS = 30.0
_SCANNED = 1000
T = TypeVar("T")
_COUNTED = ("cache_hits_total", "cache_misses_total")
_FIELDS = ("latitude", "longitude", "sigma_x", "sigma_y", "theta", "confidence", "uncertainty_source")


def cache_key(card: ModelCard, recipe_id: str, parameters: Mapping[str, float | int], features: Features) -> str:
    """Return the key of the outputs of this version for these features: a hash over fields with their lengths."""
    row = features.row
    fields = (
        card.name.encode(),
        card.version.encode(),
        (card.sha256 or card.content).encode(),
        recipe_id.encode(),
        to_json(dict(sorted(parameters.items()))),
        row.dtype.newbyteorder("<").str.encode(),
        to_json(features.shape),
        row.astype("<f4", copy=False).tobytes(),
    )
    digest = hashlib.sha256()
    for field in fields:
        digest.update(len(field).to_bytes(8))
        digest.update(field)
    return PREFIX + digest.hexdigest()


class PredictionCache:
    """`records` is where the counters are, which may be another Redis than that of the cache."""

    def __init__(self, connection: redis.asyncio.Redis, records: redis.asyncio.Redis, ttl_seconds: float) -> None:
        self._redis, self._records = connection, records
        self._ttl_ms = max(1, round(1000 * ttl_seconds))
        self._rests_until = 0.0
        self._complained_at = float("-inf")

    async def get(self, keys: Sequence[str]) -> list[Estimate | None]:
        """Return what is kept under each key; None for a miss, for what cannot be read, and where Redis is away."""
        found: Sequence[bytes | None] = [None] * len(keys)
        if keys and time.monotonic() >= self._rests_until:
            async with self._tolerant():
                found = await cast(Any, self._redis.mget(keys))
        return [self._read(value) for value in found]

    async def put(self, outputs: Mapping[str, Estimate]) -> None:
        """Keep outputs until their time is over."""
        if not outputs or time.monotonic() < self._rests_until:
            return
        async with self._tolerant():
            pipeline = self._redis.pipeline(transaction=False)
            for key, estimate in outputs.items():
                value = {"format": FORMAT, **{name: getattr(estimate, name) for name in _FIELDS}}
                pipeline.set(key, to_json(value), px=self._ttl_ms)
            await pipeline.execute()

    async def clear(self) -> int:
        """Drop everything that is kept, and nothing else; returns how much that was. Raises RedisError."""
        dropped, batch = 0, []
        async for key in self._redis.scan_iter(f"{PREFIX}*", _SCANNED):
            batch.append(key)
            if len(batch) >= _SCANNED:
                dropped += await self._redis.unlink(*batch)
                batch = []
        return dropped + (await self._redis.unlink(*batch) if batch else 0)

    async def stats(self) -> dict[str, Any]:
        """Return hits, misses, total and hit_rate over all processes since the last reset, the keys that are kept, and
        the server's memory; None for what this Redis user may not see. Raises RedisError."""
        counted, before = await self._counted(), await cast(Any, self._records.hgetall(BASELINE_KEY))
        hits, misses = (max(0.0, counted[name] - float(before.get(name.encode(), 0))) for name in _COUNTED)
        total = hits + misses
        memory = await self._permitted(self._memory) or {}
        return {
            "hits": int(hits),
            "misses": int(misses),
            "total": int(total),
            "hit_rate": hits / total if total else 0.0,
            "keys": await self._permitted(self._keys),
            "ttl_seconds": self._ttl_ms / 1000,
            "memory_used_bytes": memory.get("used_memory"),
            "memory_peak_bytes": memory.get("used_memory_peak"),
        }

    async def _memory(self) -> dict[str, Any]:
        return cast(dict[str, Any], await self._redis.info("memory"))

    async def _keys(self) -> int:
        return sum([1 async for _ in self._redis.scan_iter(f"{PREFIX}*", _SCANNED)])

    async def _permitted(self, look: Callable[[], Awaitable[T]]) -> T | None:
        """Return what was found, None where this Redis user may not look."""
        try:
            return await look()
        except NoPermissionError:
            return None

    async def reset_stats(self) -> None:
        """Count hits and misses from now on. Raises RedisError."""
        counted = await self._counted()
        await cast(Any, self._records.hset(BASELINE_KEY, mapping=cast(Any, counted)))

    async def _counted(self) -> dict[str, float]:
        values = await cast(Any, self._records.hmget(COUNTERS_KEY, list(_COUNTED)))
        sums = Sums({name.encode(): value for name, value in zip(_COUNTED, values, strict=True) if value is not None})
        return {name: sums.value(name) for name in _COUNTED}

    def _read(self, value: bytes | None) -> Estimate | None:
        if value is None:
            return None
        try:
            found = from_json(value)
            if found.pop("format") != FORMAT:
                return None  # a gateway of another release wrote it
            return Estimate(**found)
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            self._complain(f"a value cannot be read ({type(error).__name__})")
            return None

    @asynccontextmanager
    async def _tolerant(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(REPLY_SECONDS):
                yield
        except (RedisError, OSError, TimeoutError) as error:
            self._rests_until = time.monotonic() + REST_SECONDS
            self._complain(str(error) or type(error).__name__)

    def _complain(self, reason: str) -> None:
        if time.monotonic() - self._complained_at > COMPLAIN_SECONDS:
            self._complained_at = time.monotonic()
            logs.write(logging.WARNING, "cache_unusable", reason=reason)
