"""A database whose calls are measured, and which is left alone for a while when it did not answer too often."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from uqueue_worker.learning.breaker import CircuitBreaker
from uqueue_worker.learning.errors import CircuitOpen, RepositoryUnavailable
from uqueue_worker.learning.observability.metrics import metrics
from uqueue_worker.learning.repository.connection import Connection, Database

#: What the breaker, and the alert about it, are named after.
TARGET = "repository"
Result = TypeVar("Result")


class BreakingDatabase(Database):
    """A `Database`, with a breaker around `read` and `write`, which raise RepositoryUnavailable while it is open."""

    def __init__(self, *args: Any, breaker: CircuitBreaker | None = None, **options: Any) -> None:
        super().__init__(*args, **options)
        self._breaker = breaker or CircuitBreaker(TARGET)

    def read(self, work: Callable[[Connection], Result]) -> Result:
        with self._asked("read"):
            return super().read(work)

    def write(self, work: Callable[[Connection], Result]) -> Result:
        with self._asked("write"):
            return super().write(work)

    @contextmanager
    def _asked(self, op: str) -> Iterator[None]:
        began, outcome = time.monotonic(), "failed"
        try:
            with self._breaker.call():
                yield
            outcome = "ok"
        except CircuitOpen as error:
            raise RepositoryUnavailable(reason=error.message.rstrip(".")) from error
        finally:
            metrics().repository_seconds.labels(op, outcome).observe(time.monotonic() - began)
