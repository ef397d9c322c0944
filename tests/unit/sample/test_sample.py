from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from uqueue_config.prediction import FileFingerprint, IntervalPrediction, ModelIdentity
from uqueue_worker.artifacts import read_calibration_state
from uqueue_worker.sample.__main__ import main
from uqueue_worker.sample.buildings import FEATURES, draw_buildings, mean_loads
from uqueue_worker.sample.state_file import pickled_state

RANGES = [(0.62, 0.98), (514.5, 808.5), (245, 416.5), (110.25, 220.5), (3.5, 7), (2, 5), (0, 0.4), (0, 5)]


def test_buildings_stay_in_the_documented_ranges() -> None:
    buildings = draw_buildings(5000, np.random.default_rng(1))
    assert buildings.features.shape == (5000, len(FEATURES))
    assert buildings.targets.shape == (5000, 2)
    for column, (low, high) in zip(buildings.features.T, RANGES, strict=True):
        assert low <= column.min() < column.max() <= high
    assert 3 < buildings.targets.min() < buildings.targets.max() < 60


def test_noise_grows_with_the_load() -> None:
    buildings = draw_buildings(20_000, np.random.default_rng(1))
    loads = mean_loads(buildings.features)[:, 0]
    noise = buildings.targets[:, 0] - loads
    high = loads > np.median(loads)
    assert noise[high].std() > 1.2 * noise[~high].std()


def test_the_same_stream_draws_the_same_buildings() -> None:
    first, second = (draw_buildings(10, np.random.default_rng(3)).features for _ in range(2))
    assert np.array_equal(first, second)


def test_the_state_is_an_object_of_the_absent_library() -> None:
    data = pickled_state(np.array([0.5, -0.25]), alpha=0.1)
    assert b"mccp_lib.mccp.mccp" in data
    assert "mccp_lib" not in sys.modules
    state = read_calibration_state(data)
    assert state.q_hat.tolist() == [0.5, -0.25]
    assert (state.patience, state.delta, state.max_mc, state.alpha, state.mode) == (2, 0.01, 50, 0.1, "regression")


def answer(lower: Any, upper: Any) -> dict[str, Any]:
    lower, upper = np.asarray(lower, dtype=float), np.asarray(upper, dtype=float)
    rows, file = len(lower), FileFingerprint("0" * 64, 1, 1)
    return IntervalPrediction(
        lower=lower,
        upper=upper,
        passes_used=np.ones(rows, dtype=np.int32),
        converged=np.ones(rows, dtype=bool),
        failed=np.zeros(rows, dtype=bool),
        pass_std=np.zeros((rows, 2, lower.shape[1]), dtype=np.float32),
        q_hat=np.zeros(lower.shape[1]),
        seed=1,
        stochastic=True,
        forward_mode="dropout",
        nominal_coverage=0.9,
        model=ModelIdentity("m", "v", "0" * 64, "0" * 64, file, file, None, "numpy"),
    ).to_message()


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """200 fresh rows with two targets, 0..199 and 1000..1199."""
    (tmp_path / "sample").mkdir()
    rows = [f"{row}.0,{1000 + row}.0" for row in range(200)]
    (tmp_path / "sample" / "fresh_targets.csv").write_text("\n".join(["Y1,Y2", *rows]) + "\n")
    manifest = {"n_calibration": 2000, "alpha": 0.1, "targets": {"Y1": "heating", "Y2": "cooling"}}
    (tmp_path / "sample" / "manifest.json").write_text(json.dumps(manifest))
    return tmp_path


def intervals(rows: int, missed: int) -> dict[str, Any]:
    truth = np.stack([np.arange(rows), 1000 + np.arange(rows)], axis=1).astype(float)
    lower = truth - 1
    lower[:missed] = truth[:missed] + 0.5
    return answer(lower, truth + 1)


def test_coverage_inside_its_band(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (workspace / "a.json").write_text(json.dumps(intervals(100, missed=10)))
    assert main(["coverage", str(workspace), str(workspace / "a.json")]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("heating: 90/100 covered, 90.0% (nominal 90.0%), inside the 99 % band ")
    assert out[1].startswith("cooling: 90/100 covered")


def test_coverage_outside_its_band_fails(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (workspace / "a.json").write_text(json.dumps(intervals(200, missed=60)))
    assert main(["coverage", str(workspace), str(workspace / "a.json"), "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert [(target["covered"], target["rows"], target["inside_band"]) for target in report] == [(140, 200, False)] * 2


def test_more_answers_than_fresh_rows(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (workspace / "a.json").write_text(json.dumps(intervals(201, missed=0)))
    assert main(["coverage", str(workspace), str(workspace / "a.json")]) == 2
    assert "(201, 2)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["coverage", "/nowhere", "{folder}/a.json"], "/nowhere/sample/manifest.json: No such file or directory."),
        (["coverage", "{folder}", "{folder}/none.json"], "none.json: No such file or directory."),
        (["coverage", "{folder}", "{folder}/sample/fresh_targets.csv"], "A file that should hold JSON does not."),
        (["coverage", "{folder}", "{folder}/sample/manifest.json"], "result schema None"),
        (["coverage", "{folder}", "{folder}/list.json"], "a result is a JSON object."),
        (["make", "{folder}/a.json"], "Not a directory."),
    ],
)
def test_wrong_paths_are_one_sentence(
    workspace: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    (workspace / "a.json").write_text(json.dumps(intervals(10, missed=1)))
    (workspace / "list.json").write_text("[]")
    assert main([argument.format(folder=workspace) for argument in arguments]) == 2
    captured = capsys.readouterr()
    assert sentence in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["bake"],
        ["make"],
        ["make", "x", "--epochs", "0"],
        ["make", "x", "--seed", "-1"],
        ["make", "x", "--forward-mode", "y"],
    ],
)
def test_wrong_arguments_are_one_sentence(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
