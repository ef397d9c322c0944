"""Random faults while jobs flow: every accepted job ends, with the one right answer.

`make test` runs it briefly, `make chaos` with CHAOS_FAULTS and CHAOS_SEEDS as below. A failure names its seed.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest

import uqueue
from builders.artifacts import mqnn_h5_bytes, write_workspace
from builders.service import RunningService, running_service
from uqueue.embedded import EmbeddedRedis, start_redis
from uqueue_config.errors import ServiceUnreachable
from uqueue_config.seeds import seed_from_job_id
from uqueue_worker.artifacts import LocalFilesystemProvider
from uqueue_worker.models import load_interval_model

FAULTS = int(os.environ.get("CHAOS_FAULTS", "8"))
SEEDS = [int(seed) for seed in os.environ.get("CHAOS_SEEDS", "1").split(",")]
SETTLE_SECONDS = 120.0

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1800)]


class Town:
    """A service with everything in it that can be broken."""

    def __init__(self, service: RunningService, redis: EmbeddedRedis, rng: random.Random) -> None:
        self.service = service
        self.redis = redis
        self.rng = rng
        self.workers = 1
        self.coming: list[Callable[[], None]] = []
        self.done: Counter[str] = Counter()

    def worker(self) -> psutil.Process:
        return psutil.Process(next(s.pid for s in reversed(self.service.services.values()) if "beat" not in s.name))

    def child(self) -> psutil.Process | None:
        children = self.worker().children()
        return self.rng.choice(children) if children else None

    def kill_child(self) -> None:
        if child := self.child():
            child.kill()

    def pause_child(self) -> None:
        """Long enough for its acknowledgement to lapse and its job to start elsewhere."""
        if child := self.child():
            child.suspend()
            time.sleep(self.rng.choice([0.5, 13.0]))
            if child.is_running():
                child.resume()

    def kill_worker(self) -> None:
        worker = self.worker()
        for process in (*worker.children(recursive=True), worker):
            process.kill()
        self.workers += 1
        self.service.start_worker(f"worker{self.workers}", wait=False)

    def kill_redis(self) -> None:
        folder, port = Path(psutil.Process(self.redis.pid).cwd()), self.redis.port
        psutil.Process(self.redis.pid).kill()
        self.redis.process.wait()
        time.sleep(self.rng.uniform(0, 2))
        self.redis = start_redis(folder, appendonly=True, port=port)

    def break_something(self) -> None:
        if not self.coming:
            self.coming = [self.kill_child, self.pause_child, self.kill_worker, self.kill_redis]
            self.rng.shuffle(self.coming)
        fault = self.coming.pop()
        fault()
        self.done[fault.__name__] += 1


class Submitter:
    """Submits small and large jobs from a thread; remembers every job that was accepted."""

    def __init__(self, client: uqueue.Client, rng: np.random.Generator) -> None:
        self._client = client
        self._rng = rng
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.accepted: list[tuple[uqueue.Job, np.ndarray]] = []  # type: ignore[type-arg]

    def __enter__(self) -> Submitter:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        number = 0
        while not self._stop.is_set():
            rows = 1 if self._rng.random() < 0.8 else 8_000  # the large ones keep both processes busy
            table = self._rng.normal(size=(rows, 8)).astype(np.float32)
            number += 1
            while not self._stop.is_set():
                try:  # the key makes a retry after a lost reply the same job
                    self.accepted.append((self._client.submit(table, idempotency_key=f"job {number}"), table))
                    break
                except ServiceUnreachable:
                    time.sleep(0.2)
            self._stop.wait(0.03)


@pytest.mark.parametrize("lane", ["on", "off"])
@pytest.mark.parametrize("seed", SEEDS)
def test_every_accepted_job_has_its_one_right_answer(seed: int, lane: str, tmp_path: Path) -> None:
    write_workspace(tmp_path / "workspace", model=mqnn_h5_bytes(hidden=(128, 128)), delta=0.0)
    model = load_interval_model(LocalFilesystemProvider(tmp_path / "workspace"))
    data = tmp_path / "redis"
    data.mkdir()
    redis = start_redis(data, appendonly=True)
    env = {"UQUEUE_LANE": lane, "UQUEUE_BROKER_URL": redis.url, "UQUEUE_MAX_ATTEMPTS": "50"}
    folder = tmp_path / "service"
    with running_service(folder, workspace=tmp_path / "workspace", concurrency=2, beat=False, env=env) as service:
        town = Town(service, redis, random.Random(seed))
        try:
            with Submitter(service.client, np.random.default_rng(seed)) as submitter:
                for _ in range(FAULTS):
                    time.sleep(town.rng.uniform(0.2, 2.0))
                    town.break_something()
            started = time.monotonic()
            again = 0
            for job, table in submitter.accepted:
                left = SETTLE_SECONDS - (time.monotonic() - started)
                answer = job.result(timeout=max(left, 1))
                expected = model.predict(table, seed=seed_from_job_id(job.id))
                assert answer.lower.tobytes() == expected.lower.tobytes()
                again += job.status().attempts > 1
            settled = time.monotonic() - started
            print(
                f"\nseed {seed}, lane {lane}: {len(submitter.accepted)} jobs, faults {dict(town.done)}; "
                f"0 lost, 0 wrong, {again} started more than once, settled after {settled:.1f} s"
            )
        finally:
            service.supervisor.stop()
            town.redis.stop()
