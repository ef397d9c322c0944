"""Parts: the pieces of work of a step that may run elsewhere, and who gets them done.

A step has no parts (its work is short and done by `advance`), or some, which the store counts. Whoever finishes the
last one calls `advance`. Parts are idempotent by key: a part that has a result is never executed again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from uqueue_config.learning.runs import CycleState

PartKind = Literal["draw", "start_model", "evaluate", "craft", "generate", "train"]
#: By which queue a part is done when it is sent as a task.
QUEUES: dict[PartKind, str] = {
    "draw": "simulate",
    "start_model": "train",
    "evaluate": "alm",
    "craft": "simulate",
    "generate": "simulate",
    "train": "train",
}


@dataclass(frozen=True)
class Part:
    """One piece of work of a step of a cycle; `payload` is small and JSON-able: ids, references, seeds."""

    run_id: str
    cycle: int
    state: CycleState
    key: str
    kind: PartKind
    payload: dict[str, Any] = field(default_factory=dict)

    @property
    def queue(self) -> str:
        return QUEUES[self.kind]


@dataclass(frozen=True)
class PartResult:
    """What became of a part: `{"ok": true, …}` or `{"ok": false, "error": {code, message, retryable}}`; None while it
    is open."""

    part: Part
    result: dict[str, Any] | None

    @property
    def ok(self) -> bool:
        return self.result is not None and bool(self.result.get("ok"))


@dataclass(frozen=True)
class NotYet:
    """What a part returns that waits for jobs of the queue: execute it again after so many seconds."""

    seconds: float = 0.5


class Dispatcher(Protocol):
    """Gets parts done, now or elsewhere; a part may be given to it again, which does no harm."""

    def dispatch(self, parts: Sequence[Part]) -> None:
        """Take on these parts; return without waiting for other processes."""
        ...

    def advance_later(self, run_id: str, seconds: float = 0.0) -> None:
        """Have `advance(run_id)` called once more."""
        ...
