"""What a tracker is told of a cycle that came to its end."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import structlog

from uqueue_config.learning.runs import CycleRecord, RunRecord
from uqueue_worker.learning.tracking.tracker import Tracker

_log = structlog.get_logger("uqueue.learning.tracking")


def track(tracker: Tracker, run: RunRecord, cycle: CycleRecord) -> None:
    """Tell a tracker of a cycle, and of the run's end if it was the last one. What it raises is logged."""
    try:
        _track(tracker, run, cycle)
    except Exception as error:  # whatever a tracker raises, the run goes on
        reason = f"{type(error).__name__}: {error}"[:500]
        _log.warning("tracking failed", run_id=run.run_id, cycle=cycle.cycle, reason=reason)


def _track(tracker: Tracker, run: RunRecord, cycle: CycleRecord) -> None:
    tracker.start_run(run.run_id)
    if cycle.cycle == 0:
        tracker.log_params(run.config.model_dump(mode="json"))
        tracker.log_params({"config_hash": run.config_hash, **_hardware()})
    tracker.log_metrics(_metrics(cycle), step=cycle.cycle)
    tracker.set_tags({f"cycle_{cycle.cycle}.{name}": value for name, value in _told(run, cycle).items()})
    if cycle.evaluation_after is not None:
        tracker.log_artifact(Path(cycle.evaluation_after.uri))
    if run.ended:
        tracker.set_tags({"stop_reason": run.stop_reason or "none"})
        tracker.end_run(run.status)


def _metrics(cycle: CycleRecord) -> dict[str, float]:
    splits = {"pool": cycle.evaluation_after, "test": cycle.test_after}
    found = {f"{split}.{name}": value for split, one in splits.items() if one for name, value in one.metrics.items()}
    counts = {"requested": cycle.samples_requested, "generated": cycle.samples_generated}
    counts["rejected"] = cycle.samples_rejected
    return {
        **found,
        **{f"samples.{name}": float(value) for name, value in counts.items()},
        **{f"seconds.{name}": value for name, value in cycle.seconds.items()},
        **({} if cycle.training_seconds is None else {"seconds.of_training": cycle.training_seconds}),
        "weak_spots": float(len(cycle.spot_ids)),
        "promoted": float(bool(cycle.promoted)),
    }


def _told(run: RunRecord, cycle: CycleRecord) -> dict[str, str]:
    """Return what is text: states, versions, fingerprints."""
    before, after = cycle.model_before, cycle.candidate
    data = cycle.dataset
    return {
        "state": cycle.state,
        "model_before": before.version if before else "none",
        "candidate": after.version if after else "none",
        "promotion": cycle.promotion_reason or "none",
        "dataset": data.ref.sha256 if data else "none",
        "schema": data.ref.schema_fingerprint if data else "none",
        "scenarios": str(len(cycle.plan)),
        "stop_reason": cycle.stop_reason or "none",
    }


def _hardware() -> dict[str, str]:
    return {"machine": platform.machine(), "system": platform.system(), "cpus": str(os.cpu_count())}
