"""A steady stream of small requests, each of them awaited: what a demo keeps flowing while a model is replaced."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any, Self

from uqueue.cli.asking import post
from uqueue.client import Client
from uqueue_config.errors import UqueueError

JOBS_PER_SECOND = 40
#: Recordings are larger than rows.
HTTP_REQUESTS_PER_SECOND = 10
ANSWER_SECONDS = 30.0


@dataclass
class Tally:
    """What became of the jobs: answers per model version, failures as texts, the longest wait."""

    answered: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    slowest_seconds: float = 0.0

    @property
    def jobs(self) -> int:
        return self.answered.total() + len(self.failures)


class Traffic:
    """Asks for each item in turn, again and again, from a thread within a `with` block; ends with the last answer.

    `ask(item)` returns the version that answered, or raises UqueueError.
    """

    def __init__(self, ask: Callable[[Any], str], items: Iterable[Any], per_second: float) -> None:
        self.tally = Tally()
        self._ask = ask
        self._items = items
        self._pause_seconds = 1 / per_second
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="traffic", daemon=True)

    @classmethod
    def jobs(cls, client: Client, rows: Any) -> Self:
        """Send one-row jobs."""
        return cls(lambda row: client.submit([row]).result(timeout=ANSWER_SECONDS).model.version, rows, JOBS_PER_SECOND)

    @classmethod
    def requests(cls, url: str, bodies: Iterable[dict[str, Any]]) -> Self:
        """Post bodies to a localization gateway, past its cache."""
        return cls(
            lambda body: str(post(url, {**body, "cache_enabled": False}, timeout=ANSWER_SECONDS)["model_version"]),
            bodies,
            HTTP_REQUESTS_PER_SECOND,
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()

    def _run(self) -> None:
        due = time.monotonic()
        for item in cycle(self._items):
            if self._ending.wait(max(0.0, due - time.monotonic())):
                return
            due = max(due + self._pause_seconds, time.monotonic())
            self._ask_once(item)

    def _ask_once(self, item: Any) -> None:
        started = time.monotonic()
        try:
            self.tally.answered[self._ask(item)] += 1
        except UqueueError as error:
            self.tally.failures.append(error.message)
        self.tally.slowest_seconds = max(self.tally.slowest_seconds, time.monotonic() - started)
