"""Compile the kernels ahead of the first model, for images and installations: python -m uqueue_worker.models.fused."""

from __future__ import annotations

import sys
import time

import numpy as np

from uqueue_worker.models import activations
from uqueue_worker.models.fused.compiled import KernelUnavailable
from uqueue_worker.models.fused.engine import load_fused_engine
from uqueue_worker.models.graph import Dense, Graph, Input, Node


def main() -> int:
    """Load a network of one layer, which compiles every kernel entry. Return the exit code."""
    layer = Dense(np.eye(2, dtype=np.float32), np.zeros(2, np.float32), activations.linear)
    graph = Graph((Node(Input(), (), 2), Node(layer, (0,), 2)), n_features=2, n_targets=1, words_per_pass=0)
    started = time.perf_counter()
    try:
        engine = load_fused_engine(graph)
    except KernelUnavailable as error:
        print(f"the fused engine is not available: {error}", file=sys.stderr)  # noqa: T201
        return 1
    seconds = time.perf_counter() - started
    print(f"{engine.kernels.variant} kernel ready after {seconds:.1f} s", file=sys.stderr)  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
