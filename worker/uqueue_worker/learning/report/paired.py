"""Policies compared by pairs: differences with their confidence interval, and how many samples a result takes. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from uqueue_worker.learning.report.data import TARGETED, Comparison

_SIGNIFICANCE = 0.95


@dataclass(frozen=True)
class Difference:
    """A mean of paired differences with its interval (Student's t, 95 %); infinite ends for fewer than two pairs."""

    mean: float
    low: float
    high: float
    pairs: int

    @property
    def verdict(self) -> str:
        """`gain`, `loss`, or `none` where the interval has 0 in it."""
        if self.low > 0:
            return "gain"
        return "loss" if self.high < 0 else "none"


def paired_difference(first: Sequence[float], second: Sequence[float]) -> Difference:
    """Return first - second, by pairs. Raises ValueError unless there is at least one pair and each is one."""
    gaps = [one - other for one, other in zip(first, second, strict=True)]
    if not gaps:
        raise ValueError("expected at least one pair")
    mean = math.fsum(gaps) / len(gaps)
    if len(gaps) < 2:
        return Difference(mean, -math.inf, math.inf, len(gaps))
    from scipy.stats import t

    variance = math.fsum((gap - mean) ** 2 for gap in gaps) / (len(gaps) - 1)
    half = float(t.ppf((1 + _SIGNIFICANCE) / 2, len(gaps) - 1)) * math.sqrt(variance / len(gaps))
    return Difference(mean, mean - half, mean + half, len(gaps))


def mean_curve(curves: Sequence[Sequence[float]]) -> list[float]:
    """Return the mean over seeds at the start and after each cycle."""
    return [math.fsum(values) / len(values) for values in zip(*curves, strict=True)]


def band(curves: Sequence[Sequence[float]]) -> list[tuple[float, float]]:
    """Return the lowest and the highest seed at the start and after each cycle."""
    return [(min(values), max(values)) for values in zip(*curves, strict=True)]


def samples_to_reach(curve: Sequence[float], value: float, samples_per_cycle: int) -> float | None:
    """Return how many samples the curve takes to reach a value, straight between cycles; None if it never does."""
    for cycle, (before, after) in enumerate(pairwise(curve)):
        if before >= value:
            return float(cycle * samples_per_cycle)
        if after >= value:
            return (cycle + (value - before) / (after - before)) * samples_per_cycle
    return float((len(curve) - 1) * samples_per_cycle) if curve and curve[-1] >= value else None


def gains(comparison: Comparison) -> dict[str, Difference]:
    """Return, by baseline, how far the targeted policy is above it after the whole budget."""
    targeted, last = comparison.arm(TARGETED), comparison.cycles
    if targeted is None:
        return {}
    return {arm.name: paired_difference(targeted.at(last), arm.at(last)) for arm in comparison.baselines}


def needed(comparison: Comparison) -> dict[str, float | None]:
    """Return, by baseline, how many samples the targeted policy takes to reach its final mean."""
    targeted, last = comparison.arm(TARGETED), comparison.cycles
    if targeted is None:
        return {}
    mean = mean_curve(targeted.curves)
    finals = {arm.name: math.fsum(arm.at(last)) / len(arm.curves) for arm in comparison.baselines}
    return {name: samples_to_reach(mean, final, comparison.samples_per_cycle) for name, final in finals.items()}
