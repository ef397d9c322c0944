"""`uqueue localize` against a real worker: recordings right and wrong, through the queue and over HTTP."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from builders import command
from builders.gateway import RunningGateway, running_gateway
from builders.onnx_models import write_localizer
from builders.recordings import write_recording
from builders.service import RunningService, running_service
from uqueue.embedded import start_redis

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    folder = tmp_path_factory.mktemp("localize")
    write_localizer(folder / "workspace", number="7")
    models = folder / "models.toml"
    models.write_text(f'[models.localization_model]\nsource = "{folder / "workspace"}"\nengine = "onnx"\n')
    with running_service(folder, concurrency=1, beat=False, env={"UQUEUE_MODELS": str(models)}) as running:
        yield running


@pytest.fixture(scope="module")
def gateway(service: RunningService, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    with running_gateway(service.environment, tmp_path_factory.mktemp("gateway")) as running:
        yield running


@pytest.fixture(scope="module")
def localize(service: RunningService) -> Run:
    return partial(command.uqueue, service.environment, "localize")


def test_geojson_on_stdout_and_an_annotated_copy_that_is_a_recording(localize: Run, tmp_path: Path) -> None:
    recording = write_recording(tmp_path, samples=40_000)
    before = recording.read_bytes()
    outcome = localize(str(recording))
    point, ellipse = json.loads(outcome.stdout)["features"]
    assert point["geometry"]["coordinates"] == pytest.approx([5.0, 52.0], abs=0.01)
    assert ellipse["geometry"]["type"] == "Polygon"
    assert ellipse["properties"]["model_version"] == "7"
    assert recording.read_bytes() == before
    copy = tmp_path / "heard.localized.sigmf-meta"
    assert f"annotated: {copy}" in outcome.stderr
    (mark,) = json.loads(copy.read_text())["annotations"]
    assert (mark["core:sample_start"], mark["core:sample_count"]) == (11_808, 16_384)
    assert (mark["core:freq_lower_edge"], mark["core:freq_upper_edge"]) == (121.404e6, 121.596e6)
    assert [mark["uqueue:longitude"], mark["uqueue:latitude"]] == point["geometry"]["coordinates"]
    again = json.loads(localize(str(copy), "--no-annotation").stdout)
    assert again["features"][0]["geometry"] == point["geometry"]
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".sigmf-data", ".sigmf-meta", ".sigmf-meta"]


def test_windows_in_place_a_file_and_a_table(localize: Run, tmp_path: Path) -> None:
    recording = write_recording(tmp_path, samples=40_000, channels=1, sample_rate=None, sha512=None)
    target = tmp_path / "answer.geojson"
    options = ["--windows", "35", "--window-samples", "2048"]
    refused = localize(str(recording), *options, code=2)
    assert "At most 19 fit" in refused.stderr
    outcome = localize(str(recording), "--windows", "19", "--window-samples", "2048", "--annotate", "-o", str(target))
    assert "do not state core:sample_rate" in outcome.stderr
    assert "no core:sha512" in outcome.stderr
    assert len(json.loads(target.read_text())["features"]) == 38
    marks = json.loads(recording.read_text())["annotations"]
    assert [mark["core:sample_start"] for mark in marks] == sorted(mark["core:sample_start"] for mark in marks)
    assert len(marks) == 19
    assert sum(line.startswith("│") for line in outcome.stdout.splitlines()) == 19
    answers = json.loads(localize(str(recording), "--json", "--no-annotation").stdout)["answers"]
    assert answers[0]["uncertainty"]["confidence_interval"] == 0.68


def test_the_gateway_gives_the_same_answer(localize: Run, gateway: RunningGateway, tmp_path: Path) -> None:
    recording = write_recording(tmp_path, samples=40_000)
    key = tmp_path / "key"
    key.write_text("uq_any\n")
    options = ["--json", "--no-annotation", "--windows", "2"]
    ours = json.loads(localize(str(recording), *options).stdout)
    theirs = json.loads(localize(str(recording), *options, "--url", gateway.url, "--key-file", str(key)).stdout)
    for one, other in zip(ours["answers"], theirs["answers"], strict=True):
        assert {name: other[name] for name in one} == one
    slow = write_recording(tmp_path, "slow", sample_rate=12_500)
    refused = localize(str(slow), "--url", gateway.url, code=2)
    assert "The gateway refused it" in refused.stderr
    assert "12500 Hz" in refused.stderr


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"sample_rate": 12_500}, "the model reads 192000 Hz, got 12500 Hz. Resample the recording first"),
        ({"sample_rate": 194_000}, "got 194000 Hz"),
        ({"sha512": "0" * 128}, "sha512 differs"),
        ({"datatype": "rf32_le"}, "complex samples (I and Q) are needed"),
        ({"samples": 2000}, "expected 2048 to 262144 samples per receiver, got 2000"),
        ({"channels": 2}, "expected 1 or 3 receivers, got 2"),
    ],
)
def test_recordings_that_do_not_fit_are_refused(
    localize: Run, tmp_path: Path, wrong: dict[str, Any], said: str
) -> None:
    outcome = localize(str(write_recording(tmp_path, **wrong)), code=2)
    assert said in outcome.stderr
    assert outcome.stdout == ""
    assert len(list(tmp_path.iterdir())) == 2


def test_wrong_options_are_refused(localize: Run, tmp_path: Path) -> None:
    recording = str(write_recording(tmp_path / "here"))
    for options, said in (
        (["--annotate", "--no-annotation"], "give one of them"),
        (["--copy", "other.txt"], "expected a .sigmf-meta file"),
        (["--copy", str(tmp_path / "other.sigmf-meta")], "beside the recording"),
        (["--url", "ftp://127.0.0.1"], "expected http://host:port"),
        (["--model", "other"], "there is localization_model"),
        (["-o", str(tmp_path / "none" / "file")], "there is no folder"),
    ):
        code = 1 if "--model" in options else 2
        assert said in localize(recording, *options, code=code).stderr


def test_without_a_worker_or_a_gateway_it_says_so_at_once(tmp_path: Path) -> None:
    recording = str(write_recording(tmp_path))
    with start_redis(tmp_path / "redis") as redis:
        alone = partial(command.uqueue, {"UQUEUE_BROKER_URL": redis.url, "PATH": ""}, "localize", recording)
        assert "No worker serves a localization model" in alone(code=1).stderr
    assert "does not answer" in alone(code=3).stderr
    assert "does not answer" in alone("--url", "http://127.0.0.1:9", code=3).stderr
