"""What gateways share in Redis about localization: shares, tests, failures, the cache; also as the gateway's user."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import redis

from builders.guarded_redis import GuardedRedis, guarded_redis
from uqueue.aio import AsyncClient
from uqueue.gateway.localization.arms import SharedArms
from uqueue.gateway.localization.cache import PREFIX, PredictionCache
from uqueue.gateway.localization.versions import ModelVersionManager
from uqueue.gateway.problems import Problem
from uqueue.localization import Estimate
from uqueue_config.connections import connect_async
from uqueue_config.errors import InferenceFailed
from uqueue_config.localization import Declaration, ModelCard, cards_key
from uqueue_config.messages import Acknowledgement
from uqueue_config.names import MODELS_KEY, serving_key, wanted_key
from uqueue_config.settings import Settings

MODEL = "m"
SALT = "salt"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuardedRedis]:
    with guarded_redis(tmp_path_factory.mktemp("versions")) as found:
        yield found
        assert found.denials() == []


@pytest.fixture
def admin(guarded: GuardedRedis) -> redis.Redis:
    guarded.admin.flushdb()
    serve(guarded.admin, "1")
    return guarded.admin


def content_of(version: str) -> str:
    return version.rjust(16, "0")


def show(admin: redis.Redis, version: str) -> None:
    """Say, as a worker does, that a version is loaded."""
    card = ModelCard(
        name=MODEL, version=version, content=content_of(version), sha256="a" * 64, declaration=Declaration()
    )
    admin.hset(cards_key(MODEL), version, card.model_dump_json())


def serve(admin: redis.Redis, version: str) -> None:
    """Make this version the stable one, with one process."""
    show(admin, version)
    admin.sadd(MODELS_KEY, MODEL)
    admin.hset(wanted_key(MODEL), "version", content_of(version))
    process = Acknowledgement(host="h", pid=1, model=MODEL, state="ready", version=content_of(version))
    admin.sadd(serving_key(MODEL), "h:1")
    admin.set(serving_key(MODEL, "h:1"), process.model_dump_json())


class Worker:
    """Tries versions out: all of them can be loaded but `broken`."""

    def __init__(self, admin: redis.Redis) -> None:
        self.admin, self.tried, self.broken = admin, [], set[str]()

    async def __call__(self, version: str, like: ModelCard | None) -> str:
        self.tried.append(version)
        if version in self.broken:
            raise InferenceFailed(job_id="j", model=MODEL, version=version, reason="out of memory")
        number = str(int(version)) if version.isdecimal() else version
        show(self.admin, number)
        return number


@asynccontextmanager
async def gateway(guarded: GuardedRedis, worker: Worker) -> AsyncIterator[ModelVersionManager]:
    settings = Settings(broker_url=guarded.url("gateway"), localization_arm_failures=2)
    client, connection = AsyncClient(settings), connect_async(settings.broker)
    shared = SharedArms(connection, client, MODEL)
    manager = ModelVersionManager(shared, worker, 3, random.Random(1), SALT)
    try:
        yield manager
    finally:
        await manager.close()
        await client.close()
        await connection.aclose()


def together(guarded: GuardedRedis, admin: redis.Redis, story: Callable[..., Awaitable[None]]) -> None:
    """Run a story of two gateways and a worker."""

    async def run() -> None:
        worker = Worker(admin)
        async with gateway(guarded, worker) as one, gateway(guarded, worker) as two:
            await story(one, two, worker)

    asyncio.run(run())


async def shares(manager: ModelVersionManager) -> dict[str, float]:
    await manager.look(fresh=True)
    return {version: round(share, 6) for version, share in manager.weights.items() if share}


async def soon(manager: ModelVersionManager, condition: Callable[[Any], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition(await manager.look(fresh=True)):
            await asyncio.sleep(0.01)


async def refused(work: Awaitable[Any], status: int, code: str) -> None:
    with pytest.raises(Problem) as caught:
        await work
    assert (caught.value.status, caught.value.code) == (status, code)


def test_without_shares_the_stable_version_answers_and_is_followed(guarded: GuardedRedis, admin: redis.Redis) -> None:
    async def story(one: ModelVersionManager, two: ModelVersionManager, worker: Worker) -> None:
        choice = await one.select_model("van-7")
        assert (choice.version, choice.pin) == ("1", "stable")
        serve(admin, "2")
        await one.look(fresh=True)
        assert (await one.select_model()).version == "2"
        assert set(one.models) == {"2"}

    together(guarded, admin, story)


def test_shares_are_the_same_on_all_gateways_and_what_is_left_is_the_stable_ones(
    guarded: GuardedRedis, admin: redis.Redis
) -> None:
    async def story(one: ModelVersionManager, two: ModelVersionManager, worker: Worker) -> None:
        assert await one.set_model("2", 25) == "2"
        assert await shares(two) == {"1": 0.75, "2": 0.25}
        chosen = [(await one.select_model(f"van-{n}")).version for n in range(200)]
        assert chosen == [(await two.select_model(f"van-{n}")).version for n in range(200)]
        assert 20 < chosen.count("2") < 90
        pins = {choice.version: choice.pin for choice in [await one.select_model() for _ in range(50)]}
        assert pins == {"1": content_of("1"), "2": "2"}
        await two.set_model("2", 0.5)
        assert await shares(one) == {"1": 0.5, "2": 0.5}
        await one.set_model("3", 1)
        assert await shares(two) == {"1": 0.25, "2": 0.25, "3": 0.5}
        await refused(two.set_model("4", 1), 409, "version_conflict")  # three are loaded
        await refused(one.remove("3"), 409, "version_conflict")  # the active one
        await one.remove("2")
        await refused(one.remove("2"), 404, "version_not_found")
        serve(admin, "5")
        assert set(await shares(one)) == {"5", "3"}

    together(guarded, admin, story)


def test_no_version_may_be_left_without_any_share(guarded: GuardedRedis, admin: redis.Redis) -> None:
    async def story(one: ModelVersionManager, two: ModelVersionManager, worker: Worker) -> None:
        await refused(one.set_model("1", 0), 422, "invalid_request")
        assert await shares(two) == {"1": 1.0}

    together(guarded, admin, story)


def test_a_version_that_cannot_be_loaded_gets_nothing(guarded: GuardedRedis, admin: redis.Redis) -> None:
    async def story(one: ModelVersionManager, two: ModelVersionManager, worker: Worker) -> None:
        worker.broken.add("2")
        await refused(one.set_model("2", 1), 503, "model_not_loaded")
        look = await two.look()
        assert (look.shared.arms["2"].status, look.active) == ("error", "1")
        assert "out of memory" in str(look.shared.arms["2"].error)
        assert {(await two.select_model(f"van-{n}")).version for n in range(20)} == {"1"}

    together(guarded, admin, story)


def test_a_version_that_fails_is_left_out_until_a_trial_succeeds(guarded: GuardedRedis, admin: redis.Redis) -> None:
    async def story(one: ModelVersionManager, two: ModelVersionManager, worker: Worker) -> None:
        await one.set_model("2", 1)
        worker.broken.add("2")
        one.failed("2")
        await soon(two, lambda look: look.failures.get("2") == 1)
        one.succeeded("2")
        await soon(two, lambda look: not look.failures)
        for _ in range(2):
            one.failed("2")
        await soon(two, lambda look: look.is_excluded("2"))
        await refused(two.select_model("van-7"), 503, "model_not_loaded")  # the stable one has no share
        await two.set_model("1", 1)
        assert {(await two.select_model(f"van-{n}")).version for n in range(20)} == {"1"}
        worker.broken.clear()
        await two.set_model("2", 1)
        assert {(await two.select_model(f"van-{n}")).version for n in range(20)} == {"1", "2"}

    together(guarded, admin, story)


def test_an_excluded_version_is_tried_again_by_itself(guarded: GuardedRedis, admin: redis.Redis) -> None:
    async def story(one: ModelVersionManager, two: ModelVersionManager, worker: Worker) -> None:
        for _ in range(2):
            one.failed("1")
        await soon(one, lambda look: look.is_excluded("1"))
        await refused(one.select_model(), 503, "model_not_loaded")  # and has it tried
        await soon(one, lambda look: not look.failures)
        assert worker.tried == [content_of("1")]
        assert (await one.select_model()).version == "1"

    together(guarded, admin, story)


def test_without_a_live_process_nothing_is_chosen(guarded: GuardedRedis, admin: redis.Redis) -> None:
    async def story(one: ModelVersionManager, two: ModelVersionManager, worker: Worker) -> None:
        admin.delete(serving_key(MODEL, "h:1"))
        await refused(one.select_model(), 503, "model_not_loaded")

    together(guarded, admin, story)


def test_a_test_is_one_for_all_gateways_and_its_winner_is_promoted(guarded: GuardedRedis, admin: redis.Redis) -> None:
    async def story(one: ModelVersionManager, two: ModelVersionManager, worker: Worker) -> None:
        await refused(one.start_ab_test("1", "2", 0.5), 409, "version_conflict")  # not loaded
        await one.set_model("2", 0)
        for split in (0.0, 0.995):
            await refused(one.start_ab_test("1", "2", split), 422, "invalid_request")
        await one.start_ab_test("1", "2", 0.2)
        await refused(two.start_ab_test("1", "2", 0.5), 409, "version_conflict")
        await refused(two.set_model("2", 1), 409, "version_conflict")
        assert await shares(two) == {"1": 0.8, "2": 0.2}
        for _ in range(10):
            await two.select_model()
        await soon(one, lambda look: sum(look.routed.values()) == 10)
        await refused(two.end_ab_test("3"), 422, "invalid_request")
        await two.end_ab_test("2")
        assert await shares(one) == {"2": 1.0}
        assert (await one.look()).shared.previous == "1"
        await refused(one.end_ab_test(), 404, "test_not_found")
        await one.follow_stable()
        assert await shares(two) == {"1": 1.0}

    together(guarded, admin, story)


def test_a_version_is_activated_and_the_stable_one_followed_again(guarded: GuardedRedis, admin: redis.Redis) -> None:
    async def story(one: ModelVersionManager, two: ModelVersionManager, worker: Worker) -> None:
        assert await one.activate("02") == "2"  # a name that the registry has for version 2
        assert await shares(two) == {"2": 1.0}
        serve(admin, "3")
        assert await shares(one) == {"2": 1.0}
        assert await two.activate("3") == "3"
        assert worker.tried == ["02"]
        serve(admin, "4")
        assert await shares(one) == {"4": 1.0}
        await one.activate("2")
        await two.follow_stable()
        assert await shares(one) == {"4": 1.0}
        await one.set_model("2", 1)
        await two.follow_stable()  # a share that somebody gave stays
        assert await shares(one) == {"2": 1.0}

    together(guarded, admin, story)


def test_a_test_ends_when_its_time_is_over(guarded: GuardedRedis, admin: redis.Redis) -> None:
    async def story(one: ModelVersionManager, two: ModelVersionManager, worker: Worker) -> None:
        await one.set_model("2", 0.1)
        await one.start_ab_test("1", "2", 0.5, duration_seconds=0.2)
        assert await shares(two) == {"1": 0.5, "2": 0.5}
        await soon(two, lambda look: look.test is None)
        assert await shares(one) == {"1": 0.9, "2": 0.1}

    together(guarded, admin, story)


def test_only_one_gateway_may_reload(guarded: GuardedRedis, admin: redis.Redis) -> None:
    async def story(one: ModelVersionManager, two: ModelVersionManager, worker: Worker) -> None:
        token = await one._shared.take("reloading", 5)
        assert token is not None
        assert await two._shared.take("reloading", 5) is None
        await two._shared.give_back("reloading", "another")
        assert await two._shared.take("reloading", 5) is None
        await one._shared.give_back("reloading", token)
        assert await two._shared.take("reloading", 5) is not None

    together(guarded, admin, story)


def test_what_the_cache_keeps_and_what_it_makes_of_rubbish(guarded: GuardedRedis, admin: redis.Redis) -> None:
    async def run() -> None:
        connection = connect_async(guarded.url("gateway"))
        cache = PredictionCache(connection, connection, ttl_seconds=100)
        full = Estimate(52.0, 5.0, 30.0, 40.0, 10.0, 0.5)
        bare = Estimate(52.0, 5.0, uncertainty_source="absent")
        await cache.put({f"{PREFIX}a": full, f"{PREFIX}b": bare})
        assert 0 < admin.pttl(f"{PREFIX}a") <= 100_000
        admin.set(f"{PREFIX}c", b"{")
        admin.set(f"{PREFIX}d", b'{"format": 2}')
        admin.set(f"{PREFIX}e", b'{"format": 1, "latitude": 99}')
        admin.set(f"{PREFIX}f", b"[]")
        found = await cache.get([f"{PREFIX}{name}" for name in "abcdefg"])
        assert found == [full, bare, None, None, None, None, None]
        stats = await cache.stats()
        assert (stats["total"], stats["hit_rate"]) == (0, 0.0)
        await connection.aclose()

    asyncio.run(run())
    assert all("scan" in line or "info" in line for line in guarded.denials())


def test_the_cache_is_cleared_and_nothing_else(guarded: GuardedRedis, admin: redis.Redis) -> None:
    async def run() -> None:
        connection = connect_async(guarded.url("admin"))
        cache = PredictionCache(connection, connection, ttl_seconds=100)
        await cache.put({f"{PREFIX}{number}": Estimate(1.0, 2.0) for number in range(2500)})
        admin.hset("uqueue:counters", mapping={"cache_hits_total": 30, "cache_misses_total": 10})
        stats = await cache.stats()
        assert (stats["hits"], stats["misses"], stats["hit_rate"], stats["keys"]) == (30, 10, 0.75, 2500)
        assert await cache.clear() == 2500
        await cache.reset_stats()
        stats = await cache.stats()
        assert (stats["hits"], stats["total"], stats["keys"]) == (0, 0, 0)
        await connection.aclose()

    asyncio.run(run())
    assert admin.exists(MODELS_KEY)


def test_a_cache_that_is_away_costs_one_wait(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        away = connect_async("redis://127.0.0.1:1/0")
        cache = PredictionCache(away, away, ttl_seconds=100)
        for _ in range(5):
            assert await cache.get([f"{PREFIX}a"]) == [None]
            await cache.put({f"{PREFIX}a": Estimate(1.0, 2.0)})
        await away.aclose()

    with caplog.at_level("WARNING", "uqueue.gateway"):
        asyncio.run(run())
    assert [record.getMessage() for record in caplog.records] == ["cache_unusable"]
