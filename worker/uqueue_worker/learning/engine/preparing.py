"""The first step of a cycle: in the first cycle the three data sets are drawn and the start model is made.

Of a run that continues another, two of them are made of what that one has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from uqueue_config.learning.references import ModelRef
from uqueue_config.learning.runs import DatasetEntry, Role
from uqueue_worker.learning.engine.continuing import taken_over
from uqueue_worker.learning.engine.parts import Part
from uqueue_worker.learning.engine.samples import check_disjoint, copied, read_registered, records_of, register
from uqueue_worker.learning.engine.steps import Assignment, Context, Move, Step, in_turn
from uqueue_worker.learning.engine.training import train_part
from uqueue_worker.learning.simulator.runs import derived_seed

_ROLES: tuple[Role, ...] = ("training", "pool", "test")
_START = "start_model"


def _parts(context: Context) -> Sequence[Part]:
    if context.run.datasets:
        return ()
    draws = [_draw(context, role) for role in _ROLES]
    entries = _drawn(context)
    if len(entries) < len(_ROLES) or context.run.config.start_version is not None:
        return [*in_turn(context, draws[:-1]), draws[-1]]  # the test set's scenarios are not stored
    start = next(entry for entry in entries if entry.role == "training")
    return [*draws, train_part(context, "start_model", _START, (start,), _parent(context))]


def _draw(context: Context, role: Role) -> Part:
    return context.part("draw", f"draw:{role}", role=role, **taken_over(context.store, context.run.config, role))


def _parent(context: Context) -> ModelRef | None:
    continues = context.run.config.continues
    return None if continues is None else context.store.get_run(continues).model


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
    """Draw one of the three data sets and keep its scenarios, or make it of what a run that is continued has.

    The scenarios of the test set are kept nowhere.
    """
    role: Role = job.part.payload["role"]
    name = {"training": "start"}.get(role, role)
    path = job.workshop.folder(job.run.run_id, "data") / f"{name}.avro"
    entry = _taken_over(job.part.payload, path, name) or _newly_drawn(job, role, path, name)
    return {"ok": True, "entry": entry.model_dump(mode="json")}


def _taken_over(payload: Mapping[str, Any], path: Path, name: str) -> DatasetEntry | None:
    """Return the data set that a part is told to take over, if it is: a copy of one, or several as one."""
    if "kept" in payload:
        return copied(path, DatasetEntry.model_validate(payload["kept"]))
    if "folded" not in payload:
        return None
    entries = [DatasetEntry.model_validate(one) for one in payload["folded"]]
    check_disjoint(entries)
    samples = [sample for one in entries for sample in read_registered(one.ref)]
    return register(path, samples, name=name, role="training", requested=len(samples))


def _newly_drawn(job: Assignment, role: Role, path: Path, name: str) -> DatasetEntry:
    workshop, run = job.workshop, job.run
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
    return register(path, samples, name=name, role=role, requested=count)


PREPARING = Step(_parts, _finish)
