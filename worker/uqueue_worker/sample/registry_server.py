"""`python -m uqueue_worker.sample.registry_server DIR --port N`: an MLflow server for trying things out.

Its database (SQLite) and artifacts lie in DIR; it listens on this computer only and asks nobody for a password.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from uqueue_config.interrupts import signals_later

#: No telemetry, no job runner; the latter would need packages that a registry does not.
QUIET: Final = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
_START_SECONDS: Final = 60.0


class ServerStopped(Exception):
    """The server did not start; the text is what it said last."""


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Run a server for `folder` as long as the block runs; give its URL. Raises ServerStopped."""
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    port = _free_port()
    log = folder / "mlflow.log"
    url = f"http://127.0.0.1:{port}"
    process = None
    try:
        with signals_later(), log.open("wb") as output:
            process = subprocess.Popen(
                command(folder, port),
                env=environment(os.environ),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=folder,
                start_new_session=True,
            )
        deadline = time.monotonic() + _START_SECONDS
        while not _answers(url):
            if process.poll() is not None or time.monotonic() > deadline:
                raise ServerStopped(f"MLflow did not start: {log.read_text(errors='replace')[-500:]}")
            time.sleep(0.1)
        yield url
    finally:
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=1) as answer:  # noqa: S310 - http, and our own port
            return bool(answer.status == 200)
    except OSError:
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def command(folder: Path, port: int) -> list[str]:
    """Return the command that serves `folder`.

    It runs under gunicorn, for which mlflow-skinny and a few small packages are enough; under uvicorn the same command
    would load the AI gateway, which needs pandas.
    """
    serve = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    serve += ["--backend-store-uri", f"sqlite:///{folder}/registry.db"]
    return [*serve, "--artifacts-destination", str(folder / "artifacts"), "--gunicorn-opts", "--no-control-socket"]


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return `environ` so that MLflow finds gunicorn, which it starts by name."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{environ.get('PATH', '')}"
    return {**environ, **QUIET, "PATH": path}


def main(argv: Sequence[str] | None = None) -> None:
    """Become the server."""
    parser = argparse.ArgumentParser(prog="python -m uqueue_worker.sample.registry_server", description=__doc__)
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--port", type=int, default=5000)
    arguments = parser.parse_args(argv)
    folder = arguments.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    serve = command(folder, arguments.port)
    os.chdir(folder)
    os.execve(serve[0], serve, environment(os.environ))  # noqa: S606 - the server takes this process's place


if __name__ == "__main__":
    main()
