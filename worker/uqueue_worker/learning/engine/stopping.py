"""When a run is over, and which model goes into service: pure functions of numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping

from uqueue_config.learning.runs import Evaluation, RunConfig, RunRecord, StopReason

MOST_SKIPPED = 3


def stop_reason(run: RunRecord, cycles_done: int, value: float | None) -> StopReason | None:
    """Return why a run ends after a cycle, or None if it goes on. `value` is the target metric of the model in
    service, on the pool."""
    config = run.config
    if run.skipped_in_a_row >= MOST_SKIPPED:
        return "repeated_failures"
    if config.target_value is not None and value is not None and value >= config.target_value:
        return "target_reached"
    if run.cycles_without_gain >= config.patience:
        return "converged"
    if budget_left(run) == 0:
        return "budget_spent"
    return "cycles_spent" if cycles_done >= config.max_cycles else None


def budget_left(run: RunRecord) -> int:
    """Return how many samples the next cycle may make."""
    config = run.config
    if config.sample_budget_total is None:
        return config.sample_budget_per_cycle
    return max(0, min(config.sample_budget_per_cycle, config.sample_budget_total - run.samples_spent))


def gained(best: float | None, value: float, min_delta: float) -> bool:
    """Tell whether a value is a gain over the best one so far."""
    return best is None or value >= best + min_delta or math.isclose(value, best + min_delta)


def refusal(before: Evaluation, after: Evaluation, config: RunConfig) -> str | None:
    """Return why a candidate is not promoted, in words, or None if nothing speaks against it."""
    metric = config.target_metric
    lost = before.metrics[metric] - after.metrics[metric]
    if lost > config.regression_guard:
        return f"{metric} fell by {lost:.4f}, more than {config.regression_guard}"
    for name in config.critical_classes:
        fell = _recall(before.recalls, name) - _recall(after.recalls, name)
        if fell > config.critical_recall_loss:
            return f"recall of the critical class {name} fell by {fell:.4f}, more than {config.critical_recall_loss}"
    return None


def _recall(recalls: Mapping[str, float | None], name: str) -> float:
    return recalls.get(name) or 0.0
