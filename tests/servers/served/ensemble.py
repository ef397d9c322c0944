"""The classifier that every server serves: softmax layers over standardised columns, from a file of weights."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np

#: A folder: each prediction leaves a byte in its file `calls`; while it has a file `slow`, each takes that much longer.
WATCHED = "WATCHED"
SLOW_SECONDS = 0.02


class Ensemble:
    """`weights` (M, F, K), `offsets` (M, 1, K), `mean` and `std` (F,), all float64."""

    def __init__(self, file: str | Path) -> None:
        with np.load(file) as arrays:
            self.weights, self.offsets, self.mean, self.std = (
                arrays[name] for name in ("weights", "offsets", "mean", "std")
            )

    def members(self, rows: Any) -> Any:
        """Return the probabilities of each member, float32 (n, M, K)."""
        columns = (np.asarray(rows, np.float64) - self.mean) / self.std
        scores = np.einsum("nf,mfk->nmk", columns, self.weights) + self.offsets[:, 0]
        raised = np.exp(scores - scores.max(axis=-1, keepdims=True))
        return np.ascontiguousarray(raised / raised.sum(axis=-1, keepdims=True), np.float32)

    def watched(self, rows: Any) -> Any:
        """Return the same; tests can see and slow it down, and what is extremely cold is not a number to it."""
        folder = Path(os.environ[WATCHED])
        with (folder / "calls").open("ab") as calls:
            calls.write(b".")
        if (folder / "slow").exists():
            time.sleep(SLOW_SECONDS)
        found = self.members(rows)
        found[np.asarray(rows)[:, -1] < 0] = np.nan
        return found
