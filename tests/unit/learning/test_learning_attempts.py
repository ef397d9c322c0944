"""A step that ends the process which works on it is begun with three times in a row, and then its cycle has failed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from builders.learning_post import MemoryPost
from builders.learning_runs import NOW, a_workshop, an_engine, campaign, small_config
from uqueue_worker.learning.engine import Engine, MemoryRunStore, run_to_end, strategies
from uqueue_worker.learning.engine.attempts import counted
from uqueue_worker.learning.errors import RepositoryUnavailable
from uqueue_worker.learning.models import onnx_file
from uqueue_worker.learning.post import QueueDispatcher
from uqueue_worker.learning.repository.memory import MemoryScenarioRepository
from uqueue_worker.learning.working import Tasks

RUN = "run-1"
CONFIG = small_config(max_cycles=4, pool_samples=20, test_samples=10, start_samples=20)


@pytest.fixture(scope="module", autouse=True)
def no_trial_runs() -> Iterator[None]:
    """Models that this process wrote are not tried by another one first."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx_file, "probe_ensemble", lambda *given, **named: None)
        yield


class Killed(BaseException):
    """A process that ends in the middle of something: nothing catches this, and nothing is done afterwards."""


class Town:
    """Store and repository outlive the processes, of which each has an engine of its own."""

    def __init__(self, folder: Path, deadly: Callable[[int], BaseException | None], max_cycles: int = 4) -> None:
        self.config = CONFIG.model_copy(update={"max_cycles": max_cycles})
        self.store, self.repository = MemoryRunStore(), MemoryScenarioRepository()
        self.folder, self.deadly, self.begun = folder, deadly, 0

    def engine(self) -> Engine:
        strategy_of = strategies(self.repository)

        def dying(config: Any) -> Any:
            """Ends its process where a step asks for the strategy, not where a configuration is tried."""
            self.begun += 1
            if (death := self.deadly(self.begun)) is not None:
                raise death
            return strategy_of(config)

        return an_engine(self.folder, self.store, repository=self.repository, strategy=dying)

    def drive(self) -> Engine:
        """Start a run, and processes as long as it goes on."""
        an_engine(self.folder, self.store, repository=self.repository).create(self.config, run_id=RUN)
        for _ in range(40):
            engine = self.engine()
            try:
                run_to_end(engine, RUN, sleep=lambda seconds: None)
            except (Killed, KeyboardInterrupt, ZeroDivisionError):
                continue
            break
        return engine


def test_a_step_that_always_ends_its_process_ends_the_run(tmp_path: Path) -> None:
    town = Town(tmp_path, lambda begun: Killed())
    town.drive()
    run = town.store.get_run(RUN)
    assert town.begun == 9, "three times in each of three cycles"
    assert (run.status, run.stop_reason, run.cycle) == ("failed", "repeated_failures", 2)
    assert [cycle.state for cycle in town.store.cycles(RUN)] == ["failed"] * 3
    assert run.error is not None
    assert "the step prioritising ended its process 3 times" in run.error.message
    letters = town.store.dead_letters(RUN)
    assert sorted((one.cycle, one.state, one.kind, one.error["code"]) for one in letters) == [
        (cycle, "prioritising", "step", "active_learning") for cycle in range(3)
    ]


def test_a_run_that_failed_so_can_be_resumed(tmp_path: Path) -> None:
    town = Town(tmp_path, lambda begun: Killed() if begun <= 9 else None)
    engine = town.drive()
    engine.resume(RUN)
    assert run_to_end(engine, RUN).status == "completed"


def test_fewer_kills_cost_nothing(tmp_path: Path) -> None:
    alone = an_engine(tmp_path / "alone")
    alone.create(CONFIG.model_copy(update={"max_cycles": 2}), run_id=RUN)
    expected = campaign(alone, run_to_end(alone, RUN))
    town = Town(tmp_path / "town", lambda begun: Killed() if begun in (1, 2, 4, 5) else None, 2)
    engine = town.drive()
    assert campaign(engine, town.store.get_run(RUN)) == expected
    assert town.store.dead_letters() == []


@pytest.mark.parametrize("raised", [ZeroDivisionError("a bug"), KeyboardInterrupt()])
def test_what_is_raised_is_no_crash(tmp_path: Path, raised: BaseException) -> None:
    town = Town(tmp_path, lambda begun: raised if begun <= 5 else None, 1)
    town.drive()
    assert town.store.get_run(RUN).status == "completed"
    assert town.store.dead_letters() == []


def test_a_database_that_is_away_in_between_hides_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryRunStore()
    run = an_engine(tmp_path, store).create(CONFIG, run_id=RUN)

    def away(*step: Any) -> None:
        raise RepositoryUnavailable(reason="restarting")

    monkeypatch.setattr(store, "end_step", away)
    with pytest.raises(ZeroDivisionError), counted(store, run):
        raise ZeroDivisionError
    with counted(store, run) as begun:
        assert begun == 2, "it is not known that the first came to an end"


def test_ticks_come_to_an_end_with_a_step_that_ends_its_process(tmp_path: Path) -> None:
    """The tasks of a learning worker: messages about steps are gone with the process, and only ticks send more."""
    town, post = Town(tmp_path, lambda begun: Killed()), MemoryPost()
    dispatcher = QueueDispatcher(post, 60.0)
    workshop = a_workshop(tmp_path, town.repository)
    Engine(town.store, workshop, dispatcher, clock=lambda: NOW).create(CONFIG, run_id=RUN)
    ticks = 0
    while not town.store.get_run(RUN).ended:
        ticks += 1
        assert ticks < 40
        engine = Engine(town.store, town.engine().workshop, dispatcher, clock=lambda: NOW)
        tasks = Tasks(engine, dispatcher, post, stale_seconds=1, sleep=lambda seconds: None)
        tasks.tick()
        try:
            post.deliver(tasks)
        except Killed:
            post.messages.clear()
    assert town.begun == 9
    assert town.store.get_run(RUN).stop_reason == "repeated_failures"
