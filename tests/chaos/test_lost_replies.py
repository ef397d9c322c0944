"""Connections that break after a request went through: who asked cannot know what became of it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from chaos.audit import reckon, settle
from chaos.listener import Listener
from chaos.producers import Flood
from chaos.proxy import cutting_proxy
from chaos.requests import Mix
from chaos.sizes import CUTS
from chaos.town import running_town

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1800)]
SEED = 11
SHARE = 0.5


def test_lost_replies_to_claims_and_commits_lose_and_double_nothing(tmp_path: Path) -> None:
    began = time.monotonic()
    with (
        running_town(tmp_path, workers=0, concurrency=4) as town,
        Listener(town.service.redis.url) as listener,
        cutting_proxy(town.service.redis.port, SHARE) as proxy,
    ):
        town.service.environment["UQUEUE_BROKER_URL"] = proxy.url
        town.add_worker(wait=True)
        pids = town.pids()
        flood = Flood(town.client, SEED)
        while proxy.cuts.total() < CUTS or min(proxy.cuts["claim"], proxy.cuts["commit"]) == 0:
            flood.keep_up(0.5)
        proxy.share = 0.0
        open_in_the_end = settle(town, flood.accepted)
        found = reckon(town, SEED, Mix(), flood.accepted, listener)
        print(f"\n{time.monotonic() - began:.0f} s, replies lost: {dict(proxy.cuts)}; {found.line()}")
        assert town.pids() == pids, "the processes are the same"
        assert found.failures == {}
        assert open_in_the_end == []
        assert found.restarted == 0, "a claim that is asked for again is the same claim"
        assert found.surplus > 0, "commits whose reply was lost were sent again"
        assert found.announced > 0.5 * found.jobs, "the listener was there"
        town.service.supervisor.stop()
