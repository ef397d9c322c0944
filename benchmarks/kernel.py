"""Rows per second of our engines, beside the loop that the usual consumer runs.

    python benchmarks/kernel.py [--quick] [--json]

One network, 8-128-128-64 with dropout 0.1 after each hidden layer and two heads of two targets; the same rows and the
same stop rule (patience 2, at most 50 passes, delta set so that a row takes some 36 passes) for everyone. The loop is

    for each row, for each pass: model.predict(row[None], verbose=0); keras.backend.clear_session()

in two variants, each timed on a few rows and extrapolated per row:

    loop, dropout off   Dropout(...)(x, training=True), which Keras 3 switches off under predict: patience + 1 equal
                        passes. The cheaper one, and what a consumer of such a file gets; our deterministic mode is its
                        match.
    loop, dropout on    an always-on Dropout subclass, as many passes as the rule asks for; our dropout mode is its
                        match.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
from numpy.typing import NDArray

from uqueue_worker.artifacts import read_model_file
from uqueue_worker.models import Engine, ForwardMode, choose_engine
from uqueue_worker.models.engine import SummarizingEngine
from uqueue_worker.models.randomness import row_keys
from uqueue_worker.uncertainty import PassSummary, adaptive_passes

FEATURES, HIDDEN, TARGETS, RATE = 8, (128, 128, 64), 2, 0.1
PATIENCE, MAX_PASSES, WANTED_PASSES = 2, 50, 36
SIZES = (1, 16, 256, 4096)
TINY = np.finfo(np.float32).tiny

Float32 = NDArray[np.float32]


def build(keras: Any, always_on: bool) -> Any:
    class MCDropout(keras.layers.Dropout):  # type: ignore[name-defined,misc]
        def call(self, inputs: Any, training: Any = None) -> Any:
            return super().call(inputs, training=True)

    inputs = keras.Input((FEATURES,))
    normalize = keras.layers.Normalization()
    normalize.adapt(rows(1000, seed=1))
    x = normalize(inputs)
    for units in HIDDEN:
        x = keras.layers.Dense(units, activation="relu")(x)
        x = MCDropout(RATE)(x) if always_on else keras.layers.Dropout(RATE)(x, training=True)
    return keras.Model(inputs, [keras.layers.Dense(TARGETS, name=name)(x) for name in ("q0", "q1")])


def rows(n: int, seed: int = 0) -> Float32:
    return np.random.default_rng(seed).normal(3, 2, (n, FEATURES)).astype(np.float32)


def answer(engine: Engine, features: Float32, first_row: int, delta: float, mode: ForwardMode) -> PassSummary:
    keys = row_keys(5, len(features), first_row)
    if isinstance(engine, SummarizingEngine):
        return engine.summary(features, keys, mode, patience=PATIENCE, delta=delta, max_passes=MAX_PASSES)
    draw = engine.passes(features, keys, mode)
    return adaptive_passes(draw, len(features), patience=PATIENCE, delta=delta, max_passes=MAX_PASSES)


def wanted_delta(engine: Engine) -> float:
    """Return the delta at which a row takes WANTED_PASSES on average."""
    low, high = 1e-6, 1.0
    for _ in range(25):
        delta = float(np.sqrt(low * high))
        passes = answer(engine, rows(512), 0, delta, "dropout").passes_used.mean()
        low, high = (delta, high) if passes > WANTED_PASSES else (low, delta)
    return delta


def time_engine(engine: Engine, n: int, delta: float, mode: ForwardMode, seconds: float) -> dict[str, Any]:
    """Call with n rows at a time, other rows in every call, until `seconds` are over; the mean call counts."""
    pool = rows(max(4096, n))
    answer(engine, pool[:n], 0, delta, mode)
    took, passes, first, began = [], [], 0, time.perf_counter()
    while len(took) < 3 or time.perf_counter() - began < seconds:
        start = time.perf_counter()
        summary = answer(engine, pool[first : first + n], first, delta, mode)
        took.append(time.perf_counter() - start)
        passes.append(float(summary.passes_used.mean()))
        first = (first + n) % (len(pool) - n + 1)
    return {"rows_per_second": n / float(np.mean(took)), "passes_per_row": float(np.mean(passes)), "calls": len(took)}


def time_loop(keras: Any, model: Any, n: int, delta: float) -> dict[str, Any]:
    """Run the usual consumer's loop over n rows."""
    table = rows(n)
    model.predict(table[:1], verbose=0)
    used = []
    start = time.perf_counter()
    for row in table:
        history: list[Any] = []
        counter, previous = 0, None
        while len(history) < MAX_PASSES and (not history or counter < PATIENCE):
            history.append(np.stack([head[0] for head in model.predict(row[None], verbose=0)]))
            keras.backend.clear_session()
            current = np.std(np.stack(history), axis=0)
            if previous is not None:
                counter = counter + 1 if np.all(np.abs(previous - current) <= delta) else 0
            previous = current
        used.append(len(history))
    seconds = time.perf_counter() - start
    return {"rows_per_second": n / seconds, "passes_per_row": float(np.mean(used)), "rows_timed": n}


