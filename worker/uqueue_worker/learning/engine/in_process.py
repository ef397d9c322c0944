"""Getting parts done in this process: for notebooks, tests and `uqueue learn run --local`."""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable, Sequence

from uqueue_config.learning.runs import RunRecord
from uqueue_worker.learning.engine.machine import Engine
from uqueue_worker.learning.engine.parts import NotYet, Part
from uqueue_worker.learning.errors import ActiveLearningError

ATTEMPTS = 3
_FIRST_PAUSE_SECONDS = 0.5
_BUSY_PAUSE_SECONDS = 0.2


class InProcess:
    """A dispatcher that keeps parts until `run_to_end` does them, one after another."""

    def __init__(self) -> None:
        self._waiting: deque[Part] = deque()

    def dispatch(self, parts: Sequence[Part]) -> None:
        self._waiting.extend(part for part in parts if part not in self._waiting)

    def advance_later(self, run_id: str, seconds: float = 0.0) -> None:
        """Do nothing: the driver advances the run anyway."""

    def take(self) -> Part | None:
        """Return the next part, None if there is none."""
        return self._waiting.popleft() if self._waiting else None


def run_to_end(
    engine: Engine,
    run_id: str,
    *,
    watch: Callable[[RunRecord], None] | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> RunRecord:
    """Drive a run until it has ended or waits for approval, and return it.

    The engine's dispatcher is `InProcess`. Retryable errors are tried three times; other errors of active learning
    fail their part or cycle. Whatever else is raised comes through, and calling this again goes on from there.
    `watch` is called with the run after each transition.
    """
    dispatcher = engine.dispatcher
    if not isinstance(dispatcher, InProcess):
        raise TypeError("run_to_end needs an engine whose dispatcher is InProcess")
    attempt = 1
    while True:
        try:
            progress = engine.advance(run_id, again=True, last_try=attempt >= ATTEMPTS)
        except ActiveLearningError as error:
            if not error.retryable or attempt >= ATTEMPTS:
                raise
            sleep(_pause(attempt))
            attempt += 1
            continue
        attempt = 1
        if progress == "busy":
            sleep(_BUSY_PAUSE_SECONDS)
        while (part := dispatcher.take()) is not None:
            _do(engine, part, sleep)
        if progress in ("moved", "ended", "waiting"):
            run = engine.store.get_run(run_id)
            if watch is not None:
                watch(run)
            if progress != "moved":
                return run


def _do(engine: Engine, part: Part, sleep: Callable[[float], None]) -> None:
    attempt = 1
    while True:
        try:
            found = engine.execute(part)
        except ActiveLearningError as error:
            if not error.retryable or attempt >= ATTEMPTS:
                engine.give_up(part, error)
                return
            sleep(_pause(attempt))
            attempt += 1
        else:
            if not isinstance(found, NotYet):
                return
            sleep(found.seconds)


def _pause(attempt: int) -> float:
    return random.uniform(0, _FIRST_PAUSE_SECONDS * 2 ** (attempt - 1))  # noqa: S311 - spreads, protects nothing
