"""How a repository is called: timed, behind a breaker, and with copies of what was read where that is wanted."""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol, TypeVar

from uqueue_worker.learning.errors import CircuitOpen, RepositoryUnavailable
from uqueue_worker.learning.observability.metrics import metrics, timed_repository
from uqueue_worker.learning.repository.backend import Backend

Result = TypeVar("Result")
_LOG = logging.getLogger(__name__)


class Breaker(Protocol):
    """What keeps calls from a database that failed too often (`learning.breaker.CircuitBreaker`)."""

    def call(self) -> AbstractContextManager[None]:
        """Wrap one call. Raises CircuitOpen instead where it is not to be made."""


class Calls(ABC):
    """Reads and writes of a repository, each in a transaction of its own.

    breaker  asked before each call; none unless given
    copies   while the database does not answer, what was read before is given again, with a warning in the log: the
             latest answers to the same question, of so many scenarios in all. 0 raises instead. Writes are never
             pretended, and what was not there is asked for again.
    """

    def __init__(self, breaker: Breaker | None = None, copies: int = 0) -> None:
        self._breaker = breaker
        self._copies = Copies(copies)

    @abstractmethod
    def _reading(self, work: Callable[[Backend], Result]) -> Result:
        """Return what `work` returns, which changes nothing."""

    @abstractmethod
    def _writing(self, work: Callable[[Backend], Result]) -> Result:
        """Return what `work` returns and keep all that it put, or nothing if it raises."""

    def _read(self, op: str, work: Callable[[Backend], Result], asked: Hashable = None) -> Result:
        """Return what `work` returns; `asked` names the question where the answer may be a copy."""
        try:
            with self._guarded(op):
                answer = self._reading(work)
        except (RepositoryUnavailable, CircuitOpen) as error:
            copied: tuple[Result] | None = self._copies.get((op, asked))
            if asked is None or copied is None:
                raise
            _LOG.warning("the repository does not answer; %s is answered from a copy: %s", op, error)
            return copied[0]
        if asked is not None and answer is not None:
            self._copies.keep((op, asked), answer)
        return answer

    def _write(self, op: str, work: Callable[[Backend], Result]) -> Result:
        with self._guarded(op):
            return self._writing(work)

    @contextmanager
    def _guarded(self, op: str) -> Iterator[None]:
        with self._breaker.call() if self._breaker else nullcontext(), timed_repository(op):
            yield


class Copies:
    """The latest answers, of so many scenarios in all; threads share it."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, tuple[Any]] = OrderedDict()
        self._scenarios = 0

    def get(self, question: Hashable) -> tuple[Any] | None:
        with self._lock:
            return self._kept.get(question)

    def keep(self, question: Hashable, answer: Any) -> None:
        if _scenarios_in(answer) > self._most:
            return
        with self._lock:
            self._forget(question)
            self._kept[question] = (answer,)
            self._scenarios += _scenarios_in(answer)
            while self._scenarios > self._most:
                self._forget(next(iter(self._kept)))

    def _forget(self, question: Hashable) -> None:
        if question in self._kept:
            self._scenarios -= _scenarios_in(self._kept.pop(question)[0])


def _scenarios_in(answer: Any) -> int:
    return max(len(answer), 1) if isinstance(answer, list) else 1


@contextmanager
def counted(method: str) -> Iterator[list[str]]:
    """Count a try to make a scenario: `stored` if its id was put into the list, `failed` if the block raises."""
    made: list[str] = []
    try:
        yield made
    except Exception:
        metrics().scenarios_created.labels(method, "failed").inc()
        raise
    if made:
        metrics().scenarios_created.labels(method, "stored").inc()
