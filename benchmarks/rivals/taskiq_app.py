"""taskiq on a Redis list, its quicker broker; the client looks for a result every millisecond."""

from __future__ import annotations

from functools import cache
from typing import Any

from taskiq_redis import ListQueueBroker, RedisAsyncResultBackend

from rivals import model
from rivals.running import many, run

LOOK_SECONDS = 0.001

broker = ListQueueBroker(model.redis_url()).with_result_backend(RedisAsyncResultBackend(model.redis_url()))


@broker.task(task_name="taskiq.predict")
async def predict(features: list[list[float]], seed: int) -> model.Answer:
    return model.predict(features, seed)


@cache
def _started() -> None:
    run(broker.startup())


def submit(count: int) -> list[str]:
    _started()
    return [task.task_id for task in run(many(count, _send))]


def round_trip() -> model.Answer:
    return run(_round_trip())


async def _send() -> Any:
    return await predict.kiq(model.ROW, model.SEED)


async def _round_trip() -> model.Answer:
    task = await _send()
    result = await task.wait_result(check_interval=LOOK_SECONDS, timeout=30)
    return result.return_value
