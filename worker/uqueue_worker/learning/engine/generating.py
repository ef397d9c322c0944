"""Generating: a part for each scenario and block of samples, then one data set of all of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from uqueue_config.learning.references import ScenarioRef
from uqueue_config.learning.runs import Allotment, CycleState, DatasetEntry, Failure
from uqueue_config.learning.scenario import ScenarioDefinition
from uqueue_worker.learning.avro import read_samples, write_samples
from uqueue_worker.learning.engine.files import check_sha256, key_name
from uqueue_worker.learning.engine.parts import Part
from uqueue_worker.learning.engine.samples import Sample, check_disjoint, records_of, register
from uqueue_worker.learning.engine.steps import Assignment, Context, Move, Step, skipped
from uqueue_worker.learning.engine.store import ScenarioUse
from uqueue_worker.learning.errors import GenerationFailed, ScenarioNotFound
from uqueue_worker.learning.interfaces import ScenarioRepositoryInterface
from uqueue_worker.learning.models.labels import label_of
from uqueue_worker.learning.simulator.runs import derived_seed

_MOST_REJECTED = 0.05


def _parts(context: Context) -> Sequence[Part]:
    return [part for allotment in context.cycle.plan for part in _blocks(context, allotment)]


def _blocks(context: Context, allotment: Allotment) -> list[Part]:
    """Return the parts of one scenario: blocks of samples with seeds of their own."""
    limit = context.run.config.samples_per_part
    sizes = [min(limit, allotment.samples - start) for start in range(0, allotment.samples, limit)]
    found = []
    for block, size in enumerate(sizes):
        seed = derived_seed(allotment.seed, block)
        key = f"{allotment.scenario.id}@{allotment.scenario.version}:{seed}:{size}"
        found.append(
            context.part(
                "generate",
                key,
                scenario=allotment.scenario.model_dump(),
                weakness_id=allotment.weakness_id,
                samples=size,
                seed=seed,
            )
        )
    return found


def generate(job: Assignment) -> dict[str, Any]:
    """Simulate one block of samples and write them as an Avro part. Raises an ActiveLearningError."""
    workshop, run, part = job.workshop, job.run, job.part
    reference = ScenarioRef.model_validate(part.payload["scenario"])
    wanted, seed = part.payload["samples"], part.payload["seed"]
    definition = _definition(workshop.repository, reference)
    raw = workshop.generator.generate_training_dataset(scenarios=[definition], samples_per_scenario=wanted, seed=seed)
    if not isinstance(raw, list) or not raw:
        raise GenerationFailed(reason=f"the simulator gave no samples of scenario {reference.id}")
    metadata = {
        "originating_weak_spot_id": part.payload["weakness_id"],
        "scenario_definition_id": reference.id,
        "scenario_version": reference.version,
        "alm_run_id": run.run_id,
        "alm_cycle": part.cycle,
    }
    samples = records_of(raw, workshop.deployment, seed=seed, generated=run.created_at_utc, metadata=metadata)
    _check_classes(samples, workshop.trainer.classes, reference)
    path = workshop.folder(run.run_id, "parts") / f"{key_name(run.run_id, part.cycle, part.key)}.avro"
    report = write_samples(path, samples, max_rejected_fraction=1.0)
    return {
        "ok": True,
        "path": str(path),
        "n": report.written,
        "sha256": report.sha256,
        "rejected": len(report.rejected),
        "requested": wanted,
    }


def _check_classes(samples: Sequence[Sample], classes: Sequence[str], reference: ScenarioRef) -> None:
    """Raise GenerationFailed for a class that the model does not have: nothing could be trained on the data set."""
    foreign = sorted({label for label in map(label_of, samples) if label is not None and label not in classes})
    if foreign:
        shown = f"scenario {reference.id} shows {', '.join(foreign[:5])}, which is no class of the model"
        raise GenerationFailed(reason=shown)


def _definition(repository: ScenarioRepositoryInterface, reference: ScenarioRef) -> ScenarioDefinition:
    found = repository.get_scenario_by_id(scenario_id=reference.id)
    if found is not None and found.version != reference.version:
        found = repository.get_version(reference.id, reference.version)
    if found is None:
        raise ScenarioNotFound(scenario_id=f"{reference.id}, version {reference.version}")
    return found


def _finish(context: Context) -> Move:
    done = [one.result for one in context.results.values() if one.ok and one.result is not None]
    requested = sum(one.samples for one in context.cycle.plan)
    rejected, written = sum(one["rejected"] for one in done), sum(one["n"] for one in done)
    counts = {"samples_requested": requested, "samples_generated": written + rejected, "samples_rejected": rejected}
    spent = {"samples_spent": context.run.samples_spent + written + rejected}
    if written == 0 or rejected > _MOST_REJECTED * (written + rejected):
        reason = f"{rejected} of {written + rejected} samples were rejected" if rejected else "there are none"
        error = GenerationFailed(reason=reason)
        move = skipped(context, Failure(code=error.code, message=error.message, step="generating"))
        return Move("skipped", cycle={**move.cycle, **counts}, run=spent)
    entry = merged(context, [(one["path"], one["sha256"]) for one in done], requested, rejected)
    check_disjoint([*context.run.datasets, entry])
    changes = {**counts, "dataset": entry, "failures": (*context.cycle.failures, *context.failures())}
    state, run = _what_follows(context, entry)
    return Move(state, cycle=changes, run={**run, **spent}, datasets=(entry,), uses=_uses(context, entry))


def _what_follows(context: Context, entry: DatasetEntry) -> tuple[CycleState, dict[str, Any]]:
    if context.run.config.auto_apply or not context.cycle.suggestion_ids:
        return "training", {"datasets": (*context.run.datasets, entry)}
    return "awaiting_approval", {"status": "waiting"}


def merged(context: Context, parts: Sequence[tuple[str, str]], requested: int, rejected: int) -> DatasetEntry:
    """Return the registered data set of all parts, in the order of the plan."""
    samples: list[Sample] = []
    for uri, sha256 in parts:
        check_sha256(Path(uri), sha256)
        samples += read_samples(uri)
    name = f"{context.run.config.dataset_prefix}_c{context.run.cycle:03d}"
    path = context.workshop.folder(context.run.run_id, "data") / f"{name}.avro"
    entry = register(path, samples, name=name, role="training", requested=requested, cycle=context.run.cycle)
    return entry.model_copy(update={"rejected": rejected})


def _uses(context: Context, entry: DatasetEntry) -> tuple[ScenarioUse, ...]:
    """Return how many samples of the data set each scenario gave for each weak spot; they add up to all of them."""
    given: dict[tuple[str | None, str, int], int] = {}
    for one in context.results.values():
        if one.ok and one.result is not None and one.result["n"]:
            scenario = one.part.payload["scenario"]
            key = (one.part.payload["weakness_id"], scenario["id"], scenario["version"])
            given[key] = given.get(key, 0) + one.result["n"]
    run_id, cycle = context.run.run_id, context.run.cycle
    return tuple(
        ScenarioUse(run_id, cycle, weakness_id, ScenarioRef(id=scenario_id, version=version), entry.name, samples)
        for (weakness_id, scenario_id, version), samples in given.items()
    )


GENERATING = Step(_parts, _finish)
