"""The states of a cycle and the moves between them."""

from __future__ import annotations

from uqueue_config.learning.runs import CYCLE_ENDED, CycleState

#: What may follow each state. A step that cannot be done ends in `failed` or `skipped`; the run then goes on.
MOVES: dict[CycleState, tuple[CycleState, ...]] = {
    "created": ("evaluating",),
    "evaluating": ("prioritising",),
    "prioritising": ("crafting", "completed"),
    "crafting": ("generating",),
    "generating": ("awaiting_approval", "training"),
    "awaiting_approval": ("training", "completed"),
    "training": ("re_evaluating",),
    "re_evaluating": ("completed",),
    "completed": (),
    "failed": (),
    "skipped": (),
}
ORDER: tuple[CycleState, ...] = tuple(MOVES)


def may_follow(before: CycleState, after: CycleState) -> bool:
    """Tell whether a cycle may go from one state to the other."""
    if before in CYCLE_ENDED:
        return False
    return after in MOVES[before] or after in ("failed", "skipped")
