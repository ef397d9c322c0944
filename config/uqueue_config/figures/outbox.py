"""What one process has counted and Redis does not have yet."""

from __future__ import annotations

import functools
import importlib.resources
import math
import os
import socket
import threading
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from uqueue_config.figures.definitions import (
    COUNTERS_KEY,
    FIGURES,
    GATEWAYS_KEY,
    RECENT_KEY,
    SERIES_TTL_SECONDS,
    field,
    token_key,
)

#: Localizations that are kept, in Redis and while it is away.
RECENT_MAX = 1000
#: Beyond so many different sums, those that come new while Redis is away are not counted.
MOST_SUMS = 20_000


@functools.cache
def script() -> str:
    """Return the script that takes a parcel in."""
    return (importlib.resources.files(__package__) / "add.lua").read_text()


@dataclass(frozen=True)
class Parcel:
    """One call of the script. Sending it again does no harm."""

    keys: tuple[str, ...]
    args: tuple[str | bytes | int, ...]


class Outbox:
    """Sums by key and field, and localizations. Safe to use from several threads; nothing here waits.

    `name` tells this outbox from all others, those included of processes that had this one's number before.
    """

    def __init__(self) -> None:
        self.name = f"{socket.gethostname()}/{os.urandom(6).hex()}:{os.getpid()}"
        self._lock = threading.Lock()
        self._sums: dict[tuple[str, str], float] = {}
        self._records: deque[bytes] = deque(maxlen=RECENT_MAX)
        self._token = 0
        self._unconfirmed: tuple[dict[tuple[str, str], float], tuple[bytes, ...]] | None = None

    def add(self, name: str, *labels: str, amount: float = 1, key: str = COUNTERS_KEY) -> None:
        """Add to a counter, or with `key` to a sum elsewhere. ValueError for what is no finite number."""
        with self._lock:
            self._add((key, field(name, *labels)), amount)

    def observe(self, name: str, *labels: str, value: float, times: int = 1) -> None:
        """Count `value` in a histogram, as if it had been seen so many times."""
        bucket = FIGURES[name].bucket(value)
        with self._lock:
            self._add((COUNTERS_KEY, field(name, *labels, bucket)), times)
            self._add((COUNTERS_KEY, field(name, *labels, "sum")), value * times)

    def observe_all(self, name: str, *labels: str, values: Iterable[tuple[float, int]]) -> None:
        """The same for many values, each with how often it was seen."""
        figure, total = FIGURES[name], 0.0
        counts = [0] * len(figure.edges)
        for value, times in values:
            counts[bisect_left(figure.bounds, value)] += times
            total += value * times
        with self._lock:
            for edge, count in zip(figure.edges, counts, strict=True):
                if count:
                    self._add((COUNTERS_KEY, field(name, *labels, edge)), count)
            self._add((COUNTERS_KEY, field(name, *labels, "sum")), total)

    def keep(self, record: bytes) -> None:
        """Take in a localization; the newest RECENT_MAX are kept."""
        with self._lock:
            self._records.append(record)

    @property
    def is_empty(self) -> bool:
        return not (self._sums or self._records or self._unconfirmed)

    def parcel(self, active: int | None = None) -> Parcel:
        """Return what is to be sent next: what was not confirmed, as it was, else all that came together since.

        `active` is how many requests a gateway works on, to be told with it.
        """
        with self._lock:
            if self._unconfirmed is None:
                self._unconfirmed = self._sums, tuple(self._records)
                self._sums, self._token = {}, self._token + 1
                self._records.clear()
            sums, records = self._unconfirmed
        hashes: dict[str, list[str]] = {}
        for (key, name), amount in sums.items():
            hashes.setdefault(key, []).extend((name, repr(amount)))
        told = ("", 0) if active is None else (self.name, active)
        args: list[str | bytes | int] = [self._token, RECENT_MAX, *told, len(records), *records]
        for key, pairs in hashes.items():
            args += [0 if key == COUNTERS_KEY else SERIES_TTL_SECONDS, len(pairs) // 2, *pairs]
        return Parcel((token_key(self.name), RECENT_KEY, GATEWAYS_KEY, *hashes), tuple(args))

    def confirm(self, parcel: Parcel) -> None:
        """Redis has this parcel."""
        with self._lock:
            if parcel.args[0] == self._token:
                self._unconfirmed = None

    def _add(self, place: tuple[str, str], amount: float) -> None:
        if not math.isfinite(amount):  # Redis would refuse the whole parcel, for ever
            raise ValueError(f"{place[1]!r} cannot grow by {amount}")
        if place in self._sums or len(self._sums) < MOST_SUMS:
            self._sums[place] = self._sums.get(place, 0) + amount
