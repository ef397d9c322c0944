"""A steady stream of small jobs, each of them awaited: what the demo keeps flowing while the model is replaced."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any, Self

from uqueue.client import Client
from uqueue_config.errors import UqueueError

JOBS_PER_SECOND = 40
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
    """Sends one-row jobs from a thread within a `with` block; the block ends when the last one is answered."""

    def __init__(self, client: Client, rows: Any) -> None:
        self.tally = Tally()
        self._client = client
        self._rows = rows
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="traffic", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()

    def _run(self) -> None:
        due = time.monotonic()
        for row in cycle(self._rows):
            if self._ending.wait(max(0.0, due - time.monotonic())):
                return
            due = max(due + 1 / JOBS_PER_SECOND, time.monotonic())
            self._ask(row)

    def _ask(self, row: Any) -> None:
        started = time.monotonic()
        try:
            prediction = self._client.submit([row]).result(timeout=ANSWER_SECONDS)
        except UqueueError as error:
            self.tally.failures.append(error.message)
        else:
            self.tally.answered[prediction.model.version] += 1
        self.tally.slowest_seconds = max(self.tally.slowest_seconds, time.monotonic() - started)
