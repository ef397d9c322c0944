"""A clock that only moves when somebody sleeps by it or moves it."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from uqueue_worker.learning.models.rest.evaluations import Timing


@dataclass
class FakeTime:
    """`slept` holds every sleep, in seconds."""

    now: float = 1000.0
    slept: list[float] = field(default_factory=list)

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    @property
    def timing(self) -> Timing:
        return Timing(clock=self.clock, sleep=self.sleep, rng=random.Random(7))
