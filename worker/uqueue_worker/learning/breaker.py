"""Circuit breakers: what failed too often is not asked for a while, so that neither side drowns in waiting calls.

    closed ── 5 failures in a row, or half of the last 20 calls ──> open (30 s, doubling up to 5 min)
    open ── its time is over ──> half-open: one probe at a time; 2 successes close it, a failure opens it again

Only errors that say `retryable` count. Others show that somebody answered, and are neither failures nor successes.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from uqueue_worker.learning.errors import CircuitOpen
from uqueue_worker.learning.observability.metrics import metrics

State = Literal["closed", "half_open", "open"]
#: Values of the gauge `alm_breaker_state`.
STATE_NUMBERS: dict[State, int] = {"closed": 0, "half_open": 1, "open": 2}


@dataclass(frozen=True)
class BreakerRules:
    """When a breaker opens, for how long, and what closes it."""

    failures_in_a_row: int = 5
    window: int = 20
    failed_share: float = 0.5
    open_seconds: float = 30.0
    longest_open_seconds: float = 300.0
    successes_to_close: int = 2


class SharedOpenings(Protocol):
    """Where the breakers of several processes tell each other that they opened."""

    def opened(self, target: str, seconds: float) -> None:
        """Tell the others that `target` is not asked for so long."""

    def remaining(self, target: str) -> float:
        """Return how many seconds one of the others keeps `target` open, 0 where none does."""


class CircuitBreaker:
    """The breaker of one target; threads may share it. `target` becomes a label of metrics, so it must not be an id."""

    def __init__(
        self,
        target: str,
        *,
        rules: BreakerRules | None = None,
        clock: Callable[[], float] = time.monotonic,
        shared: SharedOpenings | None = None,
    ) -> None:
        self.target = target
        self._rules = rules or BreakerRules()
        self._clock = clock
        self._shared = shared
        self._lock = threading.Lock()
        self._state: State = "closed"
        self._in_a_row = 0
        self._recent: deque[bool] = deque(maxlen=self._rules.window)
        self._opened_for = 0.0
        self._open_until = 0.0
        self._probing = False
        self._successes = 0
        self._show()

    @property
    def state(self) -> State:
        """What it is now; an open one whose time is over says so until the probe begins."""
        return self._state

    @contextmanager
    def call(self) -> Iterator[None]:
        """Wrap one call of the target. Raises CircuitOpen instead where it is not to be asked now."""
        probe = self._admit()
        try:
            yield
        except BaseException as error:
            self._ended(probe=probe, failed=True if getattr(error, "retryable", False) else None)
            raise
        self._ended(probe=probe, failed=False)

    def count_failure(self) -> None:
        """Count a failure that no call reported, such as calls that were given up when a deadline passed."""
        self._ended(probe=False, failed=True)

    def _admit(self) -> bool:
        """Let a call pass, and return whether it is a probe."""
        elsewhere = self._elsewhere()
        with self._lock:
            now = self._clock()
            if self._state == "closed" and elsewhere > 0:
                self._open(now, elsewhere, self._rules.open_seconds)
            if self._state == "closed":
                return False
            if now < self._open_until or self._probing:
                raise CircuitOpen(target=self.target, retry_after_seconds=self._wait(now))
            self._state, self._probing = "half_open", True
            self._show()
            return True

    def _wait(self, now: float) -> float:
        return round(max(self._open_until - now, 1.0), 1)

    def _ended(self, *, probe: bool, failed: bool | None) -> None:
        opened = 0.0
        with self._lock:
            if probe:
                self._probing = False
            if failed is None or (not probe and self._state != "closed"):
                return  # … or it began before the breaker opened, and says nothing about now
            if failed and (probe or self._too_many()):
                opened = min(max(self._opened_for * 2, self._rules.open_seconds), self._rules.longest_open_seconds)
                self._open(self._clock(), opened, opened)
            elif not failed:
                self._succeeded(probe)
        if opened and self._shared is not None:
            with suppress(Exception):  # the others are told where that works; this process goes on by its own state
                self._shared.opened(self.target, opened)

    def _too_many(self) -> bool:
        self._in_a_row += 1
        self._recent.append(True)
        full = len(self._recent) == self._rules.window
        return self._in_a_row >= self._rules.failures_in_a_row or (
            full and sum(self._recent) >= self._rules.failed_share * self._rules.window
        )

    def _succeeded(self, probe: bool) -> None:
        self._in_a_row = 0
        self._recent.append(False)
        self._successes += probe
        if probe and self._successes >= self._rules.successes_to_close:
            self._state, self._opened_for = "closed", 0.0
            self._recent.clear()
            self._show()

    def _open(self, now: float, seconds: float, opened_for: float) -> None:
        self._state, self._open_until, self._opened_for = "open", now + seconds, opened_for
        self._in_a_row = self._successes = 0
        self._recent.clear()
        self._show()

    def _elsewhere(self) -> float:
        if self._shared is None or self._state != "closed":
            return 0.0
        with suppress(Exception):
            return self._shared.remaining(self.target)
        return 0.0

    def _show(self) -> None:
        metrics().breaker_state.labels(self.target).set(STATE_NUMBERS[self._state])


class RedisOpenings:
    """Openings in Redis, as keys that lapse, through a client of redis-py. Where that fails, each process is alone."""

    def __init__(self, client: Any, prefix: str = "uqueue:learning:breaker:") -> None:
        self._client = client
        self._prefix = prefix

    def opened(self, target: str, seconds: float) -> None:
        self._client.set(self._prefix + target, "open", px=max(1, int(seconds * 1000)))

    def remaining(self, target: str) -> float:
        return max(0.0, int(self._client.pttl(self._prefix + target)) / 1000)
