"""Evaluations of models as parts: the work, and what the steps say of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from uqueue_config.learning.feedback import ModelPerformanceData
from uqueue_config.learning.references import ModelRef
from uqueue_config.learning.runs import DatasetEntry, Evaluation
from uqueue_worker.learning.engine.files import file_sha256, key_name, read_feedback, write_json_once
from uqueue_worker.learning.engine.parts import NotYet, Part
from uqueue_worker.learning.engine.steps import Assignment, Context
from uqueue_worker.learning.errors import DatasetFormat

POOL, TEST = "pool", "test"
FIELD: Literal["field"] = "field"


def evaluation_part(context: Context, model: ModelRef, entry: DatasetEntry) -> Part:
    """Return the part that evaluates a model on the test set (numbers only), or on another one (every sample)."""
    return context.part(
        "evaluate", evaluation_key(entry), model=model.model_dump(), dataset=entry.model_dump(mode="json")
    )


def evaluation_key(entry: DatasetEntry) -> str:
    """Return the key of that part; there may be several sets of samples from the field."""
    return f"evaluate:{entry.role}" + (f":{entry.name}" if entry.role == FIELD else "")


def evaluation_result(context: Context, role: str) -> Evaluation | None:
    """Return the evaluation of that role if its part is done and went well."""
    found = context.result(f"evaluate:{role}")
    return None if found is None else Evaluation.model_validate(found["evaluation"])


def evaluate(job: Assignment) -> dict[str, Any] | NotYet:
    """Evaluate a model and write the feedback to a file; where that was done before, the file says what came of it.

    Raises an ActiveLearningError.
    """
    model = ModelRef.model_validate(job.part.payload["model"])
    entry = DatasetEntry.model_validate(job.part.payload["dataset"])
    name = key_name(job.run.run_id, "feedback", model.version, entry.ref.sha256)
    path = job.workshop.folder(job.run.run_id, "feedback") / f"{name}.json"
    if not path.is_file():
        found = job.workshop.evaluator.evaluate(
            entry.ref.uri, model, n_samples=entry.ref.n, every_sample=entry.role != TEST
        )
        if isinstance(found, NotYet):
            return found
        _check_metric(found, job.run.config.target_metric)
        write_json_once(path, found.to_message())
    evaluation = _evaluation(path, model, entry, job.part.cycle)
    return {"ok": True, "evaluation": evaluation.model_dump(mode="json")}


def _evaluation(path: Path, model: ModelRef, entry: DatasetEntry, cycle: int) -> Evaluation:
    sha256 = file_sha256(path)
    found = read_feedback(str(path), sha256)
    return Evaluation(
        model=model,
        dataset=entry.name,
        dataset_sha256=entry.ref.sha256,
        cycle=cycle,
        n_samples=found.n_samples or entry.ref.n,
        metrics=dict(found.overall_metrics),
        recalls={name: metrics.recall for name, metrics in found.per_class_metrics.items()},
        uri=str(path),
        sha256=sha256,
    )


def _check_metric(found: ModelPerformanceData, metric: str) -> None:
    if metric not in found.overall_metrics:
        names = ", ".join(sorted(found.overall_metrics))
        raise DatasetFormat(dataset="feedback", reason=f"it has no metric {metric}; it has {names}")
