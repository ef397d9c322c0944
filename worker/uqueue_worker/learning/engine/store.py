"""What keeps runs: in memory and in PostgreSQL, with the same behaviour."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from uqueue_config.learning.references import ScenarioRef
from uqueue_config.learning.runs import CycleRecord, CycleState, DatasetEntry, RunRecord, RunStatus
from uqueue_config.learning.spots import WeakSpot
from uqueue_config.learning.suggestions import CreateScenario, ModifyScenario, State
from uqueue_worker.learning.engine.parts import Part, PartKind, PartResult

AnySuggestion = ModifyScenario | CreateScenario
#: Where a run stands in the list of runs: when it was created, and its id.
RunPlace = tuple[datetime, str]


@dataclass(frozen=True)
class ScenarioUse:
    """A version of a scenario that samples of a data set come from, and the weak spot that it is for (None: none)."""

    run_id: str
    cycle: int
    weakness_id: str | None
    scenario: ScenarioRef
    dataset: str
    samples: int


@dataclass(frozen=True)
class DeadLetter:
    """A part that failed for good."""

    run_id: str
    cycle: int
    state: str
    key: str
    kind: str
    error: dict[str, Any]
    failed_at_utc: datetime


@dataclass(frozen=True)
class Transition:
    """Everything that one step changes, committed at once or not at all.

    `run` replaces the stored record if that still is at revision `run.revision - 1`. The cycle's record replaces the
    stored one; the others are added, and those that are there already stay.
    """

    run: RunRecord
    cycles: tuple[CycleRecord, ...] = ()
    spots: tuple[WeakSpot, ...] = ()
    spots_cycle: int | None = None
    suggestions: tuple[AnySuggestion, ...] = ()
    datasets: tuple[DatasetEntry, ...] = ()
    uses: tuple[ScenarioUse, ...] = ()


@dataclass(frozen=True)
class Opened:
    """The parts of a step in the order they were opened, and how many of them have no result yet."""

    parts: tuple[PartResult, ...] = field(default=())
    open: int = 0


@dataclass(frozen=True)
class PartTime:
    """When a part was done: from the beginning of its last try to its result. None where that is not known or not yet.

    ok       None while it is open
    samples  how many a part of generating made, the refused ones among them
    """

    cycle: int
    kind: PartKind
    started_at_utc: datetime | None
    finished_at_utc: datetime | None
    tries: int = 0
    ok: bool | None = None
    samples: int = 0


class RunStore(Protocol):
    """Keeps runs, cycles, weak spots, suggestions, data sets, and the parts of steps.

    A backend that does not answer raises RepositoryUnavailable; an unknown run raises RunNotFound where a run is
    needed.
    """

    def create_run(self, run: RunRecord) -> RunRecord:
        """Store a new run and return it; one that has this id or this idempotency key already is returned instead."""
        ...

    def get_run(self, run_id: str) -> RunRecord:
        """Return the run. Raises RunNotFound."""
        ...

    def list_runs(
        self, statuses: Sequence[RunStatus] = (), limit: int = 50, after: RunPlace | None = None
    ) -> list[RunRecord]:
        """Return runs, of these statuses if any are given, the latest created first; those that follow on a place."""
        ...

    def stale_runs(self, before: datetime, limit: int = 50) -> list[str]:
        """Return ids of runs that have not ended, wait for nobody, and last moved before a time; longest ago first."""
        ...

    def lock(self, run_id: str) -> AbstractContextManager[bool]:
        """Hold the run's lock; yields False, without waiting, while another holds it."""
        ...

    def commit(self, transition: Transition) -> bool:
        """Commit a transition. False, and nothing written, if the run has moved on since it was read."""
        ...

    def get_cycle(self, run_id: str, cycle: int) -> CycleRecord | None: ...

    def cycles(self, run_id: str) -> list[CycleRecord]:
        """Return the cycles of a run in order."""
        ...

    def spots(self, run_id: str, cycle: int | None = None) -> list[tuple[int, WeakSpot]]:
        """Return (cycle, weak spot), by cycle and then by priority, the highest first."""
        ...

    def suggestions(self, run_id: str, cycle: int | None = None) -> list[tuple[int, AnySuggestion]]:
        """Return (cycle, suggestion) in the order of the spots."""
        ...

    def find_suggestion(self, suggestion_id: str) -> tuple[str, int, AnySuggestion] | None:
        """Return (run id, cycle, suggestion), or None."""
        ...

    def move_suggestion(self, suggestion_id: str, expected: State, state: State) -> bool:
        """Set a suggestion's state if it is the expected one; False, and nothing written, if it is not."""
        ...

    def change_suggestion(
        self, suggestion_id: str, change: Callable[[AnySuggestion], AnySuggestion]
    ) -> AnySuggestion | None:
        """Replace a suggestion by what `change` makes of it, and return that; None for an unknown one.

        Of two that change it at once the second sees what the first left. What `change` raises comes through, and
        nothing is written.
        """
        ...

    def uses(self, run_id: str) -> list[ScenarioUse]: ...

    def uses_of_scenario(self, scenario_id: str) -> list[ScenarioUse]: ...

    def datasets(self, run_id: str) -> list[DatasetEntry]:
        """Return the data sets of a run in the order they were added, samples from the field among them."""
        ...

    def add_dataset(self, run_id: str, entry: DatasetEntry) -> bool:
        """Keep a data set that no step made; False, and nothing written, if the run has one of that name."""
        ...

    def open_parts(self, parts: Sequence[Part]) -> Opened:
        """Open the parts that are not known yet, and return all parts of their step. All are of one step."""
        ...

    def parts(self, run_id: str, cycle: int, state: CycleState) -> Opened:
        """Return the parts of a step."""
        ...

    def get_part(self, run_id: str, cycle: int, state: CycleState, key: str) -> PartResult | None: ...

    def begin_part(self, part: Part) -> None:
        """Note that a try of a part begins now; of one that waits, that it goes on."""
        ...

    def pause_part(self, part: Part) -> None:
        """Note that a part waits for jobs of the queue: beginning with it again is no new try."""
        ...

    def part_times(self, run_id: str) -> list[PartTime]:
        """Return when the parts of a run were done, by cycle."""
        ...

    def begin_step(self, run_id: str, cycle: int, state: CycleState) -> int:
        """Note that a step is begun with; return how often it was since it last ended. Who calls it holds the lock."""
        ...

    def end_step(self, run_id: str, cycle: int, state: CycleState) -> None:
        """Note that whoever began with a step has come to an end with it, of whatever kind."""
        ...

    def finish_part(self, part: Part, result: dict[str, Any]) -> int | None:
        """Store the result of a part, and return how many parts of the step are open now.

        None, and nothing written, if the part has a result already or is not known.
        """
        ...

    def reopen_failed_parts(self, run_id: str, cycle: int, state: CycleState) -> int:
        """Forget the results of parts that failed, so that they are executed again; return how many these are."""
        ...

    def add_dead_letter(self, letter: DeadLetter) -> None:
        """Keep what failed for good; once per part."""
        ...

    def dead_letters(self, run_id: str | None = None, limit: int = 100) -> list[DeadLetter]: ...
