"""Feedback from the field: labelled samples that are given for a run, which its next cycle has its model evaluated on.

Those that the model gets wrong are weak spots of origin `field`, which compete with the others for the cycle's budget.
Nothing is trained on them, and every later cycle has its model evaluated on them anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from uqueue_config.learning.answers import FieldSamplesTaken
from uqueue_config.learning.runs import DatasetEntry, Evaluation, Failure, RunRecord
from uqueue_config.learning.spots import WeakSpot
from uqueue_worker.learning.engine.evaluations import FIELD, evaluation_key, evaluation_part
from uqueue_worker.learning.engine.field_records import MOST_FIELD_SAMPLES, NO_SCENARIO, field_records, refused
from uqueue_worker.learning.engine.files import content_sha256, read_feedback
from uqueue_worker.learning.engine.parts import Part
from uqueue_worker.learning.engine.samples import Sample, register, sample_ids
from uqueue_worker.learning.engine.steps import Context
from uqueue_worker.learning.engine.store import RunStore
from uqueue_worker.learning.engine.workshop import Workshop
from uqueue_worker.learning.errors import GenerationFailed, RunConflict
from uqueue_worker.learning.field_samples import MOST_FIELD_SPOTS, field_spots
from uqueue_worker.learning.interfaces import PrioritizationStrategyInterface
from uqueue_worker.learning.sensors import sensor_types

#: Each is evaluated by a part of its own.
MOST_FIELD_SETS = 100


def add_field_samples(store: RunStore, workshop: Workshop, run_id: str, samples: Iterable[Any]) -> FieldSamplesTaken:
    """Keep labelled samples for a run; those whose ids it holds already change nothing.

    All are taken, or none. Raises RunNotFound; RunConflict for a run that has ended or in which no cycle would go
    after them; EmptyDataset; DatasetFormat for samples that cannot be kept, or are of the run's test set.
    """
    run = store.get_run(run_id)
    cycle = _counts_from(run)
    records = field_records(samples, run.created_at_utc)
    _check_unseen(run, records)
    held = [entry for entry in store.datasets(run_id) if entry.role == FIELD]
    known = frozenset(identity for entry in held for identity in sample_ids(entry.ref))
    fresh = [record for identity, record in records.items() if identity not in known]
    if fresh:
        _check_room(run, len(known) + len(fresh), len(held) + 1)
        store.add_dataset(run_id, _kept(workshop, run, fresh, cycle))
    moved_on = max(cycle, _counts_from(store.get_run(run_id)))  # since the samples are kept
    return FieldSamplesTaken(run_id=run_id, taken=len(fresh), known=len(records) - len(fresh), cycle=moved_on)


def field_parts(context: Context) -> list[Part]:
    """Return the parts that evaluate the run's model on the field samples that count in its cycle."""
    run = context.run
    if run.model is None:
        return []
    counting = [entry for entry in _sets(context) if entry.cycle is None or entry.cycle <= run.cycle]
    return [evaluation_part(context, run.model, entry) for entry in counting]


def field_results(context: Context) -> tuple[tuple[Evaluation, ...], tuple[Failure, ...]]:
    """Return the evaluations of the step's parts on field samples by data set, and what such parts failed with."""
    keys = {evaluation_key(entry): entry for entry in _sets(context)}
    done = [context.result(key) for key in keys]
    failed = [one.result for key, one in context.results.items() if key in keys and not one.ok and one.result]
    return (
        tuple(Evaluation.model_validate(one["evaluation"]) for one in done if one is not None),
        tuple(Failure(**one["error"], step=context.run.state) for one in failed),
    )


def field_candidates(
    context: Context, strategy: PrioritizationStrategyInterface, others: Sequence[WeakSpot]
) -> list[WeakSpot]:
    """Return the field samples that the cycle's model gets wrong as weak spots, one for each id, the 1,000 highest.

    A sample that stands behind another spot, alone or in a region, is left to that one.
    """
    taken = {one.raw_sample_id for one in others}
    taken |= {member.get("raw_sample_id") for one in others for member in one.details.get("members") or ()}
    found: dict[str | None, WeakSpot] = {}
    for evaluation in context.cycle.field_evaluations:
        feedback = read_feedback(evaluation.uri, evaluation.sha256)
        for spot in field_spots(feedback, strategy, sensor_types(None)):
            if spot.raw_sample_id not in taken:
                found.setdefault(spot.raw_sample_id, spot)
    return sorted(found.values(), key=lambda spot: (-spot.priority, spot.weakness_id))[:MOST_FIELD_SPOTS]


def with_known_scenario(context: Context, spot: WeakSpot) -> WeakSpot:
    """Return a field spot without the scenario that it names, where the repository has none of that id."""
    name = spot.details.get("original_scenario_id")
    if not isinstance(name, str) or spot.details.get("origin") != FIELD:
        return spot
    if name != NO_SCENARIO and context.workshop.repository.get_scenario_by_id(scenario_id=name) is not None:
        return spot
    return spot.model_copy(update={"details": {**spot.details, "original_scenario_id": None}})


def _counts_from(run: RunRecord) -> int:
    """Return the first cycle that can go after samples which are given now. Raises RunConflict."""
    if run.ended or run.status == "cancelling":
        raise RunConflict(run_id=run.run_id, status=run.status, reason="it goes after no more samples")
    if run.dataset("test") is None:
        reason = "its data sets are not drawn yet; give the samples again when it evaluates its start model"
        raise RunConflict(run_id=run.run_id, status=run.status, reason=reason)
    cycle = run.cycle if run.state == "created" else run.cycle + 1
    if cycle >= run.config.max_cycles:
        raise RunConflict(run_id=run.run_id, status=run.status, reason="its last cycle has begun without these samples")
    return cycle


def _check_unseen(run: RunRecord, records: dict[str, Sample]) -> None:
    test = run.dataset("test")
    leaked = sample_ids(test.ref) & records.keys() if test is not None else set()
    if leaked:
        raise refused(f"{min(leaked)} is in the run's test set, which nothing is aimed at")


def _check_room(run: RunRecord, samples: int, sets: int) -> None:
    if samples > MOST_FIELD_SAMPLES:
        reason = f"it would hold {samples} field samples; {MOST_FIELD_SAMPLES} are allowed"
    elif sets > MOST_FIELD_SETS:
        reason = f"field samples were given {MOST_FIELD_SETS} times, which is allowed; give more of them at a time"
    else:
        return
    raise RunConflict(run_id=run.run_id, status=run.status, reason=reason)


def _kept(workshop: Workshop, run: RunRecord, samples: Sequence[Sample], cycle: int) -> DatasetEntry:
    name = f"{FIELD}_{content_sha256(samples)[:16]}"
    path = workshop.folder(run.run_id, FIELD) / f"{name}.avro"
    try:
        return register(path, samples, name=name, role=FIELD, requested=len(samples), cycle=cycle, may_reject=0.0)
    except GenerationFailed as error:
        raise refused(str(error.context.get("reason"))) from None


def _sets(context: Context) -> list[DatasetEntry]:
    found = [entry for entry in context.store.datasets(context.run.run_id) if entry.role == FIELD]
    return sorted(found, key=lambda entry: entry.name)
