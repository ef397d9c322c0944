"""From feedback to the weak spots that this cycle goes after, and what is suggested for them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from uqueue_config.learning.runs import Evaluation
from uqueue_config.learning.spots import WeakSpot
from uqueue_worker.learning.engine.field_feedback import field_candidates, with_known_scenario
from uqueue_worker.learning.engine.files import read_feedback
from uqueue_worker.learning.engine.samples import check_unseen
from uqueue_worker.learning.engine.seen import Standing, decayed, stubborn
from uqueue_worker.learning.engine.steps import Context, Move, Step, cycle_of, no_parts
from uqueue_worker.learning.errors import DatasetNotFound


def _finish(context: Context) -> Move:
    spots = _chosen(context)
    if not spots:
        changes = {"model_after": context.run.model, "promoted": False, "promotion_reason": "there were no weak spots"}
        return Move("completed", cycle=changes, stop="no_weak_spots")
    suggestions = tuple(context.workshop.suggest(spots, cycle_of(context.run)))
    return Move(
        "crafting",
        cycle={
            "spot_ids": tuple(spot.weakness_id for spot in spots),
            "suggestion_ids": tuple(one.suggestion_id for one in suggestions),
        },
        spots=tuple(spots),
        suggestions=suggestions,
    )


def _chosen(context: Context) -> list[WeakSpot]:
    config = context.run.config
    evaluation = _evaluation(context)
    feedback = read_feedback(evaluation.uri, evaluation.sha256)
    listed = (*feedback.uncertain_samples, *feedback.misclassified_samples)
    _check(context, (sample.raw_sample_id for sample in listed))
    strategy = context.workshop.strategy(config)
    found = strategy.identify_weaknesses(feedback)
    found = [*found, *field_candidates(context, strategy, found)]
    ranked = decayed(found, _without_success(context, Standing.of(feedback)), config.seen_spot_decay)
    kept = [spot for spot in ranked if spot.priority >= config.min_priority][: config.max_weak_spots]
    return [with_known_scenario(context, spot) for spot in kept]


def _without_success(context: Context, now: Standing) -> Sequence[Sequence[WeakSpot]]:
    """Return, by earlier cycle, the spots that it made samples for and that are no better now."""
    found = []
    for cycle in context.store.cycles(context.run.run_id):
        evaluation = cycle.evaluation_before
        if cycle.cycle >= context.run.cycle or cycle.state != "completed" or evaluation is None:
            continue
        aimed = {allotment.weakness_id for allotment in cycle.plan}
        spots = [spot for _, spot in context.store.spots(context.run.run_id, cycle.cycle) if spot.weakness_id in aimed]
        before = Standing.of(read_feedback(evaluation.uri, evaluation.sha256))
        found.append(stubborn(spots, before, now))
    return found


def _evaluation(context: Context) -> Evaluation:
    evaluation = context.cycle.evaluation_before
    if evaluation is None:
        raise DatasetNotFound(dataset=f"the feedback of run {context.run.run_id}, cycle {context.run.cycle}")
    return evaluation


def _check(context: Context, ids: Iterable[str]) -> None:
    test = context.run.dataset("test")
    if test is not None:
        check_unseen(test, ids, "the strategy")


PRIORITISING = Step(no_parts, _finish)
