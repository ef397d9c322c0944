"""How much one caller may ask for: a token bucket for each."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable

#: Callers that are remembered; the one not seen for longest is forgotten first.
MOST_CALLERS = 10_000


class RateLimiter:
    """Grants `burst` requests at once and `rate` per second in the long run, to each caller by itself."""

    def __init__(self, rate: float, burst: int, clock: Callable[[], float]) -> None:
        self._rate, self._burst, self._clock = rate, float(burst), clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, caller: str) -> int:
        """Return 0 where the request is granted, the seconds to wait (1 or more) where it is not."""
        now = self._clock()
        tokens, since = self._buckets.pop(caller, (self._burst, now))
        tokens = min(self._burst, tokens + (now - since) * self._rate)
        granted = tokens >= 1
        self._buckets[caller] = (tokens - 1 if granted else tokens, now)
        if len(self._buckets) > MOST_CALLERS:
            self._buckets.popitem(last=False)
        return 0 if granted else max(1, math.ceil((1 - tokens) / self._rate))
