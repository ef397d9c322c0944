"""One seed of a comparison: all policies from the same start, and several seeds put together."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from uqueue_worker.learning.demo.arms import TITLES, Budget, Grounds, play, reference
from uqueue_worker.learning.demo.deployment import CLEAN, Variant
from uqueue_worker.learning.demo.in_process import curve_of, play_targeted
from uqueue_worker.learning.report.data import TARGETED, Arm, Comparison


@dataclass(frozen=True)
class Played:
    """Macro F1 on the test set by policy, at the start and after each cycle; `promoted` is of the targeted run."""

    seed: int
    curves: dict[str, tuple[float, ...]]
    reference: float
    promoted: int
    seconds: float


def play_seed(budget: Budget, arms: Sequence[str], variant: Variant = CLEAN) -> Played:
    """Return what the policies named come to with a seed; everything is a function of the arguments."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    started, promoted = time.monotonic(), 0
    grounds = Grounds(budget, variant)
    curves = {name: tuple(play(name, grounds)) for name in arms if name != TARGETED}
    if TARGETED in arms:
        with tempfile.TemporaryDirectory(prefix="uqueue-learning-") as folder:
            cycles = play_targeted(budget, Path(folder), variant).cycles
        curves[TARGETED] = tuple(curve_of(cycles))
        promoted = sum(cycle.promoted is True for cycle in cycles)
    return Played(budget.seed, curves, reference(grounds), promoted, time.monotonic() - started)


def compared(played: Sequence[Played], samples_per_cycle: int) -> Comparison:
    """Return seeds as one comparison; the targeted policy comes first."""
    names = sorted(played[0].curves, key=lambda name: list(TITLES).index(name))
    return Comparison(
        metric="macro_f1_score",
        seeds=tuple(one.seed for one in played),
        samples_per_cycle=samples_per_cycle,
        arms=tuple(Arm(name, TITLES[name], tuple(one.curves[name] for one in played)) for name in names),
        reference=tuple(one.reference for one in played),
    )
