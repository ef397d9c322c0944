"""Threads that submit all the time, and remember every job that was accepted."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import uqueue
from chaos.requests import Kind, Mix, request
from uqueue_config.connections import connect
from uqueue_config.errors import QueueFull, ServiceUnreachable
from uqueue_config.names import Queue

#: How long the last submission of a thread may take to be decided, once the service is whole again.
LAST_WORDS_SECONDS = 30.0


@dataclass(frozen=True)
class Accepted:
    """One job that the service has taken on."""

    id: str
    number: int
    kind: Kind


class Producers:
    """Submits jobs 0, 1, 2 … of a run until the block ends; a full queue makes it wait.

    A job that may or may not have been accepted is submitted again, under a key that makes it the same job, until the
    service says which: so what is in `accepted` is all there is. Each is also a line of `journal`.
    """

    def __init__(self, client: uqueue.Client, seed: int, mix: Mix, journal: Path, *, threads: int = 4) -> None:
        self._client = client
        self._seed = seed
        self._mix = mix
        self._journal = journal
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._guarded, name=f"producer-{n}", daemon=True) for n in range(threads)
        ]
        self._failures: list[BaseException] = []
        self.accepted: list[Accepted] = []
        self.refused = 0
        self.unreachable = 0

    def __enter__(self) -> Producers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        deadline = time.monotonic() + LAST_WORDS_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                self._failures.append(AssertionError(f"{thread.name} cannot find out whether a job was accepted"))

    def check(self) -> None:
        """Raise what ended a thread, if something did."""
        for failure in self._failures:
            raise failure

    def _guarded(self) -> None:
        try:
            while not self._stop.is_set():
                self._submit(next(self._numbers))
        except BaseException as failure:
            self._failures.append(failure)

    def _submit(self, number: int) -> None:
        made = request(self._seed, number, self._mix)
        key = f"{self._seed} {number}"
        job = self._until_decided(lambda: self._client.submit(made.table, idempotency_key=key))
        if job is not None:
            self._remember(Accepted(job.id, number, made.kind))

    def _until_decided(self, submit: Callable[[], uqueue.Job]) -> uqueue.Job | None:
        """Return the job, None where it certainly was not accepted and the run is over."""
        uncertain = False
        while True:
            try:
                return submit()
            except QueueFull:  # checked after whether the job is known, so it is not
                uncertain = False
                self.refused += 1
                if self._stop.wait(0.02):
                    return None
            except ServiceUnreachable:
                uncertain = True
                self.unreachable += 1
                time.sleep(0.2)
            if self._stop.is_set() and not uncertain:
                return None

    def _remember(self, accepted: Accepted) -> None:
        with self._lock, self._journal.open("a") as journal:
            journal.write(f"{accepted.id} {accepted.number} {accepted.kind}\n")
            self.accepted.append(accepted)


class Flood:
    """Small jobs in bulk, whenever the queue is short: every claim finds a batch."""

    BULK = 128

    def __init__(self, client: uqueue.Client, seed: int, *, shortest: int = 256) -> None:
        self._client = client
        self._seed = seed
        self._shortest = shortest
        self.accepted: list[Accepted] = []

    def keep_up(self, seconds: float) -> None:
        """Keep the queue from becoming short for so long."""
        with connect(self._client.settings.broker) as connection:
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline:
                if cast(int, connection.llen(Queue.PREDICTIONS.value)) < self._shortest:
                    self._submit()
                else:
                    time.sleep(0.01)

    def _submit(self) -> None:
        numbers = range(len(self.accepted), len(self.accepted) + self.BULK)
        jobs = self._client.submit_many([request(self._seed, number, Mix()).table for number in numbers])
        self.accepted += [Accepted(job.id, number, "small") for number, job in zip(numbers, jobs, strict=True)]
