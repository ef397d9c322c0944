"""Doing a part: the function for each kind, and what an error of it becomes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from uqueue_config.learning.runs import Failure
from uqueue_worker.learning.engine.crafting import craft
from uqueue_worker.learning.engine.evaluations import evaluate
from uqueue_worker.learning.engine.generating import generate
from uqueue_worker.learning.engine.parts import NotYet, PartKind
from uqueue_worker.learning.engine.preparing import draw
from uqueue_worker.learning.engine.steps import Assignment
from uqueue_worker.learning.engine.training import train
from uqueue_worker.learning.errors import ActiveLearningError

Work = Callable[[Assignment], dict[str, Any] | NotYet]
WORK: Mapping[PartKind, Work] = {
    "draw": draw,
    "start_model": train,
    "evaluate": evaluate,
    "craft": craft,
    "generate": generate,
    "train": train,
}
CANCELLED = "cancelled"


def do(job: Assignment) -> dict[str, Any] | NotYet:
    """Return what the part gave; a part of a run that is being cancelled, or has ended, is not begun.

    Raises an ActiveLearningError, or whatever went wrong in code that others wrote.
    """
    if job.run.status in ("cancelling", "cancelled"):
        return failed(Failure(code=CANCELLED, message="The run is cancelled."))
    return WORK[job.part.kind](job)


def failed(failure: Failure) -> dict[str, Any]:
    """Return the result of a part that failed for good."""
    return {"ok": False, "error": failure.model_dump(exclude={"step"})}


def failure_of(error: Exception) -> Failure:
    """Return an error as records keep it; of one that is not ours, the type and the first line."""
    if isinstance(error, ActiveLearningError):
        return Failure(code=error.code, message=error.message[:2000], retryable=error.retryable)
    lines = str(error).splitlines() or [""]
    return Failure(code="unexpected", message=f"{type(error).__name__}: {lines[0]}"[:500])
