"""What Prometheus is told of a step that was committed."""

from __future__ import annotations

from collections import Counter

from uqueue_config.learning.runs import CYCLE_ENDED, CycleRecord, CycleState, RunRecord
from uqueue_config.learning.spots import WeaknessType, WeakSpot
from uqueue_worker.learning.engine.stopping import budget_left
from uqueue_worker.learning.observability.metrics import metrics

_KINDS: tuple[WeaknessType, ...] = ("misclassified_region", "high_uncertainty_sample", "low_recall_class")


def count_step(run: RunRecord, cycle: CycleRecord, state: CycleState, spots: tuple[WeakSpot, ...]) -> None:
    """Count that a cycle left a state; `cycle` is as it is now. Once per step: repeated ones are not committed."""
    if state in cycle.seconds:
        metrics().cycle_seconds.labels(state).observe(cycle.seconds[state])
    if state == "prioritising":
        found = Counter(spot.type for spot in spots)
        for kind in _KINDS:
            metrics().weak_spots.labels(kind, run.config.strategy).set(found[kind])
    if state == "generating":
        _count_samples(cycle)
    if cycle.state in CYCLE_ENDED:
        metrics().cycles.labels(cycle.state).inc()
        metrics().budget_remaining.set(_budget(run))
        _show_model(run)


def _count_samples(cycle: CycleRecord) -> None:
    metrics().generation_seconds.observe(cycle.seconds.get("generating", 0.0))
    explored = sum(one.samples for one in cycle.plan if one.group == "exploration")
    share = explored / cycle.samples_requested if cycle.samples_requested else 0.0
    for origin, part in (("exploration", share), ("targeted", 1 - share)):
        metrics().samples.labels(origin, "generated").inc(round(cycle.samples_generated * part))
        metrics().samples.labels(origin, "rejected").inc(round(cycle.samples_rejected * part))


def _budget(run: RunRecord) -> int:
    """Return what the run may still make: of its total, or else of the cycles that are left."""
    config = run.config
    if config.sample_budget_total is not None:
        return max(0, config.sample_budget_total - run.samples_spent)
    return budget_left(run) * max(0, config.max_cycles - run.cycle) if not run.ended else 0


def _show_model(run: RunRecord) -> None:
    """Show the metrics of the model in service."""
    for split, evaluation in (("pool", run.feedback), ("test", run.test)):
        for name, value in (evaluation.metrics if evaluation else {}).items():
            metrics().model_metric.labels(name, split).set(value)
