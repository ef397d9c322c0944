"""What all gateways have recorded, read from Redis. Percentiles come from buckets that grow by 5 %."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import redis.asyncio
from pydantic_core import from_json

from uqueue_config.connections import translated
from uqueue_config.figures import Sums
from uqueue_config.figures.definitions import COUNTERS_KEY, GATEWAYS_KEY, HOUR_SECONDS, RECENT_KEY, series_key

#: Latencies in ms by `latency_bucket` (a counter).
FINE_LATENCY = "inference_latency_fine"
#: A percentile is off by half of this at most.
LATENCY_RATIO = 1.05
#: A gateway that said nothing for so long is gone, and its requests with it.
GATEWAY_SECONDS = 10.0
FORGET_SECONDS = 3600.0
_LEAST_MS = 0.001


def latency_bucket(milliseconds: float) -> int:
    """Return the number of the bucket that a latency belongs to."""
    return math.floor(math.log(max(milliseconds, _LEAST_MS), LATENCY_RATIO))


def percentile(buckets: Mapping[int, float], share: float) -> float:
    """Return the nearest-rank percentile, in ms, of latencies counted by `latency_bucket`: the geometric middle of the
    bucket that it lies in, which errs by at most 2.5 %. 0 where there are none."""
    rank, seen = math.ceil(share * sum(buckets.values())), 0.0
    for bucket in sorted(buckets):
        seen += buckets[bucket]
        if seen >= rank > 0:
            return float(LATENCY_RATIO ** (bucket + 0.5))
    return 0.0


@dataclass(frozen=True)
class Totals:
    """Sums since counting began, over all gateways.

    latencies  requests by `latency_bucket`
    versions   rows run, and seconds that took, by model version
    """

    successful: int
    failed: int
    requests: int
    errors: int
    hits: int
    misses: int
    rows: int
    mean_latency_ms: float
    mean_onnx_ms: float
    latencies: Mapping[int, float] = field(default_factory=dict)
    versions: Mapping[str, tuple[int, float]] = field(default_factory=dict)

    @classmethod
    def of(cls, sums: Sums) -> Totals:
        seconds = sums.values("inference_seconds")
        return cls(
            successful=int(sums.value("predictions", "successful")),
            failed=int(sums.value("predictions", "failed")),
            requests=int(sums.total("inference_requests_total")),
            errors=int(sums.total("inference_errors_total")),
            hits=int(sums.value("cache_hits_total")),
            misses=int(sums.value("cache_misses_total")),
            rows=int(sums.value("model_inference_count_total")),
            mean_latency_ms=sums.distribution("inference_latency_ms").mean,
            mean_onnx_ms=sums.distribution("onnx_latency_ms").mean,
            latencies={int(labels[0]): count for labels, count in sums.values(FINE_LATENCY).items()},
            versions={key[0]: (int(rows), seconds.get(key, 0.0)) for key, rows in sums.values("inferences").items()},
        )

    @property
    def predictions(self) -> int:
        return self.successful + self.failed

    @property
    def success_rate(self) -> float:
        """Successful among all localizations, 0 where there are none."""
        return self.successful / self.predictions if self.predictions else 0.0

    @property
    def cache_hit_rate(self) -> float:
        """Hits among all items looked up, 0 where there are none."""
        return self.hits / (self.hits + self.misses) if self.hits else 0.0

    def latency_ms(self, share: float) -> float:
        """Return a percentile of the time to answer; see `percentile`."""
        return percentile(self.latencies, share)


#: Sums by name (successful, failed, confidence, uncertainty, requests, milliseconds), by the hour's beginning in
#: seconds since the epoch; hours in which nothing was counted are left out.
Series = dict[int, dict[str, float]]


class Reading:
    """Reads through a connection to the Redis at `url`. Everything raises ServiceUnreachable."""

    def __init__(self, connection: redis.asyncio.Redis, url: str) -> None:
        self._redis, self._url = connection, url

    async def sums(self) -> Sums:
        """Return all counters."""
        with translated(self._url):
            return Sums(await cast(Any, self._redis.hgetall(COUNTERS_KEY)))

    async def totals(self) -> Totals:
        return Totals.of(await self.sums())

    async def in_work(self, *, except_for: str) -> int:
        """Return how many localization requests the other gateways work on; forgets those that are gone."""
        with translated(self._url):
            pipeline = self._redis.pipeline(transaction=False)
            pipeline.hgetall(GATEWAYS_KEY)
            pipeline.time()
            gateways, (seconds, _) = await pipeline.execute()
            gone = [name for name, said in gateways.items() if seconds - _said_at(said) > FORGET_SECONDS]
            if gone:
                await cast(Any, self._redis.hdel(GATEWAYS_KEY, *gone))
        others = [said for name, said in gateways.items() if name.decode() != except_for]
        return sum(int(said.split()[0]) for said in others if seconds - _said_at(said) < GATEWAY_SECONDS)

    async def recent(self) -> list[dict[str, Any]]:
        """Return all localizations that are kept, newest first, whichever gateway sent them when."""
        with translated(self._url):
            found = await cast(Any, self._redis.lrange(RECENT_KEY, 0, -1))
        return sorted(map(from_json, found), key=lambda record: str(record["timestamp"]), reverse=True)

    async def series(self, hours: int) -> Series:
        """Return the sums of the last so many hours and of the one that has begun."""
        last = int(time.time() // HOUR_SECONDS)
        moments = [hour * HOUR_SECONDS for hour in range(last - hours, last + 1)]
        with translated(self._url):
            pipeline = self._redis.pipeline(transaction=False)
            for moment in moments:
                pipeline.hgetall(series_key(moment))
            found = await pipeline.execute()
        return {
            moment: {name.decode(): float(value) for name, value in sums.items()}
            for moment, sums in zip(moments, found, strict=True)
            if sums
        }


def _said_at(said: bytes) -> float:
    """Return when a gateway said how many requests it works on, in seconds since the epoch by Redis' clock."""
    return int(said.split()[1]) / 1000
