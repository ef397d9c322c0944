"""How long a worker takes from its start to its acknowledgement, and how much memory its processes hold.

    python benchmarks/startup.py [--runs 5]

Whole `celery worker` processes on an embedded Redis, one pool process, one engine per row; medians over the runs. Pages
that the pool process shares with its parent count once in the last column (proportional set size).
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

import uqueue
from uqueue.embedded import start_redis

COMMAND = [sys.executable, "-m", "celery", "-A", "uqueue_worker.app", "worker", "-c", "1"]
QUIET = subprocess.DEVNULL
OPTIONS = ["--without-gossip", "--without-mingle", "--without-heartbeat", "-l", "ERROR"]


def measure(engine: str, workspace: Path) -> tuple[float, float, float]:
    """Return seconds to ready, and megabytes: resident in the pool process, and of it and its parent together."""
    with tempfile.TemporaryDirectory() as folder, start_redis(Path(folder)) as server:
        given = {"UQUEUE_BROKER_URL": server.url, "UQUEUE_WORKSPACE_ROOT": str(workspace), "UQUEUE_ENGINE": engine}
        client = uqueue.Client(uqueue.Settings.load(given))
        started = time.perf_counter()
        worker = subprocess.Popen([*COMMAND, *OPTIONS], env={**os.environ, **given}, stdout=QUIET, stderr=QUIET)
        try:
            while not any(status.converged for status in client.models()):
                time.sleep(0.005)
            seconds = time.perf_counter() - started
            client.submit([[0.0] * 8]).result(timeout=60)
            tree = [psutil.Process(client.model().processes[0].pid), psutil.Process(worker.pid)]
            together = sum(process.memory_full_info().pss for process in tree)
            return seconds, tree[0].memory_info().rss / 1e6, together / 1e6
        finally:
            worker.terminate()
            worker.wait()
            client.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as folder:
        make = [sys.executable, "-m", "uqueue_worker.sample", "make", folder]
        subprocess.run(make, check=True, stdout=QUIET)
        print("engine       ready s   pool process MB   with parent MB   (medians of", runs, "runs)")
        for engine in ("numpy", "fused", "tensorflow"):
            seconds, child, together = zip(*(measure(engine, Path(folder)) for _ in range(runs)), strict=True)
            figures = [statistics.median(values) for values in (seconds, child, together)]
            print(f"{engine:<12} {figures[0]:7.2f} {figures[1]:17.0f} {figures[2]:16.0f}")


if __name__ == "__main__":
    main()
