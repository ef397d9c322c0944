"""Processes that die inside a batch: where jobs are handed out, computed and stored, and not between."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from chaos.audit import reckon, settle
from chaos.listener import Listener
from chaos.producers import Flood
from chaos.requests import Mix
from chaos.sizes import KILL_POINTS, KILLS
from chaos.town import running_town

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1800)]
SEED = 7
#: Half of the batches do not get through.
SHARE = 0.5


def test_kills_inside_a_batch_lose_and_double_nothing(tmp_path: Path) -> None:
    began = time.monotonic()
    env = {"CHAOS_KILLS": str(KILLS), "CHAOS_KILL_SHARE": str(SHARE), "CHAOS_KILL_POINTS": KILL_POINTS}
    env["UQUEUE_MAX_ATTEMPTS"] = "6"
    with (
        running_town(tmp_path, workers=2, env=env) as town,
        Listener(town.service.redis.url) as listener,
    ):
        flood = Flood(town.client, SEED)
        while town.effects().killed.total() < KILLS:
            flood.keep_up(1.0)
        open_in_the_end = settle(town, flood.accepted)
        found, effects = reckon(town, SEED, Mix(), flood.accepted, listener), town.effects()
        print(f"\n{time.monotonic() - began:.0f} s: {found.line()}")
        print(f"  kills: {dict(effects.killed)}, with jobs in hand: {dict(effects.in_hand)}")
        assert found.failures == {}
        assert open_in_the_end == []
        assert found.restarted > 0
        if effects.killed["computed"]:  # six kills, at points that chance chooses, may all have struck elsewhere
            assert found.recomputed > 0
        assert found.announced > 0.5 * found.jobs, "the listener was there"
