"""uqueue: `Client`, and beside it a program that knows nothing but Celery. The worker is the package's own."""

from __future__ import annotations

import os
from functools import cache

import numpy as np
from celery import Celery

import uqueue
from rivals import model


@cache
def _client() -> uqueue.Client:
    return uqueue.Client()


@cache
def _celery() -> Celery:
    return Celery(broker=model.redis_url(), backend=model.redis_url())


def submit(count: int) -> list[str]:
    return [f"celery-task-meta-{job.id}" for job in _client().submit_many([model.ROW] * count)]


def round_trip() -> model.Answer:
    return model.answer(_client().submit(model.ROW, seed=model.SEED).result(timeout=30))


def stock_round_trip() -> model.Answer:
    request = {"features": model.ROW, "seed": model.SEED}
    return _celery().send_task("uqueue.predict", kwargs=request, queue="predictions").get(timeout=30)


def rows_round_trip() -> dict[str, int]:
    """Send one job of BENCH_ROWS rows and say how many came back."""
    prediction = _client().submit(_table(int(os.environ["BENCH_ROWS"])), seed=model.SEED).result(timeout=60)
    return {"lower": len(prediction.lower), "upper": len(prediction.upper)}


@cache
def _table(rows: int) -> np.ndarray:
    around = np.array(model.ROW) * (1 + 0.1 * np.random.default_rng(0).normal(size=(rows, 1)))
    return around.astype(np.float32)
