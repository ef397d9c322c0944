"""Random faults while jobs flow: every accepted job ends once, with the one right answer.

`make test` runs it briefly, `make chaos` at length (sizes.py). A failure names its seed.
"""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from builders.waiting import eventually
from chaos.audit import reckon, settle
from chaos.faults import Faults, has_ended
from chaos.listener import Listener
from chaos.producers import Producers
from chaos.requests import Mix
from chaos.sizes import FAULTS, JOBS, LANES, SEEDS
from chaos.town import running_town

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1800)]

#: As ordinary tasks jobs cost some twenty times as much.
FEWER_AS_TASKS = 5
LONG = FAULTS > 20
BREATH_SECONDS = 5.0


def mix(seed: int, jobs: int) -> Mix:
    """Poison comes early: to be given up takes it some ten seconds an attempt."""
    rng = random.Random(seed)
    early, count = (jobs // 3, 2 + jobs // 2_000) if LONG else (20, 2)
    return Mix(slow=0.1, large=0.01, poison=frozenset(rng.sample(range(early), count)))


@pytest.mark.parametrize("lane", LANES)
@pytest.mark.parametrize("seed", SEEDS)
def test_every_accepted_job_has_its_one_right_answer(seed: int, lane: str, tmp_path: Path) -> None:
    jobs, strikes = (JOBS, FAULTS) if lane == "on" else (JOBS // FEWER_AS_TASKS, max(6, FAULTS // FEWER_AS_TASKS))
    jobs_mix = mix(seed, jobs)
    # Three attempts are few where every few seconds something is killed: bad luck would give innocent jobs up.
    env = {"UQUEUE_LANE": lane, "UQUEUE_QUEUE_LIMIT": "100", "UQUEUE_MAX_ATTEMPTS": "6" if LONG else "3"}
    began = time.monotonic()
    with (
        running_town(tmp_path, workers=2, beats=2, hidden=(256, 256), env=env) as town,
        Listener(town.service.redis.url) as listener,
    ):
        faults = Faults(town, seed)
        with Producers(town.client, seed, jobs_mix, tmp_path / "accepted") as producers:
            while faults.done.total() < strikes or len(producers.accepted) < jobs:
                faults.pause(0.5, 3.0)
                wait_for_jobs(producers, (faults.done.total() + 1) * jobs // strikes)
                faults.strike()
        producers.check()
        open_after = settle(town, producers.accepted)
        faults.wake_all()
        found = reckon(town, seed, jobs_mix, producers.accepted, listener)
        print(f"\nseed {seed}, lane {lane}, {time.monotonic() - began:.0f} s: {found.line()}")
        print(f"  {faults.done.total()} faults: {dict(faults.done)}")
        print(f"  jobs in the hands of what was struck: {dict(faults.in_hand)}; open in the end: {len(open_after)}")
        assert found.failures == {}, f"seed {seed}"
        assert open_after == []
        assert found.recomputed + found.restarted > 0, "no fault hit a process at work"
        assert found.announced > 0.5 * found.jobs, "the listener was there"
        eventually(lambda: all(map(has_ended, town.leaving)), "workers that were asked to end have ended", seconds=60)
        assert not any(map(has_ended, town.workers)), "the others are there"


def wait_for_jobs(producers: Producers, count: int) -> None:
    """Let the service take on some jobs between two faults: on a busy machine it is seldom whole otherwise."""
    deadline = time.monotonic() + BREATH_SECONDS
    while len(producers.accepted) < count and time.monotonic() < deadline:
        time.sleep(0.05)
