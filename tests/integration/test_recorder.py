"""What gateways and workers count, in a real Redis: together, once, and through its failures."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
import redis

from uqueue.embedded import start_redis
from uqueue.gateway.localization.recorder import Recorded, Recorder
from uqueue_config.connections import connect, connect_async
from uqueue_config.errors import ServiceUnreachable
from uqueue_config.figures.definitions import COUNTERS_KEY, RECENT_KEY, SERIES_TTL_SECONDS, series_key
from uqueue_config.settings import Settings
from uqueue_worker.counts import Counts

NOON = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)


def recorded(number: int, *, at: datetime = NOON, uncertainty_m: float = 25.0) -> Recorded:
    return Recorded(
        id=f"00000000-0000-4000-8000-{number:012d}",
        session_id="s",
        timestamp=at + timedelta(milliseconds=number),
        latitude=52.0,
        longitude=5.0,
        uncertainty_m=uncertainty_m,
        confidence=0.5,
        source_frequency_mhz=145.0,
        snr_avg_db=3.5,
        websdr_count=3,
    )


def with_gateways(url: str, check: Callable[..., Awaitable[None]], count: int = 2) -> None:
    """Run `check` with the recorders of some gateways, each with a connection of its own."""

    async def run() -> None:
        settings = Settings.load({"UQUEUE_BROKER_URL": url})
        connections = [connect_async(url) for _ in range(count)]
        recorders = [Recorder(connection, settings) for connection in connections]
        try:
            await check(*recorders)
        finally:
            for recorder, connection in zip(recorders, connections, strict=True):
                await recorder.close()
                await connection.aclose()

    asyncio.run(run())


@pytest.fixture
def url(redis_url: str) -> str:
    with connect(redis_url) as connection:
        connection.flushdb()
    return redis_url


def test_gateways_count_together(url: str) -> None:
    async def check(one: Recorder, other: Recorder) -> None:
        for recorder in (one, other):
            recorder.request("predict", 200, 0.010, None)
            recorder.cache(1, 2)
            recorder.inference("7", 3, 0.05)
            await recorder.answered([recorded(1)])
        other.request("predict/batch", 504, 8.0, "ResultTimeout")
        other.failed(2)
        other.reloaded()
        await other.flush()
        totals = await one.totals()  # which sends what this one has first
        assert (totals.requests, totals.errors, totals.successful, totals.failed) == (3, 1, 2, 2)
        assert (totals.hits, totals.misses, totals.rows) == (2, 4, 6)
        assert totals.versions == {"7": (6, pytest.approx(0.1))}
        assert totals.latency_ms(0.5) == pytest.approx(10, rel=0.025)
        assert totals.latency_ms(0.99) == pytest.approx(8000, rel=0.025)
        sums = await other.sums()
        assert sums.value("model_reloads_total") == 1
        assert sums.distribution("inference_latency_ms").counts[-1] == 1

    with_gateways(url, check)


def test_counts_survive_the_gateways(url: str) -> None:
    async def first(one: Recorder, _: Recorder) -> None:
        one.cache(5, 0)

    async def second(one: Recorder, _: Recorder) -> None:
        one.cache(1, 0)
        assert (await one.totals()).hits == 6

    with_gateways(url, first)  # sent when it is closed
    with_gateways(url, second)


def test_the_last_thousand_are_kept_newest_first(url: str) -> None:
    async def check(one: Recorder, other: Recorder) -> None:
        await other.answered([recorded(number) for number in range(0, 800, 2)])
        await one.answered([recorded(number) for number in range(1, 1300, 2)])
        await other.flush()
        found = await one.recent()
        assert len(found) == 1000
        assert [record["timestamp"] for record in found] == sorted((r["timestamp"] for r in found), reverse=True)
        assert found[0]["id"].endswith("1299")
        assert await one.recent(3) == found[:3]
        assert (await one.totals()).successful == 1050

    with_gateways(url, check)


def test_sums_by_hour_lapse(url: str) -> None:
    async def check(one: Recorder, _: Recorder) -> None:
        await one.answered([recorded(1), recorded(2), recorded(3, at=NOON - timedelta(hours=2))])
        series = await one.series(24)
        by_hour = [(sums["successful"], sums["confidence"], sums["uncertainty"]) for _, sums in sorted(series.items())]
        assert by_hour == [(1, 0.5, 25), (2, 1, 50)]
        assert len(await one.series(1)) == 1
        ttl = await one.connection.ttl(series_key(NOON.timestamp()))
        assert SERIES_TTL_SECONDS - 60 < ttl <= SERIES_TTL_SECONDS
        assert await one.connection.ttl(COUNTERS_KEY) == -1

    with_gateways(url, check)


def test_nothing_is_lost_or_doubled_while_redis_is_away(tmp_path: Path) -> None:
    async def check(one: Recorder, other: Recorder) -> None:
        one.cache(1, 0)
        assert await one.flush()
        server.process.terminate()
        server.process.wait()
        for number in range(3):
            one.cache(1, 0)
            await one.answered([recorded(number)])
            assert not await one.flush()
        with pytest.raises(ServiceUnreachable):
            await one.totals()
        with start_redis(tmp_path / "again", port=server.port):
            one.cache(1, 0)
            totals = await one.totals()
            while not one.outbox.is_empty:
                assert await one.flush()
                totals = await one.totals()
            assert (totals.hits, totals.successful) == (4, 3)
            await other.close()
            await one.close()

    with start_redis(tmp_path / "redis") as server:
        with_gateways(server.url, check)


def test_a_parcel_whose_reply_was_lost_counts_once(url: str) -> None:
    async def check(one: Recorder, other: Recorder) -> None:
        one.cache(1, 0)
        await one.answered([recorded(1)])
        parcel = one.outbox.parcel()
        assert await other._take(parcel.keys, parcel.args) == 1  # it arrived, and nobody heard
        assert await one.flush()
        one.cache(1, 0)
        assert await one.flush()
        assert await other._take(parcel.keys, parcel.args) == 0  # the first sending, very late
        totals = await other.totals()
        assert (totals.hits, totals.successful) == (2, 1)
        assert len(await other.recent()) == 1

    with_gateways(url, check)


def test_counting_never_raises(url: str) -> None:
    async def check(one: Recorder, _: Recorder) -> None:
        one.preprocessing(float("nan"))
        one.inference("7", cast(Any, None), 0.1)
        await one.answered(cast(Any, [None]))
        one.cache(1, 0)
        assert (await one.totals()).hits == 1

    with_gateways(url, check)


def test_requests_in_work_are_those_of_all_gateways_that_live(url: str) -> None:
    async def check(one: Recorder, other: Recorder) -> None:
        one.active, other.active = 2, 3
        await other.flush()
        assert await one.in_work() == 5
        await one.connection.hset("uqueue:gateways", "long gone", "7 1000")
        assert await one.in_work() == 5
        assert await one.connection.hexists("uqueue:gateways", "long gone") is False
        other.active = 0
        await other.flush()
        assert await one.in_work() == 2
        one.active = 0

    with_gateways(url, check)


def test_a_gateway_sends_by_itself(url: str) -> None:
    async def check(one: Recorder, other: Recorder) -> None:
        one.cache(1, 0)
        for _ in range(200):
            if (await other.totals()).hits:
                return
            await asyncio.sleep(0.05)
        raise AssertionError("nothing was sent")

    with_gateways(url, check)


def test_a_worker_counts_into_the_same_sums(url: str) -> None:
    with connect(url) as connection:
        connection.hset("uqueue:job:a", mapping={"created_at": 1000, "started_at": 1300})
        counts = Counts()
        counts.began("a", 4)
        counts.began("nobody knows it")
        counts.ended("succeeded", 0.02, 4)
        counts.predicted("7", {"succeeded": 3, "failed": 1}, 0.02)
        counts.store(connection)
        counts.store(connection)
        counts.answered("a", {"model": {"version": "8"}}, 0.5)
        counts.failed("a", RuntimeError(), 0.1)
        counts.store(connection)

    async def check(one: Recorder, _: Recorder) -> None:
        sums = await one.sums()
        assert sums.values("uqueue_tasks_total") == {
            ("uqueue.predict", "succeeded"): 5,
            ("uqueue.predict", "failed"): 1,
        }
        assert sums.values("uqueue_predictions_total") == {
            ("7", "succeeded"): 3,
            ("7", "failed"): 1,
            ("8", "succeeded"): 1,
        }
        (wait,) = sums.distributions("uqueue_queue_wait_seconds")
        assert (wait.labels, wait.count, wait.mean) == (("predictions",), 6, pytest.approx(0.3))
        assert [one.labels for one in sums.distributions("uqueue_model_inference_seconds")] == [("7",), ("8",)]

    with_gateways(url, check)


def test_a_worker_keeps_its_counts_while_redis_is_away(tmp_path: Path) -> None:
    counts = Counts()
    counts.ended("succeeded", 0.02)
    with start_redis(tmp_path / "redis") as server, connect(server.url, retries=0) as connection:
        server.process.terminate()
        server.process.wait()
        for _ in range(2):
            counts.began("a")
            with pytest.raises(redis.RedisError):
                counts.store(connection)
        with start_redis(tmp_path / "again", port=server.port):
            counts.store(connection)
            found = cast(Any, connection.hgetall(COUNTERS_KEY))
            assert found[b"uqueue_tasks_total\tuqueue.predict\tsucceeded"] == b"1"
            assert not connection.exists(RECENT_KEY)
