from __future__ import annotations

import json
from pathlib import Path

import pytest

from uqueue_worker.learning.demo.arms import Budget
from uqueue_worker.learning.demo.in_process import curve_of, play_targeted
from uqueue_worker.learning.demo.playing import Script, play_demo
from uqueue_worker.learning.report import TARGETED

SMALL = Budget(seed=5, cycles=1, samples_per_cycle=12, start_samples=150, pool_samples=120, test_samples=150)


def test_the_demo_plays_through_the_queue_and_leaves_a_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    play_demo(Script(SMALL, seeds=1, command="uqueue learn demo"), tmp_path / "report")
    told = capsys.readouterr()
    assert "every process was stopped" in told.err
    assert "Macro-F1 went from" in told.out
    assert {path.name for path in (tmp_path / "report").iterdir()} == {
        "index.html",
        "report.csv",
        "report.html",
        "report.json",
    }
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert report["run"]["status"] == "completed"
    assert report["cycles"][0]["samples_generated"] == SMALL.samples_per_cycle
    # The same seed in one process, without queue and database, comes to the same.
    campaign = play_targeted(SMALL, tmp_path / "files")
    assert report["comparison"]["arms"][TARGETED]["curves"] == [curve_of(campaign.cycles)]
    assert report["cycles"][0]["dataset"]["content_sha256"] == campaign.cycles[0].dataset.content_sha256
