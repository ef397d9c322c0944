"""Waiting less often after failures, and for no longer than one wants to."""

from __future__ import annotations

import threading

import pytest

from uqueue_worker.artifacts import patience
from uqueue_worker.artifacts.patience import Background, Backoff


class Clock:
    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(patience, "time", clock)
    return clock


def test_pauses_double_up_to_half_a_minute(clock: Clock) -> None:
    backoff, pauses = Backoff(), []
    assert not backoff.waiting
    for _ in range(40):
        backoff.failed()
        began = clock.now
        while backoff.waiting:
            clock.now += 0.5
        pauses.append(clock.now - began)
    assert pauses[:7] == [1, 2, 4, 8, 16, 30, 30]
    assert pauses[-1] == 30


def test_success_begins_anew(clock: Clock) -> None:
    backoff = Backoff()
    for _ in range(5):
        backoff.failed()
    backoff.succeeded()
    assert not backoff.waiting
    backoff.failed()
    clock.now += 1.0
    assert not backoff.waiting


def test_a_call_that_runs_is_joined_and_not_repeated() -> None:
    background, go, calls = Background("test"), threading.Event(), []

    def slow() -> None:
        calls.append(1)
        go.wait(10)

    assert not background.run("key", slow, 0.01)
    assert not background.run("key", slow, 0.01)
    assert background.run("other key", lambda: None, 10)
    assert len(calls) == 1
    go.set()
    assert background.run("key", lambda: None, 10)
    assert background.run("key", slow, 10)
    assert len(calls) == 2
