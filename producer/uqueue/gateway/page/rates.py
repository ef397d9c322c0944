"""Jobs per second and times, from two readings of the counters that all processes share."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from uqueue_config.figures import FIGURES, Distribution, Sums
from uqueue_config.names import JobState, Task

#: Rates are measured over this time, or the shorter one since somebody began to look.
WINDOW_SECONDS = 60.0
#: Workers send what they count every 2 s: over less than this, a rate would say when they did.
LEAST_SECONDS = 5.0
#: A reading older than this says nothing about now.
OLDEST_SECONDS = 600.0
_STEP_SECONDS = 2.0
_SUBMITS = {"/v1/jobs", "/v2/models/{model}/infer", "/v2/models/{model}/versions/{version}/infer"}


@dataclass(frozen=True)
class Times:
    """Counts by bucket, and their sum, in seconds."""

    bounds: tuple[float, ...]
    counts: tuple[float, ...]
    sum: float

    @property
    def count(self) -> float:
        return sum(self.counts)

    @property
    def mean(self) -> float | None:
        return self.sum / self.count if self.count else None

    def at_most(self, share: float) -> float | None:
        """Return the bound of the bucket that a percentile lies in: inf above the last; None without counts."""
        seen = 0.0
        for bound, count in zip((*self.bounds, math.inf), self.counts, strict=True):
            seen += count
            if seen >= share * self.count > 0:
                return bound
        return None

    def since(self, before: Times) -> Times:
        counts = tuple(now - then for now, then in zip(self.counts, before.counts, strict=True))
        return Times(self.bounds, counts, self.sum - before.sum)


@dataclass(frozen=True)
class Figures:
    """What the page takes of the counters.

    failed     jobs that ended with an error
    waited     jobs in the queue; computed: jobs in a worker; submitted: HTTP requests with jobs, and what they waited
               for; located: HTTP requests for localizations
    """

    succeeded: float
    failed: float
    hits: float
    misses: float
    waited: Times
    computed: Times
    submitted: Times
    located: Times

    @classmethod
    def of(cls, sums: Sums) -> Figures:
        ended = {labels[-1]: n for labels, n in sums.values("uqueue_tasks_total").items() if labels[0] == Task.PREDICT}
        return cls(
            succeeded=ended.get(JobState.SUCCEEDED, 0.0),
            failed=ended.get(JobState.FAILED, 0.0),
            hits=sums.value("cache_hits_total"),
            misses=sums.value("cache_misses_total"),
            waited=_times(sums, "uqueue_queue_wait_seconds"),
            computed=_times(sums, "uqueue_task_duration_seconds", lambda labels: labels[0] == Task.PREDICT),
            submitted=_times(sums, "uqueue_request_duration_seconds", lambda labels: labels[0] in _SUBMITS),
            located=_times(sums, "inference_latency_ms", unit=0.001),
        )

    def since(self, before: Figures) -> Figures:
        numbers = (getattr(self, name) - getattr(before, name) for name in ("succeeded", "failed", "hits", "misses"))
        times = (
            getattr(self, name).since(getattr(before, name)) for name in ("waited", "computed", "submitted", "located")
        )
        return Figures(*numbers, *times)

    @property
    def is_possible(self) -> bool:
        """Whether nothing was counted backwards, as it seems after Redis has lost its counters."""
        times = (self.waited, self.computed, self.submitted, self.located)
        return min(self.succeeded, self.failed, self.hits, self.misses, *(min(one.counts) for one in times)) >= 0


@dataclass(frozen=True)
class Change:
    """What was counted in so many seconds."""

    seconds: float
    figures: Figures

    @property
    def jobs_per_second(self) -> float:
        return (self.figures.succeeded + self.figures.failed) / self.seconds

    @property
    def failed_per_second(self) -> float:
        return self.figures.failed / self.seconds


class Window:
    """Readings of the last minute or so."""

    def __init__(self) -> None:
        self._readings: deque[tuple[float, Figures]] = deque()

    def add(self, now: float, figures: Figures) -> Change | None:
        """Take a reading; return what has changed since one about WINDOW_SECONDS ago, None where there is none yet."""
        readings = self._readings
        if readings and not figures.since(readings[-1][1]).is_possible:
            readings.clear()
        while readings and (
            readings[0][0] < now - OLDEST_SECONDS or (len(readings) > 1 and readings[1][0] <= now - WINDOW_SECONDS)
        ):
            readings.popleft()
        change = None
        if readings and now - readings[0][0] >= LEAST_SECONDS:
            change = Change(now - readings[0][0], figures.since(readings[0][1]))
        if not readings or now - readings[-1][0] >= _STEP_SECONDS:
            readings.append((now, figures))
        return change


def _times(
    sums: Sums, name: str, is_wanted: Callable[[tuple[str, ...]], bool] = lambda _: True, unit: float = 1.0
) -> Times:
    bounds = FIGURES[name].bounds
    found = [one for one in sums.distributions(name) if is_wanted(one.labels)]
    found = found or [Distribution((), (0.0,) * (len(bounds) + 1), 0.0)]
    counts = tuple(map(sum, zip(*(one.counts for one in found), strict=True)))
    return Times(tuple(unit * bound for bound in bounds), counts, unit * sum(one.sum for one in found))
