"""What a pass of the fused kernel consists of: each part alone, on the values of a real row."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit

from uqueue_worker.models.fused import kernel
from uqueue_worker.models.fused.plan import HEADER, HISTORY, RANDOM_FROM, STEP, make_plan
from uqueue_worker.models.graph import Graph

TIMES, RUNS = 50_000, 7


@njit  # type: ignore[misc]
def _masks(n: int, p: int, w: int, m: int, begin: int) -> None:
    for i in range(n):
        kernel._draw_masks(p, m, np.uint64(12345), 4 * i)


@njit  # type: ignore[misc]
def _masks_and_subtraction(n: int, p: int, w: int, m: int, begin: int) -> None:
    for i in range(n):
        kernel._draw_masks(p, m, np.uint64(12345), 4 * i)
        kernel._subtract_dropped(p, begin, w, m)


@njit  # type: ignore[misc]
def _all(n: int, p: int, w: int, m: int, begin: int) -> None:
    for i in range(n):
        kernel._draw_four(p, w, m, np.uint64(12345), 4 * i, begin)


@njit  # type: ignore[misc]
def _rule(n: int, p: int, w: int, m: int, begin: int) -> int:
    total = 0
    for _ in range(n):
        _turn, counter, _done = kernel._settle(p, m, begin, 0, 99, np.float32(1e-3), 10**6)
        total += counter
    return total


@njit  # type: ignore[misc]
def _begin(n: int, p: int, w: int, m: int, begin: int) -> None:
    for _ in range(n):
        kernel._begin_row(p, w, m, begin)


def measure_parts(graph: Graph) -> dict[str, float]:
    """Return nanoseconds per pass: masks, first random layer, the layers after it, stop rule; a row's start by itself.

    The network must have its first dropout in front of a Dense layer.
    """
    plan = make_plan(graph, "dropout")
    scratch = plan.scratch(64)
    features = np.random.default_rng(0).normal(size=graph.n_features).astype(np.float32)
    p, w, m = (array.ctypes.data for array in (plan.program, plan.weights, scratch))
    first_random = int(HEADER + STEP * plan.program[RANDOM_FROM])

    def per_pass(part: Callable[..., Any], argument: int) -> float:
        part(1, p, w, m, argument)
        best = []
        for _ in range(RUNS):
            started = time.perf_counter()
            part(TIMES, p, w, m, argument)
            best.append(time.perf_counter() - started)
        return sorted(best)[RUNS // 2] / TIMES / 4 * 1e9

    row = per_pass(_begin, features.ctypes.data) * 4
    masks = per_pass(_masks, 0)
    subtracted = per_pass(_masks_and_subtraction, first_random)
    everything = per_pass(_all, int(plan.program[HISTORY]))
    return {
        "masks": masks,
        "subtraction of dropped units": subtracted - masks,
        "later layers and heads": everything - subtracted,
        "stop rule (at the 18th pass)": per_pass(_rule, 16),
        "start of a row (once, per row)": row,
    }
