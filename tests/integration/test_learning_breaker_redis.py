"""Breakers of several processes that tell each other through a real Redis."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from builders.fake_time import FakeTime
from uqueue_worker.learning.breaker import CircuitBreaker, RedisOpenings
from uqueue_worker.learning.errors import CircuitOpen, EndpointUnavailable


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


def test_one_that_opens_opens_the_others(client: redis.Redis) -> None:
    first_time, second_time = FakeTime(), FakeTime()
    first = CircuitBreaker("endpoint:shared", clock=first_time.clock, shared=RedisOpenings(client))
    second = CircuitBreaker("endpoint:shared", clock=second_time.clock, shared=RedisOpenings(client))
    other = CircuitBreaker("endpoint:other", clock=second_time.clock, shared=RedisOpenings(client))
    for _ in range(5):
        with second.call():
            pass
        with pytest.raises(EndpointUnavailable), first.call():
            raise EndpointUnavailable(url="x", reason="y")
    with pytest.raises(CircuitOpen) as raised, second.call():
        raise AssertionError("the call went through")
    assert 25 < raised.value.retry_after_seconds <= 30
    with other.call():
        pass
    assert 0 < client.pttl("uqueue:learning:breaker:endpoint:shared") <= 30_000
    client.delete("uqueue:learning:breaker:endpoint:shared")
    second_time.now += 31
    for _ in range(2):
        with second.call():
            pass
    assert (second.state, first.state) == ("closed", "open")


def test_a_redis_that_is_gone_changes_nothing(redis_url: str) -> None:
    with redis.Redis(port=1, socket_connect_timeout=1) as gone:
        breaker = CircuitBreaker("endpoint:gone", shared=RedisOpenings(gone))
        for _ in range(5):
            with pytest.raises(EndpointUnavailable), breaker.call():
                raise EndpointUnavailable(url="x", reason="y")
        assert breaker.state == "open"
