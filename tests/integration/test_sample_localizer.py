"""A sample localization model, made with little work: what is written, and what a real registry gets of it."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from builders import command
from builders.mlflow_server import registry_client
from uqueue.localization import read_recording
from uqueue_config.catalog import Catalog
from uqueue_config.localization import Declaration
from uqueue_config.recipes import EnvelopeLogmel
from uqueue_config.settings import Settings
from uqueue_worker.artifacts.declaration_file import DeclarationFile
from uqueue_worker.sample.localizer.graph import onnx_bytes, outputs_of
from uqueue_worker.sample.localizer.network import CONVOLUTIONS, Weights
from uqueue_worker.sample.localizer.registration import register
from uqueue_worker.sample.localizer.scene import RECEIVERS_M
from uqueue_worker.sample.localizer.waveform import Heard
from uqueue_worker.sample.localizer.workspace import HELD_OUT, HELD_OUT_SEED, MODEL, run
from uqueue_worker.sample.registry_server import serving

LITTLE = ["--training=64", "--calibration=100", "--held-out=100", "--recordings=2", "--epochs=1"]


def localizer(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "uqueue_worker.sample.localizer", *map(str, arguments)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=170, check=False)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("localizer")
    outcome = localizer(folder, *LITTLE, "--json", "--semver", "0.1.0")
    assert outcome.returncode in (0, 1), outcome  # 1: a hundred emitters may be outside the band
    assert outcome.stderr == ""
    return folder, json.loads(outcome.stdout)


def test_the_folder_holds_model_declaration_report_and_recordings(made: tuple[Path, dict[str, Any]]) -> None:
    folder, report = made
    data = (folder / "models" / MODEL / "model.onnx").read_bytes()
    about = DeclarationFile.parse((folder / "models" / MODEL / "localization.json").read_bytes())
    declared = about.declared()
    assert declared.sha256 == hashlib.sha256(data).hexdigest()
    assert (declared.semver, declared.defaulted) == ("0.1.0", ())
    assert about.training_samples == 64
    assert about.accuracy_meters == pytest.approx(report["error_m"]["p68"], abs=0.1)
    assert json.loads((folder / "report.json").read_text()) == report
    assert report["onnx_difference"] <= 1e-5
    spec = Catalog.load(Settings.load({"UQUEUE_MODELS": str(folder / "models.toml")})).models[MODEL]
    assert (spec.source, spec.engine) == (str(folder), "onnx")
    assert [one["of"] for one in report["coverage"]] == [100, 100]
    assert report["error_of_best_guess_m"]["p68"] < report["error_of_the_centre_m"]["p68"]


def test_recordings_hold_what_was_simulated(made: tuple[Path, dict[str, Any]]) -> None:
    from uqueue_worker.sample.localizer.waveform import draw

    folder = made[0] / "recordings"
    truth = json.loads((folder / "truth.json").read_text())
    assert [one["recording"] for one in truth] == ["000", "001"]
    for index, one in enumerate(truth):
        metadata, data = ((folder / f"{one['recording']}.sigmf-{part}").read_bytes() for part in ("meta", "data"))
        recording = read_recording(metadata, data)
        _, samples = draw(HELD_OUT_SEED, HELD_OUT, index)
        assert recording.sha512_checked
        assert np.abs(recording.samples - samples).max() < 2**-15
        # 16 bits are enough: the features hardly move.
        ours, exact = (EnvelopeLogmel().features(one)["mel_spectrogram"] for one in (recording.samples, samples))
        assert np.abs(ours - exact).max() < 0.05


@pytest.mark.parametrize("rows", [1, 7])
def test_the_graph_computes_the_layers_and_the_angle(rows: int) -> None:
    """Against a slow NumPy version, with weights that reach every quadrant of the direction."""
    rng = np.random.default_rng(4)
    channels = [3, *(filters for filters, _, _ in CONVOLUTIONS)]
    kernels = [
        rng.normal(0, 0.1, (*size, channels[layer], filters)).astype(np.float32)
        for layer, (filters, size, _) in enumerate(CONVOLUTIONS)
    ]
    kernels += [rng.normal(0, 0.05, shape).astype(np.float32) for shape in ((672, 64), (64, 6))]
    weights = Weights(kernels, [rng.normal(0, 0.1, kernel.shape[-1]).astype(np.float32) for kernel in kernels])
    features = (3 * rng.standard_normal((rows, 3, 128, 32))).astype(np.float32)
    expected = outputs_of(forward(weights, features.astype(np.float64)), temperature=1.5)
    found = run(onnx_bytes(weights, temperature=1.5), Heard(features, np.empty((rows, 2)), np.empty((rows, 3))))
    for ours, slow in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, slow, rtol=1e-4, atol=1e-4)


def forward(weights: Weights, features: Any) -> Any:
    hidden = features.transpose(0, 2, 3, 1)
    for (_, size, strides), kernel, bias in zip(CONVOLUTIONS, weights.kernels, weights.biases, strict=False):
        windows = np.lib.stride_tricks.sliding_window_view(hidden, size, axis=(1, 2))
        hidden = windows[:, :: strides[0], :: strides[1]]
        hidden = np.maximum(np.einsum("nhwcij,ijco->nhwo", hidden, kernel) + bias, 0)
    hidden = np.maximum(hidden.reshape(len(hidden), -1) @ weights.kernels[-2] + weights.biases[-2], 0)
    return hidden @ weights.kernels[-1] + weights.biases[-1]


def test_a_real_registry_gets_versions_with_their_declaration(
    made: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    folder = made[0]
    with serving(tmp_path / "mlflow") as url:
        assert [register(folder, MODEL, url) for _ in range(2)] == ["1", "2"]
        client = registry_client(url)
        version = client.get_model_version_by_alias(MODEL, "production")
        assert str(version.version) == "2"
        about = DeclarationFile.parse((folder / "models" / MODEL / "localization.json").read_bytes())
        assert Declaration.read(version.tags) == about.declared()
        assert float(version.tags["accuracy_meters"]) == about.accuracy_meters
        assert int(version.tags["training_samples"]) == 64
        fetched = client.download_artifacts(version.run_id, "model/model.onnx", str(tmp_path))
        assert hashlib.sha256(Path(fetched).read_bytes()).hexdigest() == version.tags["sha256"]
        assert client.get_run(version.run_id).data.metrics["accuracy_meters"] == about.accuracy_meters
        assert len(RECEIVERS_M) == int(version.tags["receivers"])


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--training=0"], 2, "whole number of at least 1"),
        (["--calibration=5"], 2, "at least 100"),
    ],
)
def test_wrong_arguments_are_a_sentence(tmp_path: Path, arguments: list[str], code: int, said: str) -> None:
    outcome = localizer(tmp_path / "sample", *arguments)
    assert outcome.returncode == code
    assert said in outcome.stderr
    assert "Traceback" not in outcome.stderr


def test_a_registry_that_is_not_there_is_noticed_before_training(tmp_path: Path) -> None:
    arguments = ["sample-localizer", str(tmp_path / "sample"), "--register", "http://127.0.0.1:9"]
    assert "MLflow at http://127.0.0.1:9" in command.uqueue(os.environ, *arguments, code=3).stderr
    assert not (tmp_path / "sample").exists()
