"""What every step of a cycle has to say: which parts it needs, and what follows when they are done."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from uqueue_config.learning.runs import CycleRecord, CycleState, DatasetEntry, Failure, RunRecord, StopReason
from uqueue_config.learning.spots import WeakSpot
from uqueue_worker.learning.engine.parts import Part, PartKind, PartResult
from uqueue_worker.learning.engine.store import AnySuggestion, RunStore, ScenarioUse
from uqueue_worker.learning.engine.workshop import Workshop
from uqueue_worker.learning.targeting.cycle import Cycle


@dataclass(frozen=True)
class Context:
    """A run and its current cycle, as they are stored, with the results of the step's parts by key."""

    run: RunRecord
    cycle: CycleRecord
    workshop: Workshop
    store: RunStore
    now: datetime
    results: Mapping[str, PartResult] = field(default_factory=dict)

    def part(self, kind: PartKind, key: str, **payload: Any) -> Part:
        """Return a part of the current step; its key is unique within the step."""
        return Part(self.run.run_id, self.run.cycle, self.run.state, key, kind, payload)

    def result(self, key: str) -> dict[str, Any] | None:
        """Return what a part gave; None if it failed or is not there."""
        found = self.results.get(key)
        return found.result if found is not None and found.ok else None

    def failures(self) -> tuple[Failure, ...]:
        """Return what the step's parts failed with, in the order of the parts."""
        failed = [one for one in self.results.values() if one.result is not None and not one.ok]
        return tuple(Failure(**(one.result or {})["error"], step=self.run.state) for one in failed)


@dataclass(frozen=True)
class Assignment:
    """A part to be done, and what it is done with."""

    workshop: Workshop
    store: RunStore
    run: RunRecord
    part: Part


@dataclass(frozen=True)
class Move:
    """What a finished step changes. `stop` ends the run after the cycle, whatever the other rules say."""

    state: CycleState
    cycle: dict[str, Any] = field(default_factory=dict)
    run: dict[str, Any] = field(default_factory=dict)
    spots: tuple[WeakSpot, ...] = ()
    suggestions: tuple[AnySuggestion, ...] = ()
    datasets: tuple[DatasetEntry, ...] = ()
    uses: tuple[ScenarioUse, ...] = ()
    stop: StopReason | None = None


def skipped(context: Context, *more: Failure) -> Move:
    """Return the move that gives a cycle up, with all that failed in it."""
    return Move("skipped", cycle={"failures": (*context.cycle.failures, *context.failures(), *more)})


@dataclass(frozen=True)
class Step:
    """`parts` is asked again when the parts that it named are done: it may name more, of what these gave.

    `finish` is called when there are none left to do, with every result in the context. Its effects on files, models
    and scenarios can be repeated; the move that it returns is committed at once.
    """

    parts: Callable[[Context], Sequence[Part]]
    finish: Callable[[Context], Move]


def in_turn(context: Context, parts: Sequence[Part]) -> Sequence[Part]:
    """Return the parts up to the first that is not done: each may see what the ones before it stored, and which these
    are must not depend on who is quicker."""
    done = [part.key in context.results and context.results[part.key].result is not None for part in parts]
    return parts[: done.index(False) + 1] if False in done else parts


def no_parts(context: Context) -> Sequence[Part]:
    return ()


def cycle_of(run: RunRecord) -> Cycle:
    """Return the current cycle as targeting knows it."""
    return Cycle(run.run_id, run.cycle, run.config.random_seed, run.config.jitter_sigma)
