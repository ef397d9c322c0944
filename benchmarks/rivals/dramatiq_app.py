"""dramatiq with the Redis broker and result backend."""

from __future__ import annotations

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

from rivals import model

results = RedisBackend(url=model.redis_url())
broker = RedisBroker(url=model.redis_url())
broker.add_middleware(Results(backend=results))
dramatiq.set_broker(broker)


@dramatiq.actor(store_results=True)
def predict(features: list[list[float]], seed: int) -> model.Answer:
    return model.predict(features, seed)


def submit(count: int) -> list[str]:
    return [results.build_message_key(predict.send(model.ROW, model.SEED)) for _ in range(count)]


def round_trip() -> model.Answer:
    return predict.send(model.ROW, model.SEED).get_result(block=True, timeout=30_000)
