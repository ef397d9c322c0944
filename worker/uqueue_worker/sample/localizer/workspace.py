"""Makes a sample localization model: trained, calibrated, measured on emitters it never saw, written to a folder."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from uqueue_config.localization import Declaration
from uqueue_worker.artifacts.declaration_file import DeclarationFile
from uqueue_worker.artifacts.pair import DECLARATION_FILE, ONNX_FILE
from uqueue_worker.sample.files import write_in_one_step
from uqueue_worker.sample.localizer.assessment import best_temperature, coverages, error_quantiles_m, squared_distances
from uqueue_worker.sample.localizer.graph import onnx_bytes, outputs_of
from uqueue_worker.sample.localizer.network import SCALE_M, train
from uqueue_worker.sample.localizer.recordings import degrees, write_recordings
from uqueue_worker.sample.localizer.scene import FREQUENCY_HZ, ORIGIN, RECEIVERS_M, SAMPLE_RATE_HZ, Floats, best_guess_m
from uqueue_worker.sample.localizer.waveform import Heard, hear

MODEL: Final = "localization_model"
# One sample of held-out emitters for every seed: a model that is trained anew is measured on the same ones.
HELD_OUT_SEED: Final = 20_261_121
_TRAINING, _CALIBRATION, HELD_OUT = range(3)
_TOLERANCE: Final = 1e-5


@dataclass(frozen=True)
class Plan:
    """How much work goes into a model."""

    training: int = 8000
    calibration: int = 2000
    held_out: int = 2000
    recordings: int = 12
    epochs: int = 10


class GraphDiffers(Exception):
    """The ONNX file does not compute what was trained."""


def make_localizer(folder: Path, *, seed: int = 0, plan: Plan | None = None, semver: str = "1.0.0") -> dict[str, Any]:
    """Train, calibrate, measure and write a model into `folder`; return the report.

    Writes models/localization_model/model.onnx and localization.json (what a worker loads), models.toml (for
    UQUEUE_MODELS), report.json, and recordings/, held-out emitters as SigMF with their true positions. Raises OSError
    where the folder cannot be written, ImportError without the extras tensorflow and onnx, GraphDiffers.
    """
    plan = plan or Plan()
    started = time.monotonic()
    training = hear(plan.training, seed=seed, stream=_TRAINING)
    calibration = hear(plan.calibration, seed=seed, stream=_CALIBRATION)
    held_out = hear(plan.held_out, seed=HELD_OUT_SEED, stream=HELD_OUT)
    simulated = time.monotonic()
    model, weights = train(training, seed=seed, epochs=plan.epochs)
    raw = np.asarray(model.predict(calibration.features, batch_size=256, verbose=0), np.float64)
    temperature = best_temperature(_distances(calibration, *outputs_of(raw, temperature=1.0)))
    data = onnx_bytes(weights, temperature=temperature)
    difference = _difference(run(data, calibration), outputs_of(raw, temperature=temperature))
    trained = time.monotonic()
    report = {
        "semver": semver,
        "seed": seed,
        **asdict(plan),
        "temperature": temperature,
        "onnx_difference": difference,
        **_measured(held_out, *run(data, held_out), n_calibration=plan.calibration),
        "scene": {"receivers": [degrees(np.array(place)) for place in RECEIVERS_M], "frequency_hz": FREQUENCY_HZ},
        "seconds": {"simulation": round(simulated - started, 1), "training": round(trained - simulated, 1)},
    }
    _write(folder, data, report)
    write_recordings(folder / "recordings", plan.recordings, seed=HELD_OUT_SEED, stream=HELD_OUT)
    return report


def run(data: bytes, heard: Heard) -> tuple[Floats, Floats]:
    """Return positions (n, 2) and uncertainties (n, 3) that ONNX Runtime computes."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    parts = [
        session.run(["positions", "uncertainties"], {"mel_spectrogram": chunk})
        for chunk in np.array_split(heard.features, max(1, len(heard.features) // 256))
    ]
    positions, uncertainties = (np.concatenate(part).astype(np.float64) for part in zip(*parts, strict=True))
    return positions, uncertainties


def _difference(ours: tuple[Floats, Floats], keras: tuple[Floats, Floats]) -> float:
    """Return the largest difference between both, in units of the scale; GraphDiffers when it is one that counts.

    Sigmas and theta are compared as covariances: where both sigmas are alike, theta is any angle.
    """
    positions = np.abs(ours[0] - keras[0]).max()
    first, second = _covariances(ours[1]), _covariances(keras[1])
    covariances = (np.abs(first - second).max(axis=(1, 2)) / np.trace(second, axis1=1, axis2=2)).max()
    worst = float(max(positions, covariances))
    if not worst <= _TOLERANCE:
        raise GraphDiffers(f"ONNX Runtime and Keras differ by {worst:.1e}; {_TOLERANCE:.0e} is rounding")
    return worst


def _covariances(uncertainties: Floats) -> Floats:
    theta = np.radians(uncertainties[:, 2])
    axes = np.array([[np.cos(theta), -np.sin(theta)], [np.sin(theta), np.cos(theta)]]).transpose(2, 0, 1)
    return np.asarray(axes * np.square(uncertainties[:, None, :2]) @ axes.transpose(0, 2, 1))


def _distances(heard: Heard, positions: Floats, uncertainties: Floats) -> Floats:
    return squared_distances(heard.positions_m - positions * SCALE_M, uncertainties)


def _measured(heard: Heard, positions: Floats, uncertainties: Floats, *, n_calibration: int) -> dict[str, Any]:
    found = coverages(_distances(heard, positions, uncertainties), n_calibration=n_calibration)
    sigmas = np.sqrt(uncertainties[:, 0] * uncertainties[:, 1])
    return {
        "error_m": error_quantiles_m(heard.positions_m - positions * SCALE_M),
        "error_of_best_guess_m": error_quantiles_m(heard.positions_m - best_guess_m(heard.snr_db)),
        "error_of_the_centre_m": error_quantiles_m(heard.positions_m),
        "sigma_m": {"p10": float(np.quantile(sigmas, 0.1)), "p90": float(np.quantile(sigmas, 0.9))},
        "coverage": [{**asdict(one), "share": one.share, "inside_band": one.inside_band} for one in found],
    }


def _write(folder: Path, data: bytes, report: dict[str, Any]) -> None:
    sha256 = hashlib.sha256(data).hexdigest()
    declaration = Declaration(
        output_encoding="metres-xy-sigma",
        position_encoding="zscore_offset_m",
        origin=ORIGIN,
        mean=(0.0, 0.0),
        std=(SCALE_M, SCALE_M),
        sample_rate_hz=SAMPLE_RATE_HZ,
        receivers=len(RECEIVERS_M),
        semver=report["semver"],
        sha256=sha256,
    )
    about = DeclarationFile(
        declaration=declaration.model_dump(mode="json", exclude_none=True),
        accuracy_meters=round(report["error_m"]["p68"], 1),
        training_samples=report["training"],
    )
    model = folder / "models" / MODEL
    write_in_one_step(model / ONNX_FILE, data)
    write_in_one_step(model / DECLARATION_FILE, about.to_json())
    catalog = f'[models.{MODEL}]\nsource = {json.dumps(str(folder.resolve()))}\nengine = "onnx"\n'
    write_in_one_step(folder / "models.toml", catalog.encode())
    write_in_one_step(folder / "report.json", json.dumps(report, indent=2).encode() + b"\n")
