"""How long a worker takes from its start to its acknowledgement, and how much memory its processes hold.

    python benchmarks/startup.py [--quick]

Whole `celery worker` processes on an embedded Redis, one pool process, one engine per row; medians over the runs. Pages
that the pool process shares with its parent count once in the last column (proportional set size).
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

import psutil

import uqueue
from contenders import LANE
from part import measure_part, parser, say, workspace
from processes import Broken, Worker, bench

ENGINES = ("numpy", "fused", "tensorflow")
RUNS = 5
READY_SECONDS = 120.0


def measure(folder: Path, *, quick: bool) -> dict[str, Any]:
    runs = 1 if quick else RUNS
    found = []
    for engine in ENGINES[1:2] if quick else ENGINES:
        say(f"workers with the {engine} engine")
        took = [measure_once(engine, folder) for _ in range(runs)]
        found.append({"engine": engine, **{key: statistics.median(one[key] for one in took) for key in took[0]}})
    return {"runs": runs, "engines": found}


def measure_once(engine: str, folder: Path) -> dict[str, float]:
    """Return seconds to ready, and megabytes: resident in the pool process, and of it and its parent together."""
    settings = {**LANE.environment, "UQUEUE_ENGINE": engine}
    with (
        bench(settings, workspace=folder, hiredis=LANE.has_hiredis) as here,
        uqueue.Client(uqueue.Settings.load(here.environment)) as client,
    ):
        started = time.perf_counter()
        with here.worker(LANE.worker) as worker:
            wait_until_ready(client, worker, 1)
            seconds = time.perf_counter() - started
            client.submit([[0.0] * 8]).result(timeout=60)
            child = psutil.Process(client.model().processes[0].pid)
            together = sum(one.memory_full_info().pss for one in (child, psutil.Process(worker.process.pid)))
            return {"ready_s": seconds, "child_mb": child.memory_info().rss / 1e6, "together_mb": together / 1e6}


def wait_until_ready(client: uqueue.Client, worker: Worker, processes: int) -> None:
    """Wait until so many processes serve the model. Raises Broken when the worker ends, or takes for ever."""
    deadline = time.monotonic() + READY_SECONDS
    while _ready(client) < processes:
        worker.check()
        if time.monotonic() > deadline:
            raise Broken(f"no worker was ready after {READY_SECONDS:g} s")
        time.sleep(0.005)


def _ready(client: uqueue.Client) -> int:
    found = [process for status in client.models() for process in status.processes]
    return sum(process.state == "ready" for process in found)


def main() -> None:
    given = parser(__doc__).parse_args()
    with workspace(given.workspace) as folder:
        measure_part("startup", given, lambda: measure(folder, quick=given.quick))


if __name__ == "__main__":
    main()
