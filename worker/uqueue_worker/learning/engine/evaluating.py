"""Evaluating the model in service on the pool; its last feedback serves where it is fresh enough."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from uqueue_config.learning.runs import DatasetEntry, Evaluation
from uqueue_worker.learning.engine.evaluations import POOL, TEST, evaluation_part, evaluation_result
from uqueue_worker.learning.engine.field_feedback import field_parts, field_results
from uqueue_worker.learning.engine.parts import Part
from uqueue_worker.learning.engine.steps import Context, Move, Step, skipped

_MOST_CYCLES_OLD = 1


def _parts(context: Context) -> Sequence[Part]:
    run = context.run
    if run.model is None:
        return ()
    entries = () if _fresh(context) else (run.dataset("pool"), None if run.test else run.dataset("test"))
    parts = [evaluation_part(context, run.model, entry) for entry in entries if isinstance(entry, DatasetEntry)]
    return [*parts, *field_parts(context)]


def _finish(context: Context) -> Move:
    run = context.run
    fresh = _fresh(context)
    evaluated = run.feedback if fresh else evaluation_result(context, POOL)
    test = run.test or evaluation_result(context, TEST)
    if evaluated is None or test is None:
        return skipped(context)
    field, failures = field_results(context)
    cycle: dict[str, Any] = {"evaluation_before": evaluated, "test_before": test, "feedback_reused": fresh}
    cycle |= {"field_evaluations": field, "failures": (*context.cycle.failures, *failures)}
    best = run.best_value if run.best_value is not None else evaluated.metrics[run.config.target_metric]
    return Move("prioritising", cycle=cycle, run={"feedback": evaluated, "test": test, "best_value": best})


def _fresh(context: Context) -> bool:
    """Tell whether the last feedback is about the model in service and at most one cycle old."""
    last: Evaluation | None = context.run.feedback
    if last is None or last.model != context.run.model:
        return False
    return context.run.cycle - last.cycle <= _MOST_CYCLES_OLD


EVALUATING = Step(_parts, _finish)
