"""The first step of a cycle: in the first cycle the three data sets are drawn and the start model is made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from uqueue_config.learning.references import ModelRef
from uqueue_config.learning.runs import DatasetEntry, Role
from uqueue_worker.learning.engine.parts import Part
from uqueue_worker.learning.engine.samples import check_disjoint, records_of, register
from uqueue_worker.learning.engine.steps import Assignment, Context, Move, Step, in_turn
from uqueue_worker.learning.engine.training import train_part
from uqueue_worker.learning.simulator.runs import derived_seed

_ROLES: tuple[Role, ...] = ("training", "pool", "test")
_START = "start_model"


def _parts(context: Context) -> Sequence[Part]:
    if context.run.datasets:
        return ()
    draws = [context.part("draw", f"draw:{role}", role=role) for role in _ROLES]
    entries = _drawn(context)
    if len(entries) < len(_ROLES) or context.run.config.start_version is not None:
        return [*in_turn(context, draws[:-1]), draws[-1]]  # the test set's scenarios are not stored
    start = next(entry for entry in entries if entry.role == "training")
    return [*draws, train_part(context, "start_model", _START, (start,), None)]


def _finish(context: Context) -> Move:
    if context.run.datasets:
        return Move("evaluating")
    failures = context.failures()
    if failures:
        return Move("failed", cycle={"failures": failures})
    entries = _drawn(context)
    check_disjoint(entries)
    model = _start_model(context)
    return Move("evaluating", run={"datasets": entries, "model": model}, datasets=entries)


def _start_model(context: Context) -> ModelRef:
    config = context.run.config
    if config.start_version is not None:
        return context.workshop.trainer.find(config.model, config.start_version)
    trained = context.result(_START)
    assert trained is not None  # noqa: S101 - without failures every part has a result
    model = ModelRef.model_validate(trained["model"])
    context.workshop.trainer.promote(model)
    return model


def _drawn(context: Context) -> tuple[DatasetEntry, ...]:
    found = [context.result(f"draw:{role}") for role in _ROLES]
    return tuple(DatasetEntry.model_validate(one["entry"]) for one in found if one is not None)


def draw(job: Assignment) -> dict[str, Any]:
    """Draw one of the three data sets and keep its scenarios; those of the test set are kept nowhere."""
    workshop, run = job.workshop, job.run
    role: Role = job.part.payload["role"]
    distribution = workshop.start_distribution if role == "training" else workshop.deployment
    count = {
        "training": run.config.start_samples,
        "pool": run.config.pool_samples,
        "test": run.config.test_samples,
    }[role]
    seed = derived_seed(run.config.random_seed, "dataset", role)
    if role != "test":
        for scenario in distribution.draw_scenarios(count, seed):
            workshop.repository.save_scenario_definition(scenario_def=scenario.to_record())
    samples = records_of(
        distribution.draw(count, seed),
        distribution,
        seed=seed,
        generated=run.created_at_utc,
        metadata={"alm_run_id": run.run_id, "alm_role": role},
    )
    name = {"training": "start"}.get(role, role)
    path = workshop.folder(run.run_id, "data") / f"{name}.avro"
    entry = register(path, samples, name=name, role=role, requested=count)
    return {"ok": True, "entry": entry.model_dump(mode="json")}


PREPARING = Step(_parts, _finish)
