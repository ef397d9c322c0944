"""Jobs that flow while something happens to the service."""

from __future__ import annotations

import threading
import time
from collections import Counter
from types import TracebackType

import numpy as np

import uqueue

ROW = np.linspace(-1.0, 1.0, 8).reshape(1, 8)
#: Every job has this seed, so that each version has one answer only.
SEED = 5
BATCH = 10
ANSWER_SECONDS = 60.0


class Traffic:
    """Submits `ROW` again and again from a thread within a `with` block, and keeps every answer."""

    def __init__(self, client: uqueue.Client, *, pause_seconds: float = 0.0) -> None:
        self._client = client
        self._pause_seconds = pause_seconds
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="traffic")
        self.answers: list[uqueue.IntervalPrediction] = []
        #: When each answer came (seconds of the monotonic clock), and after how many seconds.
        self.waits: list[tuple[float, float]] = []
        self.errors: list[Exception] = []

    def __enter__(self) -> Traffic:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(self._pause_seconds):
            began = time.monotonic()
            try:
                jobs = [self._client.submit(ROW, seed=SEED) for _ in range(BATCH)]
                for job in jobs:
                    self.answers.append(job.result(timeout=ANSWER_SECONDS))
                    now = time.monotonic()
                    self.waits.append((now, now - began))
            except Exception as error:
                self.errors.append(error)

    def answered_by(self, version: str | None) -> int:
        """Return how many answers name this version."""
        return self.versions()[version or ""]

    def versions(self) -> Counter[str]:
        return Counter(answer.model.version for answer in list(self.answers))

    def slowest_since(self, moment: float) -> float:
        """Return the longest wait, in seconds, for an answer that came after a moment of the monotonic clock."""
        return max(seconds for came, seconds in list(self.waits) if came > moment)
