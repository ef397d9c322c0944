"""A service with everything in it that can be broken: a Redis that outlives its process, workers, beats."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil

from builders.artifacts import mqnn_h5_bytes, write_workspace
from builders.service import QUICK, TESTS, RunningService
from chaos.effects import VARIABLE, Effects
from uqueue import Client, Settings
from uqueue.embedded import start_redis
from uqueue.local import beat_service, child_environment
from uqueue.supervisor import Service, Supervisor
from uqueue_worker.artifacts import LocalFilesystemProvider
from uqueue_worker.models import IntervalModel, load_interval_model

APP = "chaos.app"


class Town:
    """`service` is what runs; `effects_file` is where its workers note what they do; `model` is the one they serve."""

    def __init__(self, service: RunningService, folder: Path, model: IntervalModel) -> None:
        self.service = service
        self.folder = folder
        self.model = model
        self.workers: list[Service] = []
        self.leaving: list[Service] = []
        self._started = 0

    @property
    def client(self) -> Client:
        return self.service.client

    @property
    def effects_file(self) -> Path:
        return self.folder / "effects"

    def effects(self) -> Effects:
        return Effects.read(self.effects_file)

    # --- workers ---

    def add_worker(self, *, wait: bool = False) -> Service:
        self._started += 1
        worker = self.service.start_worker(f"worker{self._started}", wait=wait)
        self.workers.append(worker)
        return worker

    def replace_worker(self, worker: Service) -> None:
        """Start another worker in the place of one that has ended or is about to."""
        self.workers.remove(worker)
        self.leaving.append(worker)
        self.add_worker()

    def pids(self) -> dict[int, set[int]]:
        """Return the processes of the pool of each worker, by the worker's own."""
        return {worker.pid: {child.pid for child in children_of(worker)} for worker in self.workers}

    # --- Redis ---

    def kill_redis(self) -> None:
        self.service.redis.process.kill()
        self.service.redis.process.wait()

    def revive_redis(self) -> None:
        """Start Redis again on the same port with what it had on disk."""
        self.service.redis = start_redis(self.folder / "redis", appendonly=True, port=self.service.redis.port)

    @contextmanager
    def stopped_redis(self) -> Iterator[None]:
        os.kill(self.service.redis.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.service.redis.pid, signal.SIGCONT)


def children_of(worker: Service) -> list[psutil.Process]:
    """Return the processes of its pool, none where it has ended."""
    try:
        return psutil.Process(worker.pid).children()
    except psutil.NoSuchProcess:
        return []


@contextmanager
def running_town(
    folder: Path,
    *,
    workers: int = 1,
    concurrency: int = 2,
    beats: int = 0,
    hidden: tuple[int, ...] = (64, 64),
    env: Mapping[str, str] | None = None,
) -> Iterator[Town]:
    """Run a town in `folder`; its Redis has everything on disk before it answers. A block that raises gets the logs.

    `env` is added to the environment of all processes, UQUEUE_* settings included. With no workers at first, whatever
    is changed in `service.environment` holds for those that are added.
    """
    redis = start_redis(folder / "redis", appendonly=True)
    workspace = folder / "workspace"
    # delta 0: every row takes all 50 passes
    write_workspace(workspace, model=mqnn_h5_bytes(hidden=hidden), delta=0.0)
    model = load_interval_model(LocalFilesystemProvider(workspace))
    own = {
        "UQUEUE_BROKER_URL": redis.url,
        "UQUEUE_WORKSPACE_ROOT": str(workspace),
        "UQUEUE_CACHE_DIR": str(folder / "cache"),
        "UQUEUE_LOG_LEVEL": "WARNING",  # a line for every batch would hide what went wrong
    }
    settings = Settings.load({**QUICK, **own, **(env or {})})
    environ = {**os.environ, "PYTHONPATH": str(TESTS), VARIABLE: str(folder / "effects"), **(env or {})}
    with Client(settings) as client, Supervisor() as supervisor:
        environment = child_environment(settings, environ)
        service = RunningService(settings, client, environment, redis, supervisor, folder, concurrency, APP)
        town = Town(service, folder, model)
        try:
            for number in range(beats):
                beat = beat_service(environment, app=APP, log_file=folder / f"beat{number}.log")
                beat.name = f"beat{number}"
                supervisor.start(beat)
            for worker in [town.add_worker() for _ in range(workers)]:
                service.wait_for_worker(worker)
            yield town
        except BaseException as error:
            error.add_note(service.log_tails())
            raise
        finally:
            for one in supervisor.services.values():
                one.send(signal.SIGTERM)  # all at once; `stop` waits for one after the other
            supervisor.stop()
            service.redis.stop()
