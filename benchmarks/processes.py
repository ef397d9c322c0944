"""The processes of a measurement: a Redis of its own, a worker, clients. All are gone when its block ends."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import redis

from uqueue.embedded import start_redis

HERE = Path(__file__).parent
CLIENT_SECONDS = 180.0


class Broken(Exception):
    """A contender could not be measured; the message is the reason."""


@dataclass
class Bench:
    """One contender's surroundings: a fresh Redis, a folder, and the environment of its processes."""

    redis: redis.Redis
    server: psutil.Process
    folder: Path
    environment: dict[str, str]

    @contextmanager
    def worker(self, arguments: str, name: str = "worker") -> Iterator[Worker]:
        """Run `python ARGUMENTS` as the worker; its output is kept for the reason of a failure."""
        log_file = self.folder / f"{name}.log"
        with log_file.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, *arguments.split()],
                env=self.environment,
                cwd=self.folder,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        try:
            yield Worker(process, log_file)
        finally:
            _end(process)

    def client(self, module: str, function: str, count: int) -> dict[str, Any]:
        """Call a contender's client in a process of its own. Raises Broken with the reason."""
        command = [sys.executable, "-m", "rivals.client", f"rivals.{module}", function, str(count)]
        try:
            done = subprocess.run(
                command, env=self.environment, cwd=self.folder, capture_output=True, text=True, timeout=CLIENT_SECONDS
            )
        except subprocess.TimeoutExpired:
            raise Broken(f"{function} of {count} jobs was not done after {CLIENT_SECONDS:g} s") from None
        if done.returncode != 0:
            raise Broken(f"{function} failed: {reason(done.stderr)}")
        return json.loads(done.stdout)


@dataclass
class Worker:
    process: subprocess.Popen[bytes]
    log_file: Path

    @property
    def tree(self) -> list[psutil.Process]:
        """The process and its children."""
        parent = psutil.Process(self.process.pid)
        return [parent, *parent.children(recursive=True)]

    def cpu_seconds(self) -> float:
        """Return what the processes have used so far."""
        return sum(cpu_seconds(one) for one in self.tree)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stop the processes, so that a queue can be filled that all of them then begin at the same moment."""
        tree = self.tree
        for one in tree:
            one.suspend()
        try:
            yield
        finally:
            for one in tree:
                one.resume()

    def check(self) -> None:
        """Raise Broken if the worker has ended."""
        if self.process.poll() is not None:
            text = self.log_file.read_text(errors="replace")
            raise Broken(f"its worker ended with code {self.process.returncode}: {reason(text)}")


@contextmanager
def bench(settings: Mapping[str, str], *, workspace: Path, hiredis: bool = False) -> Iterator[Bench]:
    """Start a Redis and yield the surroundings; `settings` are added to the environment of worker and client."""
    with tempfile.TemporaryDirectory() as name, start_redis(Path(name) / "redis") as server:
        folder = Path(name)
        own = {
            "BENCH_REDIS_URL": server.url,
            "BENCH_WORKSPACE": str(workspace),
            "UQUEUE_BROKER_URL": server.url,
            "UQUEUE_WORKSPACE_ROOT": str(workspace),
            "UQUEUE_CACHE_DIR": str(folder / "cache"),
            "UQUEUE_ENGINE": "fused",
            "UQUEUE_LOG_LEVEL": "ERROR",
            "PYTHONPATH": os.pathsep.join(_paths(hiredis)),
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
        }
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("UQUEUE_")}
        with redis.Redis.from_url(server.url) as connection:
            yield Bench(connection, psutil.Process(server.pid), folder, {**inherited, **own, **settings})


def _paths(hiredis: bool) -> list[str]:
    own = [str(HERE)] if hiredis else [str(HERE / "rivals/without_hiredis"), str(HERE)]
    return [*own, *filter(None, [os.environ.get("PYTHONPATH")])]


def cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def reason(output: str) -> str:
    """Return the exception that a program ended with, or else its last line."""
    lines = [line for line in output.splitlines() if line.strip()]
    traces = [index for index, line in enumerate(lines) if line.startswith("Traceback")]
    after = lines[traces[-1] + 1 :] if traces else []
    found = next((line for line in after if not line.startswith(" ")), lines[-1] if lines else "no output")
    return found.strip()[:300]


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill a worker and its children, who have a session of their own. Nothing is left to finish or to keep."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
