"""A campaign whose worker, processes, database connections, PostgreSQL and Redis are killed at every state ends as if
nothing had happened. Every message is sent twice meanwhile.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from builders.learning_reference import assert_undisturbed
from builders.learning_town import LearningTown, learning_town
from builders.waiting import eventually
from chaos.sizes import LEARNING_AWAY_SECONDS, LEARNING_FAULTS, LEARNING_POINTS

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1200)]
WITH_PARTS = ("created", "evaluating", "crafting", "generating", "training", "re_evaluating")
#: A campaign takes half a minute where nothing else runs; an outage may let a breaker wait for as long again.
PATIENCE_SECONDS = 180
STATES = ("created", "evaluating", "prioritising", "crafting", "generating", "training", "re_evaluating")


class Fault(NamedTuple):
    """What is done when somebody has come to a point of a state of a cycle; see `strike`."""

    cycle: int
    state: str
    point: str
    what: str

    @property
    def name(self) -> str:
        return f"{self.cycle}-{self.state}-{self.point}"


SOME = [
    Fault(0, "created", "part", "process"),
    Fault(0, "evaluating", "part", "redis"),
    Fault(0, "prioritising", "step", "database"),
    Fault(0, "crafting", "step", "server"),
    Fault(0, "generating", "part", "worker"),
    Fault(0, "training", "part", "database"),
    Fault(0, "re_evaluating", "committed", "redis"),
    Fault(1, "crafting", "part", "process"),
    Fault(1, "generating", "part", "outage"),
    Fault(1, "training", "step", "process"),
]


def everywhere(what: str) -> list[Fault]:
    """Return one fault in the parts of every state, and two in its steps."""
    first = [Fault(0, state, "part", what) for state in WITH_PARTS]
    steps = [Fault(1, state, point, what) for state in STATES for point in ("step", "committed")]
    return [*first, *steps]


KINDS = ("worker", "process", "database", "server", "outage", "redis")
PLANS = {"some": SOME} if LEARNING_FAULTS == "some" else {what: everywhere(what) for what in KINDS}
if LEARNING_FAULTS != "some":
    PLANS["approval"] = [
        Fault(0, "awaiting_approval", "step", "worker"),
        Fault(0, "awaiting_approval", "committed", "process"),
    ]


@pytest.mark.parametrize("plan", list(PLANS))
def test_a_campaign_under_faults_is_the_undisturbed_one(plan: str, tmp_path: Path) -> None:
    points = tmp_path / "points"
    points.mkdir()
    for fault in PLANS[plan]:
        (points / f"{fault.name}.wait").touch()
    with learning_town(tmp_path / "town", app="chaos.learning_app", env={LEARNING_POINTS: str(points)}) as town:
        eventually(town.is_there, "the learning worker runs", seconds=PATIENCE_SECONDS)
        approval = {"auto_apply": False, "max_cycles": 1} if plan == "approval" else {}
        run_id = town.client.learning.start_run({"random_seed": 5, **approval}).run.run_id
        if plan == "approval":
            approve(town, run_id)
        for fault in PLANS[plan]:
            here = points / f"{fault.name}.here"
            eventually(
                lambda here=here: here.exists() and here.read_text(),
                f"a process at {here.stem}",
                seconds=PATIENCE_SECONDS,
            )
            strike(town, fault.what, int(here.read_text()), here.unlink)
        eventually(lambda: town.store.get_run(run_id).ended, "the run has ended", seconds=PATIENCE_SECONDS)
        run = town.store.get_run(run_id)
        assert run.status == "completed", run.error
        assert town.store.dead_letters() == []
        assert_undisturbed(town.store, run, tmp_path / "reference")
    assert sorted(path.name for path in points.iterdir()) == []


def approve(town: LearningTown, run_id: str) -> None:
    """Approve all that a run suggests, after everything was struck while it waited."""
    eventually(lambda: town.store.get_run(run_id).status == "waiting", "the run waits", seconds=PATIENCE_SECONDS)
    for what in ("worker", "database", "server", "outage", "redis"):
        strike(town, what, 0, lambda: None)
    learning = town.client.learning
    for entry in learning.suggestions(run_id, state="proposed").suggestions:
        learning.approve(entry.suggestion.suggestion_id)


def strike(town: LearningTown, what: str, pid: int, go_on: Callable[[], object]) -> None:
    """Do it and let whoever has come to the point go on; returns when everything is there again.

    worker    the learning worker with all its processes is killed, and another one started
    process   the process that has come to the point is killed
    database  PostgreSQL ends all its connections
    server    PostgreSQL is shut down at once, as its main process does at SIGQUIT, and started again
    outage    PostgreSQL's main process is killed; it starts again while somebody tries to go on without it
    redis     Redis is killed and started again
    """
    if what == "worker":
        town.kill_learning()
        town.start_learning()
    elif what == "process":
        os.kill(pid, signal.SIGKILL)
    elif what == "database":
        town.drop_database_connections()
    elif what == "redis":
        town.restart_redis()
    elif what == "server":
        town.end_postgres(signal.SIGQUIT)
        town.start_postgres()
    else:
        town.end_postgres(signal.SIGKILL)
        go_on()
        time.sleep(LEARNING_AWAY_SECONDS)
        town.start_postgres()
        return
    go_on()
