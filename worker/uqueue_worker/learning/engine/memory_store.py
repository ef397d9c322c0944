"""A run store in memory: for notebooks and tests, and gone with its process."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from uqueue_config.learning.runs import CycleRecord, CycleState, DatasetEntry, RunRecord, RunStatus
from uqueue_config.learning.spots import WeakSpot
from uqueue_config.learning.suggestions import State
from uqueue_worker.learning.engine.parts import Part, PartResult
from uqueue_worker.learning.engine.store import (
    AnySuggestion,
    DeadLetter,
    Opened,
    PartTime,
    RunPlace,
    ScenarioUse,
    Transition,
)
from uqueue_worker.learning.errors import RunNotFound

Step = tuple[str, int, CycleState]
_WAITING: tuple[RunStatus, ...] = ("waiting", "cancelled", "completed", "failed")


@dataclass
class _Timed:
    started: datetime | None = None
    finished: datetime | None = None
    tries: int = 0
    waits: bool = False


class MemoryRunStore:
    """All that `RunStore` promises, for the threads of one process."""

    def __init__(self) -> None:
        self._guard = threading.RLock()
        self._held: set[str] = set()
        self._runs: dict[str, RunRecord] = {}
        self._cycles: dict[tuple[str, int], CycleRecord] = {}
        self._spots: dict[tuple[str, int], dict[str, WeakSpot]] = {}
        self._suggestions: dict[str, tuple[str, int, AnySuggestion]] = {}
        self._datasets: dict[tuple[str, str], DatasetEntry] = {}
        self._uses: dict[tuple[Any, ...], ScenarioUse] = {}
        self._parts: dict[Step, dict[str, PartResult]] = {}
        self._times: defaultdict[tuple[Any, ...], _Timed] = defaultdict(_Timed)
        self._begun: Counter[Step] = Counter()
        self._letters: dict[tuple[Any, ...], DeadLetter] = {}

    def create_run(self, run: RunRecord) -> RunRecord:
        with self._guard:
            key = run.idempotency_key
            known = next((one for one in self._runs.values() if key is not None and one.idempotency_key == key), None)
            return known or self._runs.setdefault(run.run_id, run)

    def get_run(self, run_id: str) -> RunRecord:
        with self._guard:
            if run_id not in self._runs:
                raise RunNotFound(run_id=run_id[:200])
            return self._runs[run_id]

    def list_runs(
        self, statuses: Sequence[RunStatus] = (), limit: int = 50, after: RunPlace | None = None
    ) -> list[RunRecord]:
        with self._guard:
            found = [run for run in self._runs.values() if not statuses or run.status in statuses]
        following = [run for run in found if after is None or (run.created_at_utc, run.run_id) < after]
        return sorted(following, key=lambda run: (run.created_at_utc, run.run_id), reverse=True)[:limit]

    def stale_runs(self, before: datetime, limit: int = 50) -> list[str]:
        with self._guard:
            found = [r for r in self._runs.values() if r.status not in _WAITING and r.updated_at_utc < before]
        return [run.run_id for run in sorted(found, key=lambda run: (run.updated_at_utc, run.run_id))][:limit]

    @contextmanager
    def lock(self, run_id: str) -> Iterator[bool]:
        with self._guard:
            taken = run_id not in self._held
            self._held.add(run_id)
        try:
            yield taken
        finally:
            if taken:
                with self._guard:
                    self._held.discard(run_id)

    def commit(self, transition: Transition) -> bool:
        run = transition.run
        with self._guard:
            if self.get_run(run.run_id).revision != run.revision - 1:
                return False
            self._runs[run.run_id] = run
            for cycle in transition.cycles:
                self._cycles[run.run_id, cycle.cycle] = cycle
            if transition.spots_cycle is not None:
                held = self._spots.setdefault((run.run_id, transition.spots_cycle), {})
                for spot in transition.spots:
                    held.setdefault(spot.weakness_id, spot)
                for one in transition.suggestions:
                    self._suggestions.setdefault(one.suggestion_id, (run.run_id, transition.spots_cycle, one))
            for dataset in transition.datasets:
                self._datasets.setdefault((run.run_id, dataset.name), dataset)
            for use in transition.uses:
                self._uses.setdefault(_use_key(use), use)
            return True

    def get_cycle(self, run_id: str, cycle: int) -> CycleRecord | None:
        with self._guard:
            return self._cycles.get((run_id, cycle))

    def cycles(self, run_id: str) -> list[CycleRecord]:
        with self._guard:
            found = [cycle for (run, _), cycle in self._cycles.items() if run == run_id]
        return sorted(found, key=lambda cycle: cycle.cycle)

    def spots(self, run_id: str, cycle: int | None = None) -> list[tuple[int, WeakSpot]]:
        with self._guard:
            found = [
                (number, spot)
                for (run, number), spots in self._spots.items()
                if run == run_id and cycle in (None, number)
                for spot in spots.values()
            ]
        return sorted(found, key=lambda pair: (pair[0], -pair[1].priority, pair[1].weakness_id))

    def suggestions(self, run_id: str, cycle: int | None = None) -> list[tuple[int, AnySuggestion]]:
        with self._guard:
            found = list(self._suggestions.values())
        kept = [(number, one) for run, number, one in found if run == run_id and cycle in (None, number)]
        return sorted(kept, key=lambda pair: pair[0])

    def find_suggestion(self, suggestion_id: str) -> tuple[str, int, AnySuggestion] | None:
        with self._guard:
            return self._suggestions.get(suggestion_id)

    def move_suggestion(self, suggestion_id: str, expected: State, state: State) -> bool:
        with self._guard:
            found = self._suggestions.get(suggestion_id)
            if found is None or found[2].state != expected:
                return False
            run, cycle, suggestion = found
            self._suggestions[suggestion_id] = (run, cycle, suggestion.model_copy(update={"state": state}))
            return True

    def change_suggestion(
        self, suggestion_id: str, change: Callable[[AnySuggestion], AnySuggestion]
    ) -> AnySuggestion | None:
        with self._guard:
            found = self._suggestions.get(suggestion_id)
            if found is None:
                return None
            run, cycle, suggestion = found
            changed = change(suggestion)
            self._suggestions[suggestion_id] = (run, cycle, changed)
            return changed

    def uses(self, run_id: str) -> list[ScenarioUse]:
        return self._sorted_uses(lambda use: use.run_id == run_id)

    def uses_of_scenario(self, scenario_id: str) -> list[ScenarioUse]:
        return self._sorted_uses(lambda use: use.scenario.id == scenario_id)

    def datasets(self, run_id: str) -> list[DatasetEntry]:
        with self._guard:
            return [entry for (run, _), entry in self._datasets.items() if run == run_id]

    def add_dataset(self, run_id: str, entry: DatasetEntry) -> bool:
        with self._guard:
            return self._datasets.setdefault((run_id, entry.name), entry) is entry

    def open_parts(self, parts: Sequence[Part]) -> Opened:
        with self._guard:
            for part in parts:
                held = self._parts.setdefault((part.run_id, part.cycle, part.state), {})
                held.setdefault(part.key, PartResult(part, None))
            first = parts[0]
            return self.parts(first.run_id, first.cycle, first.state)

    def parts(self, run_id: str, cycle: int, state: CycleState) -> Opened:
        with self._guard:
            found = tuple(self._parts.get((run_id, cycle, state), {}).values())
        return Opened(found, sum(one.result is None for one in found))

    def get_part(self, run_id: str, cycle: int, state: CycleState, key: str) -> PartResult | None:
        with self._guard:
            return self._parts.get((run_id, cycle, state), {}).get(key)

    def begin_part(self, part: Part) -> None:
        with self._guard:
            if (timed := self._open_time(part)) is not None:
                if not timed.waits:
                    timed.started, timed.tries = datetime.now(UTC), timed.tries + 1
                timed.waits = False

    def pause_part(self, part: Part) -> None:
        with self._guard:
            if (timed := self._open_time(part)) is not None:
                timed.waits = True

    def part_times(self, run_id: str) -> list[PartTime]:
        with self._guard:
            found = [
                _part_time(one, self._times[_part_key(one.part)])
                for (run, _, _), held in self._parts.items()
                if run == run_id
                for one in held.values()
            ]
        return sorted(found, key=lambda one: one.cycle)

    def begin_step(self, run_id: str, cycle: int, state: CycleState) -> int:
        with self._guard:
            self._begun[run_id, cycle, state] += 1
            return self._begun[run_id, cycle, state]

    def end_step(self, run_id: str, cycle: int, state: CycleState) -> None:
        with self._guard:
            self._begun.pop((run_id, cycle, state), None)

    def finish_part(self, part: Part, result: dict[str, Any]) -> int | None:
        with self._guard:
            held = self._parts.get((part.run_id, part.cycle, part.state), {})
            known = held.get(part.key)
            if known is None or known.result is not None:
                return None
            held[part.key] = PartResult(known.part, dict(result))
            self._times[_part_key(part)].finished = datetime.now(UTC)
            return sum(one.result is None for one in held.values())

    def reopen_failed_parts(self, run_id: str, cycle: int, state: CycleState) -> int:
        with self._guard:
            held = self._parts.get((run_id, cycle, state), {})
            failed = [key for key, one in held.items() if one.result is not None and not one.ok]
            for key in failed:
                held[key] = PartResult(held[key].part, None)
                self._times[_part_key(held[key].part)].finished = None
            return len(failed)

    def add_dead_letter(self, letter: DeadLetter) -> None:
        with self._guard:
            self._letters.setdefault((letter.run_id, letter.cycle, letter.state, letter.key), letter)

    def dead_letters(self, run_id: str | None = None, limit: int = 100) -> list[DeadLetter]:
        with self._guard:
            found = [letter for letter in self._letters.values() if run_id in (None, letter.run_id)]
        return sorted(found, key=lambda letter: letter.failed_at_utc, reverse=True)[:limit]

    def _open_time(self, part: Part) -> _Timed | None:
        known = self._parts.get((part.run_id, part.cycle, part.state), {}).get(part.key)
        return None if known is None or known.result is not None else self._times[_part_key(part)]

    def _sorted_uses(self, wanted: Any) -> list[ScenarioUse]:
        with self._guard:
            found = [use for use in self._uses.values() if wanted(use)]
        return sorted(found, key=lambda use: (use.run_id, use.cycle, use.scenario.id, use.weakness_id or ""))


def _part_key(part: Part) -> tuple[Any, ...]:
    return (part.run_id, part.cycle, part.state, part.key)


def _part_time(one: PartResult, timed: _Timed) -> PartTime:
    result = one.result or {}
    samples = result.get("n", 0) + result.get("rejected", 0) if one.part.kind == "generate" else 0
    ok = None if one.result is None else one.ok
    return PartTime(one.part.cycle, one.part.kind, timed.started, timed.finished, timed.tries, ok, samples)


def _use_key(use: ScenarioUse) -> tuple[Any, ...]:
    return (use.run_id, use.cycle, use.weakness_id, use.scenario.id, use.scenario.version, use.dataset)
