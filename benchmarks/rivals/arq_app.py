"""arq; worker and client look every millisecond instead of every half second."""

from __future__ import annotations

from functools import cache
from typing import Any

from arq import create_pool
from arq.connections import ArqRedis, RedisSettings
from arq.jobs import ResultNotFound

from rivals import model
from rivals.running import many, run

LOOK_SECONDS = 0.001
QUIET = {"version": 1, "disable_existing_loggers": False}


async def predict(ctx: dict[str, Any], features: list[list[float]], seed: int) -> model.Answer:
    return model.predict(features, seed)


class WorkerSettings:
    functions = (predict,)
    redis_settings = RedisSettings.from_dsn(model.redis_url())
    poll_delay = LOOK_SECONDS


@cache
def _pool() -> ArqRedis:
    return run(create_pool(WorkerSettings.redis_settings))


def submit(count: int) -> list[str]:
    _pool()
    return [f"arq:result:{job.job_id}" for job in run(many(count, _send))]


def round_trip() -> model.Answer:
    _pool()
    return run(_round_trip())


async def _send() -> Any:
    return await _pool().enqueue_job("predict", model.ROW, model.SEED)


async def _round_trip() -> model.Answer:
    job = await _send()
    try:
        return await job.result(timeout=30, poll_delay=LOOK_SECONDS)
    except ResultNotFound:
        # It asks for the result and then for the place in the queue, and the job may end in between.
        return await job.result(timeout=30)
