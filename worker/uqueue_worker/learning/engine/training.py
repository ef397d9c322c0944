"""Training: a candidate from the start set and everything that the cycles added."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from uqueue_config.learning.references import DatasetRef, ModelRef
from uqueue_config.learning.runs import DatasetEntry
from uqueue_worker.learning.engine.files import key_name
from uqueue_worker.learning.engine.parts import Part, PartKind
from uqueue_worker.learning.engine.samples import check_unseen, sample_ids
from uqueue_worker.learning.engine.steps import Assignment, Context, Move, Step, skipped
from uqueue_worker.learning.simulator.runs import derived_seed

_TRAIN = "train"


def train_part(
    context: Context, kind: PartKind, key: str, datasets: Sequence[DatasetEntry], parent: ModelRef | None
) -> Part:
    """Return the part that trains a version; its key says what it is trained on and how."""
    return context.part(
        kind,
        key,
        datasets=[one.ref.model_dump() for one in datasets],
        contents=[one.content_sha256 for one in datasets],
        parent=None if parent is None else parent.model_dump(),
    )


def train(job: Assignment) -> dict[str, Any]:
    """Train a version, or find it where that was done before. Raises an ActiveLearningError."""
    run, part = job.run, job.part
    config = run.config
    datasets = [DatasetRef.model_validate(one) for one in part.payload["datasets"]]
    parent = part.payload["parent"]
    test = run.dataset("test")
    if test is not None:
        for one in datasets:
            check_unseen(test, sample_ids(one), "training")
    seed = derived_seed(config.random_seed, "training") % 2**32
    key = key_name(part.payload["contents"], config.training, seed)
    started = time.monotonic()
    model = job.workshop.trainer.train(
        model=config.model,
        key=key,
        datasets=datasets,
        parent=None if parent is None else ModelRef.model_validate(parent),
        seed=seed,
        hyper_parameters=config.training,
    )
    return {"ok": True, "model": model.model_dump(), "seconds": time.monotonic() - started}


def _parts(context: Context) -> Sequence[Part]:
    return [train_part(context, "train", _TRAIN, context.run.training_sets(), context.run.model)]


def _finish(context: Context) -> Move:
    trained = context.result(_TRAIN)
    if trained is None:
        return skipped(context)
    model = ModelRef.model_validate(trained["model"])
    datasets = tuple(entry.ref for entry in context.run.training_sets())
    changes = {"candidate": model, "training_datasets": datasets, "training_seconds": trained["seconds"]}
    return Move("re_evaluating", cycle=changes)


TRAINING = Step(_parts, _finish)
