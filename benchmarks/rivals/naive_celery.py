"""The Celery app that one writes in an afternoon: JSON, results in Redis, early acknowledgement, prefork."""

from __future__ import annotations

from celery import Celery

from rivals import model

app = Celery("naive", broker=model.redis_url(), backend=model.redis_url())


@app.task(name="naive.predict")
def predict(features: list[list[float]], seed: int) -> model.Answer:
    return model.predict(features, seed)


def submit(count: int) -> list[str]:
    return [f"celery-task-meta-{predict.delay(model.ROW, model.SEED).id}" for _ in range(count)]


def round_trip() -> model.Answer:
    return predict.delay(model.ROW, model.SEED).get(timeout=30)
