"""What every rival computes: the same row, model and kernel, and the same answer."""

from __future__ import annotations

import os
from functools import cache
from typing import Any

ROW = [[0.98, 514.5, 294.0, 110.25, 7.0, 2.0, 0.0, 0.0]]
SEED = 1
Answer = dict[str, list[list[float]]]


def redis_url() -> str:
    return os.environ["BENCH_REDIS_URL"]


@cache
def loaded() -> Any:
    """Return the model with the fused engine, loaded once per process at its first job."""
    from uqueue_worker.artifacts import LocalFilesystemProvider
    from uqueue_worker.models import load_interval_model

    return load_interval_model(LocalFilesystemProvider(os.environ["BENCH_WORKSPACE"]), engine="fused")


def predict(features: list[list[float]], seed: int) -> Answer:
    """Return the bounds of one job, as lists of one list per row."""
    return answer(loaded().predict(features, seed=seed))


def predict_many(requests: list[tuple[list[list[float]], int]]) -> list[Answer]:
    """Return the bounds of many (features, seed) jobs, evaluated together."""
    return [answer(prediction) for prediction in loaded().predict_many(requests)]


def answer(prediction: Any) -> Answer:
    return {"lower": prediction.lower.tolist(), "upper": prediction.upper.tolist()}