def measure(quick: bool, progress: Callable[[str], None]) -> dict[str, Any]:
    import keras

    keras.utils.set_random_seed(0)
    plain = build(keras, always_on=False)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.h5"
        plain.save(path)
        data = path.read_bytes()
    checked = read_model_file(data)
    engines = {name: choose_engine(data, checked, name) for name in ("fused", "numpy", "tensorflow")}  # type: ignore[arg-type]
    delta = wanted_delta(engines["numpy"])
    sizes = SIZES[:3] if quick else SIZES
    found: dict[str, Any] = {"machine": machine(), "delta": delta, "engines": {}, "loops": {}}
    for mode in ("dropout", "deterministic"):
        for name, engine in engines.items():
            progress(f"{name}, {mode} mode")
            timings = {n: time_engine(engine, n, delta, mode, 0.5 if quick else 3.0) for n in sizes}
            found["engines"][f"{name} {mode}"] = timings
    progress("loop, dropout off")
    found["loops"]["off"] = time_loop(keras, plain, 2 if quick else 10, delta)
    progress("loop, dropout on")
    found["loops"]["on"] = time_loop(keras, build(keras, always_on=True), 1 if quick else 3, delta)
    return found


def machine() -> dict[str, Any]:
    import h5py
    import keras
    import tensorflow as tf

    model = platform.processor()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model)
    versions = {
        "numpy": np.__version__,
        "keras": keras.__version__,
        "tensorflow": tf.__version__,
        "h5py": h5py.__version__,
    }
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "system": platform.platform(),
        "python": platform.python_version(),
        "blas_threads": os.environ.get("OPENBLAS_NUM_THREADS", "default"),
        **versions,
    }


def table(found: dict[str, Any]) -> str:
    lines = [", ".join(f"{name} {value}" for name, value in found["machine"].items()), ""]
    lines.append(f"delta {found['delta']:.2e}, patience {PATIENCE}, at most {MAX_PASSES} passes; rows per second:")
    for kind, loop in found["loops"].items():
        lines.append(
            f"  loop, dropout {kind:<4}{loop['rows_per_second']:>10.3f}   {loop['passes_per_row']:.1f} passes per row; "
            f"timed on {loop['rows_timed']} rows, taken to be the same for any number of rows"
        )
    lines += [
        "",
        f"  {'engine':<26}{'rows per call':>14}{'rows/s':>10}{'passes/row':>12}{'x loop off':>12}{'x loop on':>12}",
    ]
    for name, timings in found["engines"].items():
        for n, timing in timings.items():
            speed = timing["rows_per_second"]
            ratios = [speed / max(found["loops"][kind]["rows_per_second"], TINY) for kind in ("off", "on")]
            shown = f"{n:>14}{speed:>10.0f}{timing['passes_per_row']:>12.1f}"
            lines.append(f"  {name:<26}{shown}{ratios[0]:>12,.0f}{ratios[1]:>12,.0f}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Rows per second of the engines and of the usual per-row loop.")
    parser.add_argument("--quick", action="store_true", help="shorter, without the largest table")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    found = measure(options.quick, lambda step: print(f"... {step}", file=sys.stderr))
    print(json.dumps(found, indent=2) if options.json else table(found))


if __name__ == "__main__":
    main()
