"""celery-batches: up to 256 messages per call of the task, which stores each result itself."""

from __future__ import annotations

from typing import Any

from celery import Celery
from celery_batches import Batches

from rivals import model

MOST_JOBS = 256

app = Celery("batches", broker=model.redis_url(), backend=model.redis_url())
app.conf.worker_prefetch_multiplier = 2 * MOST_JOBS  # a batch can only hold what was prefetched


@app.task(name="batches.predict", base=Batches, flush_every=MOST_JOBS, flush_interval=0.005)
def predict(requests: list[Any]) -> None:
    answers = model.predict_many([(request.args[0], request.args[1]) for request in requests])
    for request, answer in zip(requests, answers, strict=True):
        app.backend.mark_as_done(request.id, answer, request=request)


def submit(count: int) -> list[str]:
    return [f"celery-task-meta-{predict.delay(model.ROW, model.SEED).id}" for _ in range(count)]


def round_trip() -> model.Answer:
    return predict.delay(model.ROW, model.SEED).get(timeout=30)
