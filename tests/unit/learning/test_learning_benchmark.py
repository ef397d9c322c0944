from __future__ import annotations

import importlib.util
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from uqueue_worker.learning.demo.arms import Budget
from uqueue_worker.learning.demo.deployment import CLEAN
from uqueue_worker.learning.demo.seeds import Played, compared
from uqueue_worker.learning.report.export import comparison_json

ROOT = Path(__file__).parents[3]
ARMS = ("targeted", "random_box", "random_deployment", "same", "errors_first")


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("learning_benchmark", ROOT / "benchmarks/learning.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def results(gain: float) -> dict[str, Any]:
    """Return what a measurement of three seeds and two cycles gives: all arms equal but the targeted one."""
    played = [
        Played(
            seed,
            {name: (0.9, 0.91, 0.92 + (gain + seed / 1000 if name == "targeted" else 0.0)) for name in ARMS},
            reference=0.93,
            promoted=2,
            seconds=1.0,
        )
        for seed in range(3)
    ]
    budget = {name: value for name, value in asdict(Budget(0, cycles=2)).items() if name != "seed"}
    found = {"variant": asdict(CLEAN), "budget": budget, "seconds": 3.0, **comparison_json(compared(played, 48))}
    return {"variants": {"clean": found}}


@pytest.mark.parametrize(
    ("gain", "words"), [(0.02, "a gain of +0.0210"), (-0.02, "a loss: -0.0190"), (-0.001, "no gain that is told")]
)
def test_the_page_says_what_came_out(benchmark: ModuleType, gain: float, words: str) -> None:
    page = benchmark.page(results(gain))
    (line,) = [one for one in page.splitlines() if one.startswith("| random deployment |")]
    assert words in line
    assert "gives 0.9300" in page
    assert "3 paired seeds" in page


def test_the_picture_is_one(benchmark: ModuleType, tmp_path: Path) -> None:
    benchmark.draw(tmp_path / "learning.png", results(0.02))
    assert (tmp_path / "learning.png").read_bytes().startswith(b"\x89PNG")
