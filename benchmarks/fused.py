"""Rows per second of the fused engine beside the NumPy engine, in one run.

    python benchmarks/fused.py [--json] [--activation tanh] [--everywhere] [--threads 2] [--parts]

The network is MQNN 8-128-128-64 -> 2 heads x 2 targets with dropout 0.1 after the first hidden layer (or after every
one); delta is chosen so that rows take about 36 passes. Every figure is the median of several runs in turn. `--parts`
tells what a pass consists of.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from builders.networks import mqnn
from uqueue_worker.models.fused.engine import FusedEngine, load_fused_engine
from uqueue_worker.models.graph import Graph
from uqueue_worker.models.numpy_engine import NumpyEngine
from uqueue_worker.models.randomness import row_keys
from uqueue_worker.uncertainty import adaptive_passes

ROWS = (1, 16, 256, 4096, 65536)
WANTED_PASSES = 36.0
RUNS, ENOUGH_SECONDS = 7, 0.2
RULE: dict[str, Any] = {"patience": 2, "max_passes": 50}


def main() -> None:
    options = _options()
    started = time.perf_counter()
    graph = mqnn(activation=options.activation, everywhere=options.everywhere)
    fused = load_fused_engine(graph, threads=options.threads)
    loaded = time.perf_counter() - started
    delta = delta_for(fused, WANTED_PASSES)
    report: dict[str, Any] = {
        "network": f"8-128-128-64-2x2 {options.activation}, dropout 0.1 "
        + ("everywhere" if options.everywhere else "after the first layer"),
        "kernel": fused.kernels.variant,
        "threads": options.threads,
        "load_seconds": round(loaded, 2),
        "delta": delta,
        "rows": [measure(fused, NumpyEngine(graph), n, delta) for n in ROWS],
    }
    if options.parts:
        report["nanoseconds_per_pass"] = parts(graph)
    print(json.dumps(report, indent=2) if options.json else text(report))


def measure(fused: FusedEngine, plain: NumpyEngine, n: int, delta: float) -> dict[str, Any]:
    """Return median rows per second of both engines at n rows; the engines take turns."""
    features = np.random.default_rng(n).normal(size=(n, 8)).astype(np.float32)
    keys = row_keys(n, n)
    used = fused.summary(features, keys, "dropout", delta=delta, **RULE).passes_used.mean()
    seconds_fused, seconds_numpy = [], []
    for turn in range(RUNS):
        seconds_fused.append(timed(lambda: fused.summary(features, keys, "dropout", delta=delta, **RULE)))
        if n <= 4096 or turn < 2:
            seconds_numpy.append(
                timed(lambda: adaptive_passes(plain.passes(features, keys, "dropout"), n, delta=delta, **RULE))
            )
    quick, slow = n / statistics.median(seconds_fused), n / statistics.median(seconds_numpy)
    return {
        "n": n,
        "passes": round(float(used), 1),
        "fused": round(quick),
        "numpy": round(slow),
        "ratio": round(quick / slow, 1),
        "microseconds_per_row": round(1e6 / quick, 2),
        "nanoseconds_per_pass": round(1e9 / quick / float(used), 1),
    }


def timed(run: Callable[[], object]) -> float:
    """Return seconds of one call, as the mean over a fraction of a second."""
    calls, started = 0, time.perf_counter()
    while True:
        run()
        calls += 1
        passed = time.perf_counter() - started
        if passed > ENOUGH_SECONDS:
            return passed / calls


def delta_for(engine: FusedEngine, passes: float) -> float:
    """Return a delta at which rows take about so many passes."""
    features, keys = np.random.default_rng(0).normal(size=(2000, 8)).astype(np.float32), row_keys(0, 2000)
    low, high = 1e-6, 1.0
    for _ in range(24):
        middle = (low * high) ** 0.5
        more = engine.summary(features, keys, "dropout", delta=middle, **RULE).passes_used.mean() > passes
        low, high = (middle, high) if more else (low, middle)
    return float(f"{middle:.3g}")


def parts(graph: Graph) -> dict[str, float]:
    """Return nanoseconds of a pass by part, each measured alone and repeatedly: the sum is less than the whole."""
    from fused_parts import measure_parts

    return measure_parts(graph)


def text(report: dict[str, Any]) -> str:
    lines = [f"{report['network']}; {report['kernel']} kernel, {report['threads']} thread(s), "]
    lines[0] += f"loaded in {report['load_seconds']} s, delta {report['delta']}"
    lines.append(f"{'rows':>6} {'passes':>7} {'fused/s':>9} {'numpy/s':>9} {'ratio':>6} {'us/row':>8} {'ns/pass':>8}")
    for row in report["rows"]:
        lines.append(
            f"{row['n']:>6} {row['passes']:>7} {row['fused']:>9,} {row['numpy']:>9,} {row['ratio']:>6} "
            f"{row['microseconds_per_row']:>8} {row['nanoseconds_per_pass']:>8}"
        )
    for part, nanoseconds in report.get("nanoseconds_per_pass", {}).items():
        lines.append(f"{nanoseconds:>8.1f} ns  {part}")
    return "\n".join(lines)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--activation", default="relu")
    parser.add_argument("--everywhere", action="store_true", help="dropout after every hidden layer")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--parts", action="store_true", help="what a pass consists of")
    return parser.parse_args()


if __name__ == "__main__":
    main()
