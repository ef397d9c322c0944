"""Rows per second of the engines and of the usual per-row loop, from one row to 65,536 at a time.

    OPENBLAS_NUM_THREADS=1 python benchmarks/engines.py [--quick]

One core, dropout active, 36 passes per row on average. `fused.py` times the engines, which take turns; `kernel.py`
builds the network with Keras and runs the loop, which calls `predict` for each row and pass.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import fused
import kernel
from builders.networks import mqnn
from part import measure_part, parser, say
from uqueue_worker.artifacts import read_model_file
from uqueue_worker.models import choose_engine
from uqueue_worker.models.fused.engine import load_fused_engine
from uqueue_worker.models.numpy_engine import NumpyEngine

EVERYWHERE, FIRST_ONLY = "dropout after every hidden layer", "dropout after the first hidden layer only"
SIZES, LOOP_ROWS = fused.ROWS, 3
QUICK_SIZES, QUICK_LOOP_ROWS = (1, 256), 1


def measure(*, quick: bool) -> dict[str, Any]:
    import keras

    keras.utils.set_random_seed(0)
    pairs = {EVERYWHERE: _from_keras(keras)}
    if not quick:
        graph = mqnn()
        pairs[FIRST_ONLY] = load_fused_engine(graph), NumpyEngine(graph)
    found: dict[str, Any] = {"blas_threads": os.environ.get("OPENBLAS_NUM_THREADS", "default"), "networks": {}}
    for network, (quicker, plain) in pairs.items():
        say(f"engines, {network}")
        delta = fused.delta_for(quicker, fused.WANTED_PASSES)
        rows = [fused.measure(quicker, plain, size, delta) for size in (QUICK_SIZES if quick else SIZES)]
        found["networks"][network] = {"delta": delta, "rows": rows}
    say("per-row loop")
    delta = kernel.wanted_delta(pairs[EVERYWHERE][0])  # its rows are others, so another delta gives as many passes
    looped = kernel.build(keras, always_on=True)
    found["loop"] = kernel.time_loop(keras, looped, QUICK_LOOP_ROWS if quick else LOOP_ROWS, delta)
    return found


def _from_keras(keras: Any) -> tuple[Any, Any]:
    """Return the fused and the NumPy engine of a file that Keras saved."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.h5"
        kernel.build(keras, always_on=False).save(path)
        data = path.read_bytes()
    checked = read_model_file(data)
    return choose_engine(data, checked, "fused"), choose_engine(data, checked, "numpy")


def main() -> None:
    given = parser(__doc__).parse_args()
    measure_part("engines", given, lambda: measure(quick=given.quick))


if __name__ == "__main__":
    main()
