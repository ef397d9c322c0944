"""Circuit breakers, by a clock that stands still unless a test moves it."""

from __future__ import annotations

import threading
from contextlib import suppress

import pytest

from builders.fake_time import FakeTime
from uqueue_worker.learning.breaker import BreakerRules, CircuitBreaker
from uqueue_worker.learning.errors import CircuitOpen, EndpointContract, EndpointUnavailable
from uqueue_worker.learning.observability.metrics import metrics


@pytest.fixture
def time() -> FakeTime:
    return FakeTime()


@pytest.fixture
def breaker(time: FakeTime) -> CircuitBreaker:
    return CircuitBreaker("endpoint:test", clock=time.clock)


def fail(breaker: CircuitBreaker, times: int = 1) -> None:
    for _ in range(times):
        with pytest.raises(EndpointUnavailable), breaker.call():
            raise EndpointUnavailable(url="x", reason="y")


def succeed(breaker: CircuitBreaker, times: int = 1) -> None:
    for _ in range(times):
        with breaker.call():
            pass


def refused(breaker: CircuitBreaker) -> float:
    """Return after how many seconds it says to come again."""
    with pytest.raises(CircuitOpen) as raised, breaker.call():
        raise AssertionError("the call went through")
    assert raised.value.target == breaker.target
    return float(raised.value.retry_after_seconds)


def shown(target: str) -> float:
    return float(metrics().breaker_state.labels(target)._value.get())


def test_five_failures_in_a_row_open_it(breaker: CircuitBreaker) -> None:
    fail(breaker, 4)
    succeed(breaker)
    fail(breaker, 4)
    assert breaker.state == "closed"
    fail(breaker)
    assert (breaker.state, shown("endpoint:test")) == ("open", 2)
    assert refused(breaker) == 30


def test_half_of_the_last_twenty_calls_open_it(breaker: CircuitBreaker) -> None:
    for _ in range(9):
        succeed(breaker)
        fail(breaker)
    succeed(breaker)
    assert breaker.state == "closed"
    fail(breaker)  # the twentieth call, the tenth failure
    assert breaker.state == "open"


def test_fewer_than_half_of_the_last_twenty_do_not(breaker: CircuitBreaker) -> None:
    for _ in range(40):
        succeed(breaker, 2)
        fail(breaker)
    assert breaker.state == "closed"


def test_only_retryable_errors_count(breaker: CircuitBreaker) -> None:
    for error in (EndpointContract(url="x", reason="y"), ValueError("x"), KeyboardInterrupt()) * 10:
        with suppress(EndpointContract, ValueError, KeyboardInterrupt), breaker.call():
            raise error
    assert breaker.state == "closed"
    fail(breaker, 4)
    with suppress(EndpointContract), breaker.call():
        raise EndpointContract(url="x", reason="y")
    fail(breaker)
    assert breaker.state == "open"  # they do not stand for a success either


def test_two_successes_of_probes_close_it(breaker: CircuitBreaker, time: FakeTime) -> None:
    fail(breaker, 5)
    time.now += 29.9
    assert refused(breaker) == 1
    time.now += 0.1
    succeed(breaker)
    assert (breaker.state, shown("endpoint:test")) == ("half_open", 1)
    succeed(breaker)
    assert (breaker.state, shown("endpoint:test")) == ("closed", 0)
    fail(breaker, 4)
    assert breaker.state == "closed"  # what was before is forgotten


def test_one_probe_at_a_time(breaker: CircuitBreaker, time: FakeTime) -> None:
    fail(breaker, 5)
    time.now += 30
    with breaker.call():
        refused(breaker)
    succeed(breaker)
    assert breaker.state == "closed"


def test_it_stays_open_twice_as_long_after_each_failing_probe(breaker: CircuitBreaker, time: FakeTime) -> None:
    fail(breaker, 5)
    waits = []
    for _ in range(6):
        waits.append(refused(breaker))
        time.now += waits[-1]
        fail(breaker)
    assert waits == [30, 60, 120, 240, 300, 300]
    time.now += 300
    succeed(breaker, 2)
    fail(breaker, 5)
    assert refused(breaker) == 30


def test_a_success_between_two_probes_that_fail_does_not_close_it(breaker: CircuitBreaker, time: FakeTime) -> None:
    fail(breaker, 5)
    time.now += 30
    succeed(breaker)
    fail(breaker)
    assert refused(breaker) == 60
    time.now += 60
    succeed(breaker)
    assert breaker.state == "half_open"


def test_a_probe_that_says_nothing_makes_room_for_another(breaker: CircuitBreaker, time: FakeTime) -> None:
    fail(breaker, 5)
    time.now += 30
    with pytest.raises(EndpointContract), breaker.call():
        raise EndpointContract(url="x", reason="y")
    assert breaker.state == "half_open"
    succeed(breaker, 2)
    assert breaker.state == "closed"


def test_calls_that_began_before_it_opened_say_nothing(breaker: CircuitBreaker, time: FakeTime) -> None:
    with breaker.call():
        fail(breaker, 5)
    assert breaker.state == "open"
    assert refused(breaker) == 30
    time.now += 30
    succeed(breaker)
    assert breaker.state == "half_open"  # the success of the early call does not count


def test_failures_that_no_call_reported(breaker: CircuitBreaker) -> None:
    for _ in range(5):
        breaker.count_failure()
    assert breaker.state == "open"


def test_other_rules(time: FakeTime) -> None:
    breaker = CircuitBreaker("repository", rules=BreakerRules(failures_in_a_row=2, open_seconds=5), clock=time.clock)
    fail(breaker, 2)
    assert refused(breaker) == 5


def test_threads_share_it(time: FakeTime) -> None:
    breaker = CircuitBreaker("endpoint:threads", clock=time.clock)
    fail(breaker, 5)
    time.now += 30
    inside, release, outcomes = threading.Event(), threading.Event(), []

    def probe() -> None:
        with breaker.call():
            inside.set()
            release.wait(10)
        outcomes.append("probe")

    thread = threading.Thread(target=probe)
    thread.start()
    assert inside.wait(10)
    refused(breaker)
    release.set()
    thread.join()
    succeed(breaker)
    assert (outcomes, breaker.state) == (["probe"], "closed")


class Broken:
    def opened(self, target: str, seconds: float) -> None:
        raise ConnectionError

    def remaining(self, target: str) -> float:
        raise ConnectionError


def test_without_the_shared_state_it_goes_on_alone(time: FakeTime) -> None:
    breaker = CircuitBreaker("endpoint:alone", clock=time.clock, shared=Broken())
    fail(breaker, 5)
    assert refused(breaker) == 30
