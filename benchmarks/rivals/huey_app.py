"""huey on Redis; the client looks for a result every millisecond, which leaves the worker more time than to notify."""

from __future__ import annotations

from huey import RedisHuey

from rivals import model

LOOK_SECONDS = 0.001

huey = RedisHuey("bench", url=model.redis_url())


@huey.task()
def predict(features: list[list[float]], seed: int) -> model.Answer:
    return model.predict(features, seed)


def submit(count: int) -> list[str]:
    return [predict(model.ROW, model.SEED).id for _ in range(count)]


def round_trip() -> model.Answer:
    return predict(model.ROW, model.SEED).get(blocking=True, timeout=30, max_delay=LOOK_SECONDS)
