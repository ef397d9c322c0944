"""Somebody who listens to everything and reads nothing, as a monitor that hangs does."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from builders.waiting import eventually
from chaos.audit import reckon, settle
from chaos.listener import Listener
from chaos.producers import Producers
from chaos.requests import Mix
from chaos.town import running_town
from uqueue_config.connections import connect

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]
SEED = 17
#: Large answers fill what Redis keeps for a listener (32 MB, its default) in some seconds.
MIX = Mix(large=0.3)
NAME = "hangs"


@contextlib.contextmanager
def hanging_monitor(port: int) -> Iterator[None]:
    """Subscribe to events and to all results, and never read."""
    with socket.socket() as monitor:
        monitor.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        monitor.connect(("127.0.0.1", port))
        monitor.sendall(f"CLIENT SETNAME {NAME}\r\nPSUBSCRIBE *\r\n".encode())
        yield


def test_a_monitor_that_hangs_is_dropped_and_nothing_else_suffers(tmp_path: Path) -> None:
    with (
        running_town(tmp_path, workers=1, env={"UQUEUE_QUEUE_LIMIT": "100"}) as town,
        connect(town.service.redis.url) as connection,
        hanging_monitor(town.service.redis.port),
        Listener(town.service.redis.url) as listener,
    ):
        pids = town.pids()

        def kept_for_it() -> int | None:
            return next((int(one["omem"]) for one in connection.client_list() if one["name"] == NAME), None)

        assert kept_for_it() is not None
        kept = [0]

        def is_dropped() -> bool:
            now = kept_for_it()
            kept.append(now or 0)
            return now is None

        with Producers(town.client, SEED, MIX, tmp_path / "accepted") as producers:
            eventually(is_dropped, "Redis drops the monitor", seconds=90)
        producers.check()
        open_in_the_end = settle(town, producers.accepted)
        found = reckon(town, SEED, MIX, producers.accepted, listener)
        print(f"\nkept for the monitor at most: {max(kept) / 1e6:.0f} MB; {found.line()}")
        assert 1e6 < max(kept) < 64e6, "Redis kept some of what it did not read, and not everything"
        assert found.failures == {}
        assert open_in_the_end == []
        assert found.recomputed == 0
        assert found.announced == found.jobs, "a listener that reads is not dropped"
        assert town.pids() == pids
