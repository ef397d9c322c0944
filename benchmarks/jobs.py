"""One-row jobs from submission to stored result: uqueue's lane, uqueue as Celery tasks, and a plain Celery app.

    python benchmarks/jobs.py [--jobs 5000] [--runs 3]

The same model and kernel, one worker process each, one embedded Redis each (Redis, worker and client share the
cores), all in one run, medians over the runs. Drain: all jobs are queued before the worker starts; time counts from
its first stored result to the last. Round trip: one job at a time, from submit to result, at an idle worker.
"""

from __future__ import annotations

import argparse
import gc
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import redis

import uqueue
from uqueue.embedded import start_redis

HERE = Path(__file__).parent
ROW = [[0.98, 514.5, 294.0, 110.25, 7.0, 2.0, 0.0, 0.0]]
ONE_AT_A_TIME = 300


@contextmanager
def worker(app: str, environment: dict[str, str]) -> Iterator[psutil.Process]:
    command = [sys.executable, "-m", "celery", "-A", app, "worker", "-c", "1", "--without-gossip", "--without-mingle"]
    process = subprocess.Popen(
        [*command, "-l", "ERROR"],
        env={**os.environ, **environment, "PYTHONPATH": str(HERE), "UQUEUE_LOG_LEVEL": "ERROR"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait()


def wait_for_result(connection: redis.Redis, job_id: str) -> None:
    while not connection.exists(f"celery-task-meta-{job_id}"):
        time.sleep(0.002)


def stored_results(connection: redis.Redis) -> int:
    return sum(1 for _ in connection.scan_iter("celery-task-meta-*", count=5000))


def cpu_seconds(process: psutil.Process) -> float:
    return sum(sum(one.cpu_times()[:2]) for one in (process, *process.children(recursive=True)))


def measure(
    app: str,
    environment: dict[str, str],
    url: str,
    submit_all: Callable[[int], list[str]],
    one: Callable[[], None],
    jobs: int,
) -> dict[str, float]:
    connection = redis.Redis.from_url(url)
    submitted = time.perf_counter()
    ids = submit_all(jobs)
    submitted = time.perf_counter() - submitted
    with worker(app, environment) as process:
        wait_for_result(connection, ids[0])
        began, cpu = time.perf_counter(), cpu_seconds(process)
        done = stored_results(connection)
        wait_for_result(connection, ids[-1])
        drained, cpu = time.perf_counter() - began, cpu_seconds(process) - cpu
        trips = []
        for _ in range(ONE_AT_A_TIME):
            start = time.perf_counter()
            one()
            trips.append((time.perf_counter() - start) * 1e3)
    return {
        "submit jobs/s": jobs / submitted,
        "drain jobs/s": (jobs - done) / drained,
        "worker CPU us": cpu / (jobs - done) * 1e6,
        "p50 ms": float(np.percentile(trips, 50)),
        "p95 ms": float(np.percentile(trips, 95)),
    }


def ours(lane: str, workspace: Path, jobs: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder, start_redis(Path(folder)) as server:
        given = {
            "UQUEUE_BROKER_URL": server.url,
            "UQUEUE_WORKSPACE_ROOT": str(workspace),
            "UQUEUE_LANE": lane,
        }
        with uqueue.Client(uqueue.Settings.load(given)) as client:
            return measure(
                "uqueue_worker.app",
                given,
                server.url,
                lambda count: [job.id for job in client.submit_many([ROW] * count)],
                lambda: void(client.submit(ROW).result(timeout=30)),
                jobs,
            )


def naive(workspace: Path, jobs: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder, start_redis(Path(folder)) as server:
        given = {"NAIVE_BROKER_URL": server.url, "NAIVE_WORKSPACE": str(workspace)}
        os.environ.update(given)
        sys.modules.pop("naive_celery", None)
        sys.path.insert(0, str(HERE))
        from naive_celery import predict

        found = measure(
            "naive_celery",
            given,
            server.url,
            lambda count: [predict.delay(ROW, seed).id for seed in range(count)],
            lambda: void(predict.delay(ROW, 1).get(timeout=30)),
            jobs,
        )
        gc.collect()  # Celery's results talk to Redis once more when they are collected
        return found


def void(_: Any) -> None:
    """Drop a value."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=5000)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        make = [sys.executable, "-m", "uqueue_worker.sample", "make", folder]
        subprocess.run(make, check=True, stdout=subprocess.DEVNULL)
        contenders: dict[str, Callable[[], dict[str, float]]] = {
            "uqueue, lane": lambda: ours("on", Path(folder), options.jobs),
            "uqueue, tasks": lambda: ours("off", Path(folder), options.jobs),
            "plain Celery": lambda: naive(Path(folder), options.jobs),
        }
        found: dict[str, list[dict[str, float]]] = {name: [] for name in contenders}
        for _ in range(options.runs):
            for name, run in contenders.items():
                found[name].append(run())
    columns = list(found["uqueue, lane"][0])
    print(f"{options.jobs} one-row jobs, medians of {options.runs} runs, load {os.getloadavg()[0]:.1f}")
    print(f"{'':<16}" + "".join(f"{column:>16}" for column in columns))
    for name, runs in found.items():
        print(f"{name:<16}" + "".join(f"{statistics.median(run[c] for run in runs):>16.1f}" for c in columns))


if __name__ == "__main__":
    main()
