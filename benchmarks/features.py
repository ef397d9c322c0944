"""Milliseconds from IQ samples to features, one thread.

    python benchmarks/features.py [--json]

Prints median and 95th percentile of recipe envelope-logmel-v1 for several sizes, and of reading the samples from base64
and from nested lists, which a gateway does before.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

from uqueue_config.recipes import EnvelopeLogmel, decode_samples, read_samples

SIZES = [(1, 2048), (3, 4096), (3, 16_384), (3, 262_144)]
SECONDS = 3.0


def measure(call: Callable[[], Any]) -> dict[str, float]:
    """Return median and 95th percentile in ms over calls for three seconds, after one that fills the caches."""
    call()
    taken: list[float] = []
    end = time.perf_counter() + SECONDS
    while time.perf_counter() < end:
        begin = time.perf_counter()
        call()
        taken.append((time.perf_counter() - begin) * 1e3)
    return {"median_ms": float(np.median(taken)), "p95_ms": float(np.percentile(taken, 95)), "calls": len(taken)}


def run() -> dict[str, dict[str, float]]:
    recipe = EnvelopeLogmel()
    found = {}
    for receivers, n in SIZES:
        normal = np.random.default_rng(0).normal(size=(receivers, n, 2))
        samples = read_samples(normal, receivers=3)
        found[f"features {receivers} x {n}"] = measure(lambda samples=samples: recipe.features(samples))
    lists = np.random.default_rng(0).normal(size=(3, 16_384, 2)).tolist()
    samples = read_samples(lists, receivers=3)
    text, shape = base64.b64encode(samples.tobytes()).decode(), list(samples.shape)
    found["base64 3 x 16384"] = measure(lambda: decode_samples(text, shape, receivers=3))
    found["lists 3 x 16384"] = measure(lambda: read_samples(lists, receivers=3))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON")
    as_json = parser.parse_args().json
    found = run()
    if as_json:
        print(json.dumps(found, indent=2))
        return
    for name, row in found.items():
        print(f"{name:24} median {row['median_ms']:8.3f} ms   p95 {row['p95_ms']:8.3f} ms   {row['calls']} calls")


if __name__ == "__main__":
    main()
