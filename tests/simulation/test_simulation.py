"""Thousands of interleavings, a crash at every step, and defects that must be found. `make simulate` runs more of them.

A failure tells the last steps and how to repeat the run. SIMULATE_RUNS is the number of seeds, SIMULATE_SEED the first.
With no more than 2,000 of them, ordinary workers are crashed at every third step only, lanes at every one.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from simulation.faults import CRASHES
from simulation.planted import PLANTED
from simulation.scenario import SMALL, Crash, calm, small
from simulation.server import Violation
from simulation.town import Defects
from simulation.world import World

RUNS = int(os.environ.get("SIMULATE_RUNS", "2000"))
FIRST_SEED = int(os.environ.get("SIMULATE_SEED", "0"))
#: Runs of one test; so many of them take some seconds.
PORTION = 250
#: Orders of the small plan that are crashed at every step.
CRASH_SEEDS = max(1, RUNS // 2000)
#: So many seeds may pass before a planted defect is found.
MOST_SEEDS = 400
Run = Callable[..., World]


@pytest.mark.parametrize("first", range(FIRST_SEED, FIRST_SEED + RUNS, PORTION))
def test_whatever_breaks_every_job_ends_once_with_its_own_answer(simulate: Run, first: int) -> None:
    for seed in range(first, min(first + PORTION, FIRST_SEED + RUNS)):
        simulate(seed)


@pytest.mark.parametrize("among", SMALL)
@pytest.mark.parametrize("kind", CRASHES)
def test_a_crash_at_every_step(simulate: Run, kind: str, among: str) -> None:
    for seed in range(CRASH_SEEDS):
        steps = simulate(seed, small(among)).taken
        assert steps > 40
        for step in range(0, steps, 1 if among == "lanes" or RUNS > 2000 else 3):
            simulate(seed, small(among, Crash(kind, step, among)))


@pytest.mark.parametrize(("lanes", "workers"), [(1, 0), (0, 1)])
def test_a_process_that_nothing_disturbs_answers_in_order(simulate: Run, lanes: int, workers: int) -> None:
    for seed in range(20):
        book = simulate(seed, calm(lanes, workers)).book
        assert book.computed == list(book.accepted)
        assert set(book.states.values()) == {"succeeded"}


@pytest.mark.parametrize("defects", PLANTED.values(), ids=PLANTED)
def test_a_planted_defect_is_found(simulate: Run, defects: Defects) -> None:
    with pytest.raises(Violation, match="To repeat it: PYTHONPATH=tests"):
        _all(simulate, defects)


def _all(simulate: Run, defects: Defects) -> None:
    for seed in range(MOST_SEEDS):
        simulate(seed, defects=defects)


def test_a_run_is_the_same_when_it_is_repeated(simulate: Run) -> None:
    first, second = (simulate(7, memory=None) for _ in range(2))
    assert [entry[:2] for entry in first.log] == [entry[:2] for entry in second.log]
    assert first.book.computed == second.book.computed
    assert first.book.states == second.book.states
