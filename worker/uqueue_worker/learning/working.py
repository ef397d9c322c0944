"""What the tasks of a learning worker do, without Celery: short steps that never wait for each other.

Every message may come twice, late or never. What a step or a part has done is in the store, which a second delivery
finds; what was lost, `tick` sends again.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog

from uqueue_config.errors import ServiceUnreachable, StoreFull
from uqueue_config.learning.names import TICK_KEY, LearningTask, begun_key
from uqueue_config.learning.runs import CycleState
from uqueue_worker.learning.engine import Engine, NotYet, Part
from uqueue_worker.learning.engine.attempts import MOST_CRASHES
from uqueue_worker.learning.engine.parts import PartResult
from uqueue_worker.learning.engine.store import DeadLetter
from uqueue_worker.learning.engine.work import failure_of
from uqueue_worker.learning.errors import ActiveLearningError, RepositoryUnavailable, RunConflict, RunNotFound
from uqueue_worker.learning.observability.context import log_context
from uqueue_worker.learning.observability.metrics import metrics
from uqueue_worker.learning.post import Post, QueueDispatcher, part_name

#: So often a step or part is tried whose error may pass.
ATTEMPTS = 4
#: How long a part that waits for the service's workers is asked again before it makes room for another task.
ASKING_SECONDS = 4.0
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.5, 4.0
_BUSY_PAUSE_SECONDS = 0.3
_COUNT_SECONDS = 86_400.0
_MOST_RUNS = 100
#: What goes on by itself, or by `tick`, when the servers are back.
_AWAY = (RepositoryUnavailable, ServiceUnreachable, StoreFull)
_log = structlog.get_logger("uqueue.learning.tasks")
Outcome = dict[str, Any]


class Tasks:
    """The tasks of one process. None of them raises what a server that is away raises, or what a part fails with.

    stale_seconds  a run that has not moved for so long is advanced by `tick`
    overtime       what is raised in a task that takes too long
    """

    def __init__(
        self,
        engine: Engine,
        dispatcher: QueueDispatcher,
        post: Post,
        *,
        stale_seconds: float,
        overtime: tuple[type[Exception], ...] = (),
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._engine = engine
        self._dispatcher = dispatcher
        self._post = post
        self._stale = timedelta(seconds=stale_seconds)
        self._overtime = overtime
        self._sleep = sleep

    def advance(self, run_id: str, attempt: int = 1) -> Outcome:
        """Do or dispatch one step of a run."""
        with log_context(run_id=run_id), _left_to_tick("step"):
            try:
                progress = self._engine.advance(run_id, again=True, last_try=attempt >= ATTEMPTS)
            except RunNotFound:
                return {"ok": False, "progress": "unknown"}
            except Exception as error:
                return self._step_failed(run_id, error, attempt)
            if progress in ("busy", "lost"):
                # Whoever is at it may have looked at the parts before the last of them was done.
                self._sleep(_BUSY_PAUSE_SECONDS * random.uniform(0.5, 1.5))  # noqa: S311 - spreads, protects nothing
                self._dispatcher.advance_later(run_id)
            return {"ok": True, "progress": progress}
        return {"ok": False, "progress": "away"}

    def do_part(self, run_id: str, cycle: int, state: CycleState, key: str, token: str, attempt: int = 1) -> Outcome:
        """Do one part of a step, once however often it is delivered; the last of a step advances the run."""
        with log_context(run_id=run_id, cycle=cycle), _left_to_tick("part"):
            found = self._engine.store.get_part(run_id, cycle, state, key)
            if found is None:
                return {"ok": False, "outcome": "unknown"}
            if found.result is not None:
                return self._done_before(found)
            with self._engine.store.lock(f"part/{part_name(found.part)}") as held:
                # Whoever works on it just now ends it, or dies, and then it is sent again.
                return self._do(found.part, token, attempt) if held else {"ok": True, "outcome": "elsewhere"}
        return {"ok": False, "outcome": "away"}

    def tick(self, interval_seconds: float = 0.0) -> Outcome:
        """Advance the runs that have not moved for a while; nothing within the interval after another tick."""
        with _left_to_tick("tick"):
            if interval_seconds and not self._post.note(TICK_KEY, "1", interval_seconds / 2, only_new=True):
                return {"ok": True, "runs": 0}
            stale = self._engine.store.stale_runs(datetime.now(UTC) - self._stale, _MOST_RUNS)
            for run_id in stale:
                self._dispatcher.advance_later(run_id)
            return {"ok": True, "runs": len(stale)}
        return {"ok": False, "runs": 0}

    def _step_failed(self, run_id: str, error: Exception, attempt: int) -> Outcome:
        may_pass = isinstance(error, _AWAY) or getattr(error, "retryable", False)
        told = {"error_code": getattr(error, "code", type(error).__name__), "message": str(error)[:500]}
        if may_pass and attempt < ATTEMPTS:
            _log.warning("step is tried again", attempt=attempt, **told)
            self._pause(attempt)
            self._post.send(LearningTask.ADVANCE, "alm", {"run_id": run_id, "attempt": attempt + 1})
            return {"ok": False, "progress": "again"}
        if may_pass:
            _log.error("step is left to the next tick", **told)
            return {"ok": False, "progress": "away"}
        _log.error("step failed", exc_info=error, **told)
        self._engine.fail(run_id, self._told(error, "step"))
        return {"ok": False, "progress": "failed"}

    def _do(self, part: Part, token: str, attempt: int) -> Outcome:
        with self._counted(part) as begun:
            if begun > MOST_CRASHES:
                reason = f"{part.kind} ended its process {MOST_CRASHES} times"
                return self._give_up(part, ActiveLearningError(reason=reason))
            try:
                found = self._asked_for_a_while(part)
            except Exception as error:
                return self._part_failed(part, token, attempt, error)
            if isinstance(found, NotYet):
                self._dispatcher.send_again(part, token, attempt)
                return {"ok": True, "outcome": "going on"}
            self._ended(part, last=found)
            return {"ok": True, "outcome": "done"}

    def _asked_for_a_while(self, part: Part) -> NotYet | bool:
        until = time.monotonic() + ASKING_SECONDS
        while True:
            found = self._engine.execute(part)
            if not isinstance(found, NotYet) or time.monotonic() + found.seconds > until:
                return found
            self._sleep(found.seconds)

    def _part_failed(self, part: Part, token: str, attempt: int, error: Exception) -> Outcome:
        told = {"error_code": getattr(error, "code", type(error).__name__), "message": str(error)[:500]}
        may_pass = isinstance(error, _AWAY) or getattr(error, "retryable", False)
        if may_pass and attempt < ATTEMPTS:
            _log.warning("part is tried again", part=part.key, attempt=attempt, **told)
            metrics().retries.labels(part.kind, told["error_code"]).inc()
            self._pause(attempt)
            self._dispatcher.send_again(part, token, attempt + 1)
            return {"ok": False, "outcome": "again"}
        if isinstance(error, _AWAY):
            raise error  # nothing is wrong with the part
        _log.error("part failed", part=part.key, exc_info=error, **told)
        return self._give_up(part, self._told(error, part.kind))

    def _give_up(self, part: Part, error: Exception) -> Outcome:
        """Keep the failure as a dead letter and as the part's result, so that its step can be counted complete."""
        failure = failure_of(error).model_dump(exclude={"step"})
        letter = DeadLetter(part.run_id, part.cycle, part.state, part.key, part.kind, failure, datetime.now(UTC))
        self._engine.store.add_dead_letter(letter)
        self._ended(part, last=self._engine.give_up(part, error))
        return {"ok": False, "error": failure}

    def _ended(self, part: Part, *, last: bool) -> None:
        self._dispatcher.ended(part)
        if last:
            self._dispatcher.advance_later(part.run_id)

    def _done_before(self, found: PartResult) -> Outcome:
        """Advance the run if this was the last part: who did it may have died before saying so."""
        part = found.part
        run = self._engine.store.get_run(part.run_id)
        here = (run.cycle, run.state) == (part.cycle, part.state) and not run.ended
        last = here and self._engine.store.parts(part.run_id, part.cycle, part.state).open == 0
        self._ended(part, last=last)
        return {"ok": found.ok, "outcome": "done before"}

    @contextmanager
    def _counted(self, part: Part) -> Iterator[int]:
        """Give how often the part was begun with and did not end; this time it does, unless the process is killed."""
        key = begun_key(part_name(part))
        begun = self._post.count(key, 1, _COUNT_SECONDS)
        try:
            yield begun
        finally:
            self._post.count(key, -1, _COUNT_SECONDS)

    def _told(self, error: Exception, what: str) -> Exception:
        return ActiveLearningError(reason=f"{what} took too long") if isinstance(error, self._overtime) else error

    def _pause(self, attempt: int) -> None:
        most = min(_FIRST_PAUSE_SECONDS * 2 ** (attempt - 1), _LONGEST_PAUSE_SECONDS)
        self._sleep(random.uniform(most / 2, most))  # noqa: S311 - spreads, protects nothing


@contextmanager
def _left_to_tick(what: str) -> Iterator[None]:
    """Log that the servers are away, or the run moved on; the block ends there, and the next tick goes on."""
    try:
        yield
    except (*_AWAY, RunConflict, RunNotFound) as error:
        _log.warning("left to the next tick", what=what, error_code=error.code, message=error.message)
