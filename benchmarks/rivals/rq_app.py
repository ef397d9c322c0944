"""RQ with its SimpleWorker, which runs jobs in its own process; a fork per job would load the model for each."""

from __future__ import annotations

from functools import cache

from redis import Redis
from rq import Queue

from rivals import model

TOGETHER = 500
REDIS_URL = model.redis_url()  # for `rq worker --config`


def predict(features: list[list[float]], seed: int) -> model.Answer:
    return model.predict(features, seed)


@cache
def _queue() -> Queue:
    return Queue("bench", connection=Redis.from_url(REDIS_URL))


def submit(count: int) -> list[str]:
    keys: list[str] = []
    while len(keys) < count:
        size = min(TOGETHER, count - len(keys))
        jobs = _queue().enqueue_many([Queue.prepare_data(predict, (model.ROW, model.SEED)) for _ in range(size)])
        keys += [f"rq:results:{job.id}" for job in jobs]
    return keys


def round_trip() -> model.Answer:
    result = _queue().enqueue(predict, model.ROW, model.SEED).latest_result(timeout=30)
    return result.return_value
