"""A model whose calibration is right, and rows to show it with."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from builders.artifacts import mqnn_h5_bytes, write_state_pickle, write_workspace
from uqueue_worker.artifacts import ArtifactPair, LocalFilesystemProvider
from uqueue_worker.artifacts.pair import fingerprint
from uqueue_worker.models import load_interval_model
from uqueue_worker.uncertainty import conformal_quantile, cqr_scores

N_CALIBRATION = 400
#: Few passes, so that a table is answered at once.
RULE: dict[str, Any] = {"patience": 2, "delta": 1e-3, "max_mc": 12}
MODEL = mqnn_h5_bytes(hidden=(4,))


@dataclass(frozen=True)
class Rows:
    """features (rows, 8) and targets (rows, 2) that are like the calibration rows."""

    features: NDArray[np.float64]
    targets: NDArray[np.float64]

    def head(self, rows: int) -> Rows:
        return Rows(self.features[:rows], self.targets[:rows])

    def write(self, path: Path, *, targets: bool = True) -> Path:
        """Write a CSV file with a header, the targets after the features unless they are left out."""
        table = np.concatenate([self.features, self.targets], axis=1) if targets else self.features
        header = ",".join([*(f"x{n}" for n in range(8)), *(f"y{n}" for n in range(2 if targets else 0))])
        np.savetxt(path, table, delimiter=",", header=header, comments="", fmt="%r")
        return path


def draw_rows(count: int, seed: int) -> Rows:
    """Return rows whose targets depend on the features and on noise."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(count, 8))
    return Rows(features, features[:, :2] * 0.3 + rng.normal(size=(count, 2)) * 0.5)


def pair_of(model: bytes = MODEL, *, checks: bytes | None = None, **state: Any) -> ArtifactPair:
    """Return a pair whose state has the few passes of RULE, and these attributes."""
    pickled = write_state_pickle(**{**RULE, **state})
    pair = ArtifactPair("mccp-uq", model, pickled, fingerprint(model, 1), fingerprint(pickled, 2))
    return pair if checks is None else with_checks(pair, checks)


def with_checks(pair: ArtifactPair, checks: bytes) -> ArtifactPair:
    return replace(pair, checks=checks, checks_file=fingerprint(checks, 3))


@functools.cache
def right_q_hat(model: bytes = MODEL) -> NDArray[np.float64]:
    """Return the correction per target that N_CALIBRATION rows give."""
    rows = draw_rows(N_CALIBRATION, seed=7)
    answer = load_interval_model(pair_of(model, q_hat=[0.0, 0.0])).predict(rows.features, seed=3)
    return np.asarray(conformal_quantile(cqr_scores(rows.targets, answer.lower, answer.upper), 0.1))


def calibrated_workspace(root: Path, model: bytes = MODEL, **state: Any) -> LocalFilesystemProvider:
    """Write a workspace whose calibration is right, unless the attributes given say otherwise."""
    write_workspace(root, model=model, **{**RULE, "q_hat": right_q_hat(model), **state})
    return LocalFilesystemProvider(root)
