"""How often a step was begun with and ended its process: one that always does is given up."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime

from uqueue_config.learning.runs import Failure, RunRecord
from uqueue_worker.learning.engine.store import DeadLetter, RunStore
from uqueue_worker.learning.engine.work import failure_of
from uqueue_worker.learning.errors import ActiveLearningError, CircuitOpen, RepositoryUnavailable

#: So often in a row a step or a part may end the process that works on it.
MOST_CRASHES = 3
_STEP = "step"


@contextmanager
def counted(store: RunStore, run: RunRecord) -> Iterator[int]:
    """Give how often in a row the run's step was begun with and came to no end, this time included.

    Whatever is raised is an end. Only a process that is killed, or kills itself, leaves without one.
    """
    begun = store.begin_step(run.run_id, run.cycle, run.state)
    try:
        yield begun
    except (Exception, KeyboardInterrupt):
        _end(store, run)
        raise
    _end(store, run)


def given_up(store: RunStore, run: RunRecord, now: datetime) -> Failure:
    """Keep a dead letter about the run's step, and return what its cycle failed with."""
    error = ActiveLearningError(reason=f"the step {run.state} ended its process {MOST_CRASHES} times")
    failure = failure_of(error).model_copy(update={"step": run.state})
    told = failure.model_dump(exclude={"step"})
    store.add_dead_letter(DeadLetter(run.run_id, run.cycle, run.state, _STEP, _STEP, told, now))
    return failure


def _end(store: RunStore, run: RunRecord) -> None:
    with suppress(RepositoryUnavailable, CircuitOpen):  # it counts as one more until the step ends again
        store.end_step(run.run_id, run.cycle, run.state)
