"""Evaluating the candidate on pool and test set, and putting it into service unless the guard refuses it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from uqueue_config.learning.runs import DatasetEntry
from uqueue_worker.learning.engine.evaluations import POOL, TEST, evaluation_part, evaluation_result
from uqueue_worker.learning.engine.parts import Part
from uqueue_worker.learning.engine.steps import Context, Move, Step, skipped
from uqueue_worker.learning.engine.stopping import gained, refusal


def _parts(context: Context) -> Sequence[Part]:
    candidate = context.cycle.candidate
    entries = [context.run.dataset("pool"), context.run.dataset("test")]
    if candidate is None:
        return ()
    return [evaluation_part(context, candidate, entry) for entry in entries if isinstance(entry, DatasetEntry)]


def _finish(context: Context) -> Move:
    run, before, candidate = context.run, context.cycle.evaluation_before, context.cycle.candidate
    after, test = evaluation_result(context, POOL), evaluation_result(context, TEST)
    if after is None or test is None or before is None or candidate is None:
        return skipped(context)
    reason = refusal(before, after, run.config)
    value = after.metrics[run.config.target_metric]
    counts: dict[str, Any] = {"cycles_without_gain": run.cycles_without_gain + 1}
    cycle: dict[str, Any] = {
        "evaluation_after": after,
        "test_after": test,
        "promoted": reason is None,
        "model_after": run.model,
    }
    cycle["promotion_reason"] = reason or "the guard has nothing against it"
    if reason is not None:
        return Move("completed", cycle=cycle, run=counts)
    context.workshop.trainer.promote(candidate)
    if gained(run.best_value, value, run.config.min_delta):
        counts = {"cycles_without_gain": 0, "best_value": value}
    return Move(
        "completed",
        cycle={**cycle, "model_after": candidate},
        run={**counts, "model": candidate, "feedback": after, "test": test},
    )


RE_EVALUATING = Step(_parts, _finish)
