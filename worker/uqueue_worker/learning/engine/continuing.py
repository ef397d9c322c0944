"""A run that continues another: what it may be, and what it takes over.

Its start set is all that the other one trained on and its pool; its test set is the other's frozen one; its pool is
drawn anew. So its seed is one that no run before it had, or it would draw the same samples again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from uqueue_config.learning.runs import DatasetEntry, Role, RunConfig, RunRecord
from uqueue_worker.learning.engine.checking import ANY_DEPLOYMENT
from uqueue_worker.learning.engine.store import RunStore
from uqueue_worker.learning.errors import RunConfigInvalid, RunConflict, RunNotFound

_TAKEN_OVER = ("start_samples", "test_samples")
_SEEDS = 2**32


def continuing(store: RunStore, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that are given for a run, with a seed of its own if it continues another and has none.

    Raises RunConfigInvalid for sizes of what it takes over, and RunNotFound.
    """
    continues = changes.get("continues")
    if not isinstance(continues, str):
        return dict(changes)
    found = [f"{name}: a run that continues another has its set" for name in _TAKEN_OVER if name in changes]
    if found:
        raise RunConfigInvalid(reason="; ".join(found))
    runs = list(_line(store, continues))
    taken = {run.config.random_seed for run in runs}
    first = runs[0].config.random_seed
    free = next(seed % _SEEDS for seed in range(first + 1, first + len(runs) + 2) if seed % _SEEDS not in taken)
    return {"random_seed": free, **changes}


def check_continues(config: RunConfig, store: RunStore, deployment: str | None) -> None:
    """Check what a run continues, if it does; `deployment` is the name of the workshop's distribution.

    Raises RunNotFound; RunConflict for a run that goes on or has no data sets; RunConfigInvalid for one about something
    else, and for a seed that it or one before it had.
    """
    if config.continues is None:
        return
    line = list(_line(store, config.continues))
    before = line[0]
    if not before.ended:
        raise RunConflict(run_id=before.run_id, status=before.status, reason="only a run that has ended is continued")
    if any(before.dataset(role) is None for role in ("training", "pool", "test")):
        raise RunConflict(run_id=before.run_id, status=before.status, reason="it has no data sets to continue with")
    problems = list(_problems(config, line, {ANY_DEPLOYMENT, deployment}))
    if problems:
        raise RunConfigInvalid(reason="; ".join(problems))


def taken_over(store: RunStore, config: RunConfig, role: Role) -> dict[str, Any]:
    """Return what a part that draws a data set must know of the run that is continued; {} where it draws anew."""
    if config.continues is None or role == "pool":
        return {}
    before = store.get_run(config.continues)
    if role == "test":
        return {"kept": _message(_entry(before, "test"))}
    return {"folded": [_message(one) for one in (*before.training_sets(), _entry(before, "pool"))]}


def _problems(config: RunConfig, line: list[RunRecord], alike: set[str | None]) -> Iterator[str]:
    before = line[0]
    if config.model != before.config.model:
        yield f"model: run {before.run_id} is about {before.config.model!r}"
    deployments = {config.deployment, before.config.deployment}
    if len(deployments) > 1 and not deployments <= alike:
        yield f"deployment: run {before.run_id} is about {before.config.deployment!r}"
    for run in line:
        if config.random_seed == run.config.random_seed:
            yield f"random_seed: run {run.run_id} drew its samples with {config.random_seed}; give another"


def _line(store: RunStore, run_id: str) -> Iterator[RunRecord]:
    """Yield the run, the one that it continues, and so on. Raises RunNotFound for the first."""
    run = store.get_run(run_id)
    yield run
    while run.config.continues is not None:
        try:
            run = store.get_run(run.config.continues)
        except RunNotFound:
            return
        yield run


def _entry(run: RunRecord, role: Role) -> DatasetEntry:
    found = run.dataset(role)
    if found is None:
        raise RunConflict(run_id=run.run_id, status=run.status, reason="it has no data sets to continue with")
    return found


def _message(entry: DatasetEntry) -> dict[str, Any]:
    return entry.model_dump(mode="json")
