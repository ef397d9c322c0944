"""Redis is killed and started again, over and over, while jobs flow: workers stay and serve at once."""

from __future__ import annotations

import random
import time
from pathlib import Path

import numpy as np
import pytest

from builders.waiting import eventually
from chaos.audit import reckon, settle
from chaos.listener import Listener
from chaos.producers import Producers
from chaos.requests import Mix
from chaos.sizes import RESTARTS
from chaos.town import Town, running_town
from uqueue_config.errors import QueueFull, ServiceUnreachable

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1800)]
SEED = 13
MIX = Mix(slow=0.1)
ANSWER_SECONDS = 6.0


def test_workers_outlive_redis(tmp_path: Path) -> None:
    rng = random.Random(SEED)
    with running_town(tmp_path, workers=1, beats=1, env={"UQUEUE_QUEUE_LIMIT": "50"}) as town:
        pids = town.pids()
        waited: list[float] = []
        with (
            Listener(town.service.redis.url) as listener,
            Producers(town.client, SEED, MIX, tmp_path / "accepted") as producers,
        ):
            for _ in range(RESTARTS):
                time.sleep(rng.uniform(0.3, 1.5))
                town.kill_redis()
                time.sleep(rng.uniform(0, 1))
                town.revive_redis()
                waited.append(seconds_to_an_answer(town))
        producers.check()
        open_in_the_end = settle(town, producers.accepted)
        found = reckon(town, SEED, MIX, producers.accepted, listener)
        middle, late = np.quantile(waited, [0.5, 0.95])
        print(f"\n{len(waited)} restarts, first answer after {middle:.2f} s (median), {late:.2f} s (95 %),", end=" ")
        print(f"{max(waited):.2f} s (longest); {found.line()}")
        assert town.pids() == pids, "the worker's processes are the same"
        assert found.failures == {}
        assert open_in_the_end == []
        assert max(waited) <= ANSWER_SECONDS
        assert found.restarted == 0, "no acknowledgement lapsed"


@pytest.mark.parametrize("lane", ["on", "off"])
def test_a_job_under_way_outlives_redis(lane: str, tmp_path: Path) -> None:
    """Neither its progress, which nobody can note meanwhile, nor its end is a reason to fail."""
    env = {"UQUEUE_LANE": lane}
    with running_town(tmp_path, workers=1, concurrency=1, hidden=(256, 256), env=env) as town:
        job = town.client.submit(np.zeros((40_000, 8), np.float32))
        eventually(lambda: job.status().rows_total, "the job is under way")
        town.kill_redis()
        time.sleep(1.5)
        town.revive_redis()
        assert len(job.result(timeout=60)) == 40_000
        assert job.status().attempts == 1


def seconds_to_an_answer(town: Town) -> float:
    """Submit a job as soon as Redis takes one, and return how long its answer took from now."""
    began = time.monotonic()
    job = None

    def accepted() -> bool:
        nonlocal job
        try:
            job = town.client.submit(np.zeros((1, 8)))
        except (ServiceUnreachable, QueueFull):
            return False
        return True

    eventually(accepted, "a job is accepted", seconds=30)
    assert job is not None
    job.result(timeout=60)
    return time.monotonic() - began
