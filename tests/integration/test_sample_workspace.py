from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from uqueue_worker.artifacts import LocalFilesystemProvider
from uqueue_worker.models import load_interval_model


def sample(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "uqueue_worker.sample", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=170, check=False)


@pytest.mark.parametrize("forward_mode", ["dropout", "deterministic"])
def test_make_then_measured_coverage(tmp_path: Path, forward_mode: str) -> None:
    """A sample made with Keras is served by the project's own engine, and covers fresh rows as promised."""
    made = sample("make", tmp_path, "--seed", "5", "--epochs", "6", "--forward-mode", forward_mode)
    assert (made.returncode, made.stderr) == (0, "")
    provider = LocalFilesystemProvider(tmp_path)
    assert provider.version() in made.stdout
    assert not provider.load().stale
    rows = np.loadtxt(tmp_path / "sample" / "fresh_rows.csv", delimiter=",", skiprows=1)
    assert rows.shape == (5000, 8)
    model = load_interval_model(provider, forward_mode=forward_mode)  # type: ignore[arg-type]
    answer = model.predict(rows[:3000], seed=99)
    assert answer.stochastic == (forward_mode == "dropout")
    (tmp_path / "answers.json").write_text(json.dumps(answer.to_message()))
    measured = sample("coverage", tmp_path, tmp_path / "answers.json", "--json")
    assert measured.returncode == 0, measured.stdout
    assert [target["rows"] for target in json.loads(measured.stdout)] == [3000, 3000]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["answers.json", "models", "sample", "state"]
