"""Connections that something on their way has forgotten, and a Redis without memory."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from redis.exceptions import OutOfMemoryError

from builders.firewall import firewall
from uqueue.embedded import start_redis
from uqueue_config import connections
from uqueue_config.connections import connect, translated
from uqueue_config.errors import ServiceUnreachable, StoreFull


def test_a_connection_that_lay_idle_is_opened_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "TRUSTED_SECONDS", 0.2)
    with (
        start_redis(tmp_path) as server,
        firewall(server.port) as wall,
        connect(f"redis://127.0.0.1:{wall.port}/0") as client,
    ):
        mine = client.client_id()
        assert client.client_id() == mine, "one in use is kept"
        wall.cut()
        wall.restore()
        time.sleep(0.3)
        started = time.monotonic()
        assert client.client_id() != mine
        assert time.monotonic() - started < connections.REPLY_SECONDS / 2, "nobody waited for a reply"


def test_errors_are_translated() -> None:
    url = "redis://:secret@host/0"
    with pytest.raises(StoreFull, match="memory limit") as full, translated(url):
        raise OutOfMemoryError("command not allowed")
    assert "secret" not in str(full.value)
    assert not isinstance(full.value, ServiceUnreachable)
