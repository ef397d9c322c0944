"""What a campaign comes to that nothing disturbs: in this process, with everything but its files in memory."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from builders.learning_runs import campaign
from builders.learning_subject import small
from uqueue_config.learning.runs import RunRecord
from uqueue_config.learning.settings import LearningSettings
from uqueue_worker.learning.crafting.levers import focus_parameter
from uqueue_worker.learning.engine import (
    Engine,
    InProcess,
    InterfaceEvaluator,
    MemoryRunStore,
    RunStore,
    local_interfaces,
    run_to_end,
)
from uqueue_worker.learning.repository.memory import MemoryScenarioRepository
from uqueue_worker.learning.subject import crafter_of


def undisturbed(folder: Path, run: RunRecord) -> dict[str, Any]:
    """Return what the same run, by configuration, id and time, comes to here; all it suggests is approved."""
    subject, models = small(), folder / "models"
    repository = MemoryScenarioRepository(
        crafter=crafter_of(LearningSettings(), subject), focus_parameter=focus_parameter
    )
    evaluator = InterfaceEvaluator(local_interfaces(models, subject.model, [folder]))
    workshop = subject.workshop(repository, evaluator, models=models, root=folder / "runs")
    engine = Engine(MemoryRunStore(), workshop, InProcess(), clock=lambda: run.created_at_utc)
    made = engine.create(run.config, run_id=run.run_id)
    ended = run_to_end(engine, made.run_id)
    while ended.status == "waiting":
        for _, one in engine.store.suggestions(run.run_id, ended.cycle):
            engine.decide(one.suggestion_id, "approved")
        ended = run_to_end(engine, made.run_id)
    return campaign(engine, ended)


def assert_undisturbed(store: RunStore, run: RunRecord, folder: Path) -> dict[str, Any]:
    """Compare a campaign with the same one here, and return it: all of it exactly but for the last digits of metrics,
    which the queue adds up chunk by chunk."""
    found, expected = campaign(SimpleNamespace(store=store), run), undisturbed(folder, run)  # type: ignore[arg-type]
    for one, other in zip(found["metrics"], expected["metrics"], strict=True):
        assert one == pytest.approx(other, abs=1e-9)
    assert {**found, "metrics": None} == {**expected, "metrics": None}
    return found
