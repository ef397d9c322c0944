"""Trackers, and that a failing one stops nothing."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from uqueue_config.learning.references import ModelRef
from uqueue_config.learning.runs import CycleRecord, Evaluation, RunConfig, RunRecord
from uqueue_worker.learning.tracking import JsonLinesTracker, NoTracker
from uqueue_worker.learning.tracking.history import track
from uqueue_worker.learning.tracking.mlflow import MlflowTracker

NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)
MODEL = ModelRef(name="m", version="v1", sha="a" * 64)


def ended(folder: Path) -> tuple[RunRecord, CycleRecord]:
    """Return a run that ended with its first cycle."""
    config = RunConfig()
    file = folder / "feedback.json"
    file.write_text("{}")
    after = Evaluation(
        model=MODEL,
        dataset="pool",
        dataset_sha256="d",
        cycle=0,
        n_samples=2,
        metrics={"accuracy": 0.5},
        uri=str(file),
        sha256="e",
    )
    run = RunRecord(
        run_id="run-1",
        status="completed",
        config=config,
        config_hash=config.config_hash,
        stop_reason="cycles_spent",
        created_at_utc=NOW,
        updated_at_utc=NOW,
    )
    cycle = CycleRecord(
        run_id="run-1",
        cycle=0,
        state="completed",
        config_hash=config.config_hash,
        evaluation_after=after,
        test_after=after,
        model_before=MODEL,
        candidate=MODEL,
        promoted=True,
        samples_generated=12,
        stop_reason="cycles_spent",
        started_at_utc=NOW,
    )
    return run, cycle


def test_lines_say_configuration_metrics_models_artifacts_and_the_end(tmp_path: Path) -> None:
    run, cycle = ended(tmp_path)
    track(JsonLinesTracker(tmp_path / "tracked", clock=lambda: NOW), run, cycle)
    lines = [json.loads(line) for line in (tmp_path / "tracked" / "run-1.jsonl").read_text().splitlines()]
    assert [line["event"] for line in lines] == [
        "start_run",
        "params",
        "params",
        "metrics",
        "tags",
        "artifact",
        "tags",
        "end_run",
    ]
    assert lines[1]["params"]["max_cycles"] == 6
    assert lines[3]["step"] == 0
    assert lines[3]["metrics"]["pool.accuracy"] == 0.5
    assert lines[3]["metrics"]["samples.generated"] == 12
    assert lines[4]["tags"]["cycle_0.candidate"] == "v1"
    assert lines[7]["status"] == "completed"


@pytest.mark.parametrize("name", ["../outside", "", "a/b", ".hidden"])
def test_a_run_id_that_is_a_path_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="a run's id has letters"):
        JsonLinesTracker(tmp_path).start_run(name)


def test_metrics_before_a_run_began_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="call start_run first"):
        JsonLinesTracker(tmp_path).log_metrics({"x": 1.0}, step=0)


class Broken(NoTracker):
    def log_metrics(self, metrics: Any, step: int) -> None:
        raise OSError("no space left")


def test_a_failing_tracker_is_a_line_in_the_log(tmp_path: Path) -> None:
    with capture_logs() as logs:
        track(Broken(), *ended(tmp_path))
    assert [(line["event"], line["reason"]) for line in logs] == [("tracking failed", "OSError: no space left")]


def test_tracking_nothing_takes_everything(tmp_path: Path) -> None:
    with capture_logs() as logs:
        track(NoTracker(), *ended(tmp_path))
    assert logs == []


def test_mlflow_keeps_one_run_for_two_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # folders are enough to see what is stored
    run, cycle = ended(tmp_path)
    uri = f"file:{tmp_path / 'mlruns'}"
    for _ in range(2):
        track(MlflowTracker(uri), run, cycle)
    tracker = MlflowTracker(uri)
    client = tracker._connected()
    experiment = client.get_experiment_by_name("uqueue-learning")
    (found,) = client.search_runs([experiment.experiment_id])
    assert found.data.metrics["pool.accuracy"] == 0.5
    assert found.data.tags["stop_reason"] == "cycles_spent"
    assert found.data.params["max_cycles"] == "6"
    assert found.info.status == "FINISHED"
    assert [one.path for one in client.list_artifacts(found.info.run_id)] == ["feedback.json"]
