"""Makes a sample workspace, and measures the coverage of answers about its fresh rows."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from uqueue_config.prediction import IntervalPrediction
from uqueue_worker.artifacts import ArtifactPair, LocalFilesystemProvider
from uqueue_worker.artifacts.pair import fingerprint
from uqueue_worker.sample.buildings import FEATURES, TARGETS, Buildings, draw_buildings
from uqueue_worker.sample.files import write_in_one_step
from uqueue_worker.sample.state_file import pickled_state
from uqueue_worker.sample.training import train_model
from uqueue_worker.uncertainty import conformal_quantile, coverage_report, cqr_scores

ALPHA: Final = 0.1
TRAINING_ROWS: Final = 4000
CALIBRATION_ROWS: Final = 2000
FRESH_ROWS: Final = 5000
# One sample of fresh rows for every seed: a model that is trained anew is asked about the same buildings.
FRESH_SEED: Final = 20_120_613


@dataclass(frozen=True)
class CoverageAnswer:
    """How many fresh rows one target's intervals held: `covered` of `rows`, expected in the band low..high."""

    target: str
    covered: int
    rows: int
    share: float
    nominal: float
    low: int
    high: int
    inside_band: bool


def make_sample(folder: Path, *, seed: int = 0, forward_mode: Any = "dropout", epochs: int = 30) -> dict[str, Any]:
    """Train, calibrate and write a workspace into `folder`; return its manifest.

    Writes models/mccp-uq/model.h5, then state/mccp-uq/mccp_state.pkl, then sample/fresh_rows.csv, fresh_targets.csv and
    manifest.json, each in one step. Calibration is split-conformal, on rows that training has not seen and with the
    stop rule and forward mode that the service uses. Raises OSError where the folder cannot be written.
    """
    provider = LocalFilesystemProvider(folder)
    training, calibration = (
        draw_buildings(rows, np.random.default_rng([seed, stream]))
        for stream, rows in enumerate((TRAINING_ROWS, CALIBRATION_ROWS))
    )
    provider.get_model_path().parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".training-", dir=folder) as unfinished:
        path = Path(unfinished, "model.h5")
        train_model(training, path, seed=seed, epochs=epochs)
        q_hat = _calibrate(path.read_bytes(), calibration, seed=seed, forward_mode=forward_mode)
        path.replace(provider.get_model_path())
    write_in_one_step(provider.get_state_path(), pickled_state(q_hat, alpha=ALPHA))
    manifest = _manifest(provider, seed, forward_mode, q_hat)
    fresh = draw_buildings(FRESH_ROWS, np.random.default_rng(FRESH_SEED))
    write_in_one_step(folder / "sample" / "fresh_rows.csv", _csv(FEATURES, fresh.features))
    write_in_one_step(folder / "sample" / "fresh_targets.csv", _csv(TARGETS, fresh.targets))
    write_in_one_step(folder / "sample" / "manifest.json", json.dumps(manifest, indent=2).encode() + b"\n")
    return manifest


def _calibrate(model: bytes, buildings: Buildings, *, seed: int, forward_mode: Any) -> NDArray[np.float64]:
    """Return q_hat (targets,), from the quantiles that the service itself predicts for these buildings."""
    from uqueue_worker.models import load_interval_model

    uncorrected = pickled_state([0.0] * len(TARGETS), alpha=ALPHA)
    pair = ArtifactPair("sample", model, uncorrected, fingerprint(model, 0), fingerprint(uncorrected, 0))
    answer = load_interval_model(pair, forward_mode=forward_mode).predict(buildings.features, seed=seed)
    scores = cqr_scores(buildings.targets, answer.lower, answer.upper)
    return np.asarray(conformal_quantile(scores, ALPHA), dtype=np.float64)


def _manifest(provider: LocalFilesystemProvider, seed: int, forward_mode: Any, q_hat: Any) -> dict[str, Any]:
    return {
        "seed": seed,
        "forward_mode": forward_mode,
        "version": provider.version(),
        "n_training": TRAINING_ROWS,
        "n_calibration": CALIBRATION_ROWS,
        "n_fresh": FRESH_ROWS,
        "alpha": ALPHA,
        "q_hat": q_hat.tolist(),
        "features": FEATURES,
        "targets": TARGETS,
    }


def measure_coverage(folder: Path, message: dict[str, Any], *, level: float = 0.99) -> list[CoverageAnswer]:
    """Return, per target, how often the intervals of a result message hold the targets of the first fresh rows.

    A row that failed counts as missed. Raises InvalidMessage for what is no result, OSError or ValueError where the
    workspace has no fresh rows, fewer than were answered, or another number of targets.
    """
    answer = IntervalPrediction.from_message(message)
    manifest = json.loads((folder / "sample" / "manifest.json").read_text())
    truth = np.loadtxt(folder / "sample" / "fresh_targets.csv", delimiter=",", skiprows=1, ndmin=2)[: len(answer)]
    if truth.shape != answer.lower.shape:
        raise ValueError(f"the answers are {answer.lower.shape}, the fresh targets {truth.shape} (rows, targets)")
    report = coverage_report(
        truth,
        answer.lower,
        answer.upper,
        n_calibration=int(manifest["n_calibration"]),
        alpha=float(manifest["alpha"]),
        level=level,
    )
    return [
        CoverageAnswer(
            str(name), int(covered), report.n_test, float(share), report.nominal, report.low, report.high, bool(inside)
        )
        for name, covered, share, inside in zip(
            manifest["targets"].values(), report.covered, report.fraction, report.plausible, strict=True
        )
    ]


def _csv(header: Iterable[str], rows: NDArray[np.float64]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows.tolist())
    return text.getvalue().encode()
