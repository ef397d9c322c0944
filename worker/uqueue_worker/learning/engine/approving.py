"""Approval: when a person has decided on every suggestion of a cycle, what was rejected is dropped."""

from __future__ import annotations

from dataclasses import replace

from uqueue_config.learning.runs import CycleRecord, DatasetEntry
from uqueue_worker.learning.engine.behalf import is_draft, promote
from uqueue_worker.learning.engine.samples import read_registered, register
from uqueue_worker.learning.engine.steps import Context, Move, Step, no_parts
from uqueue_worker.learning.engine.store import ScenarioUse
from uqueue_worker.learning.errors import DatasetNotFound


def _finish(context: Context) -> Move:
    entry = context.cycle.dataset
    if entry is None:
        raise DatasetNotFound(dataset=f"the data set of run {context.run.run_id}, cycle {context.run.cycle}")
    rejected = _rejected_spots(context)
    _settle_drafts(context, rejected)
    kept = _kept(context, entry, rejected)
    if kept is None:
        told = {
            "promoted": False,
            "promotion_reason": "every suggestion was rejected",
            "model_after": context.run.model,
        }
        return Move("completed", cycle=told, run={"cycles_without_gain": context.run.cycles_without_gain + 1})
    changes = {"datasets": (*context.run.datasets, kept)}
    uses = _uses(context, entry, kept, rejected) if kept is not entry else ()
    return Move("training", cycle={"dataset": kept}, run=changes, datasets=(kept,), uses=uses)


def _rejected_spots(context: Context) -> frozenset[str]:
    """Return the spots of rejected suggestions; the approved ones are applied."""
    rejected: set[str] = set()
    for _, suggestion in context.store.suggestions(context.run.run_id, context.run.cycle):
        if suggestion.state == "rejected":
            rejected.update(suggestion.originating_weak_spot_ids)
        elif not suggestion.needs_mapping:
            context.store.move_suggestion(suggestion.suggestion_id, "approved", "applied")
    return frozenset(rejected)


def _settle_drafts(context: Context, rejected: frozenset[str]) -> None:
    """Offer the cycle's drafts to others, or archive those that rejected spots alone need."""
    cycle: CycleRecord = context.cycle
    repository = context.workshop.repository
    needed = {one.scenario.id for one in cycle.plan if one.weakness_id not in rejected}
    for scenario_id in dict.fromkeys(one.scenario.id for one in cycle.plan):
        if not is_draft(repository, scenario_id):
            continue
        if scenario_id in needed:
            promote(repository, scenario_id)
        else:
            repository.archive(scenario_id)


def _kept(context: Context, entry: DatasetEntry, rejected: frozenset[str]) -> DatasetEntry | None:
    """Return the data set without the samples of rejected spots; None if none is left."""
    if not rejected:
        return entry
    samples = [
        sample
        for sample in read_registered(entry.ref)
        if (sample.get("sample_metadata") or {}).get("originating_weak_spot_id") not in rejected
    ]
    if not samples:
        return None
    name = f"{entry.name}_approved"
    path = context.workshop.folder(context.run.run_id, "data") / f"{name}.avro"
    return register(path, samples, name=name, role="training", requested=entry.requested, cycle=context.run.cycle)


def _uses(
    context: Context, entry: DatasetEntry, kept: DatasetEntry, rejected: frozenset[str]
) -> tuple[ScenarioUse, ...]:
    return tuple(
        replace(use, dataset=kept.name)
        for use in context.store.uses(context.run.run_id)
        if use.dataset == entry.name and use.weakness_id not in rejected
    )


APPROVING = Step(no_parts, _finish)
