"""A real service for tests: embedded Redis, a Celery worker and beat as child processes, all gone afterwards."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from uqueue import Client, Settings
from uqueue.embedded import EmbeddedRedis, start_redis
from uqueue.local import beat_service, child_environment, flower_service, wait_for_worker, worker_service
from uqueue.supervisor import Service, Supervisor

TESTS = Path(__file__).parents[1]
START_SECONDS = 120.0
#: Quick reactions for tests; whatever a test passes as `env` comes on top.
QUICK = {"UQUEUE_POLL_SECONDS": "0.5", "UQUEUE_SHUTDOWN_SECONDS": "10", "UQUEUE_LOG_FORMAT": "json"}


@dataclass
class RunningService:
    """What a test needs of a service: settings and a client for it, and its processes to kill."""

    settings: Settings
    client: Client
    environment: dict[str, str]
    redis: EmbeddedRedis
    supervisor: Supervisor
    folder: Path
    concurrency: int
    app: str

    @property
    def services(self) -> dict[str, Service]:
        return self.supervisor.services

    def start_worker(self, name: str = "worker", *, args: Sequence[str] = (), wait: bool = True) -> Service:
        """Start a worker (another one, or again after it was killed) and wait until all its processes acknowledged."""
        log_file = self.folder / f"{name}.log"
        arguments = [f"--concurrency={self.concurrency}", *args]
        worker = worker_service(
            self.settings, self.environment, name=name, app=self.app, args=arguments, log_file=log_file
        )
        self.supervisor.start(worker)
        if wait:
            self.wait_for_worker(worker)
        return worker

    def worker_processes(self, name: str = "worker") -> list[psutil.Process]:
        """Return a worker's main process and then its children."""
        main = psutil.Process(self.services[name].pid)
        return [main, *sorted(main.children(), key=lambda process: process.pid)]

    def kill_worker(self, name: str = "worker") -> None:
        """End a worker and its children at once."""
        for process in self.worker_processes(name):
            process.kill()

    def wait_for_worker(self, worker: Service, seconds: float = START_SECONDS) -> None:
        """Wait until every process of a worker acknowledged; AssertionError with the end of all logs if they do not."""
        found = wait_for_worker(self.client, worker, self.concurrency, seconds)
        if len({process.pid for process in found}) < self.concurrency:
            raise AssertionError(f"{len(found)} of {self.concurrency} processes are up.\n{self.log_tails()}")

    def log_tails(self, lines: int = 40) -> str:
        """Return the last log lines of every service, for failure messages."""
        texts = {name: service.log_text().splitlines() for name, service in self.services.items()}
        return "\n".join(f"--- {name}\n" + "\n".join(text[-lines:]) for name, text in texts.items())


def all_gone(processes: Iterable[psutil.Process]) -> bool:
    """Return whether none of them runs any more; a zombie does not, it waits for its parent to notice."""
    return not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in processes)


@contextmanager
def running_service(
    folder: Path,
    *,
    workspace: Path | None = None,
    concurrency: int = 2,
    beat: bool = True,
    flower: bool = False,
    worker_args: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    app: str = "uqueue_worker.app",
    wait: bool = True,
) -> Iterator[RunningService]:
    """Run a service in `folder`; its logs are files there.

    `env` is added to the environment of all processes, UQUEUE_* settings included. `app` may be a module below tests/,
    such as `builders.my_app`. With `wait`, every worker process has acknowledged when the block begins, with or
    without a model. A block that raises gets the end of every log as a note.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with start_redis(folder / "redis") as redis, Supervisor() as supervisor:
        settings = _settings(folder, workspace, redis.url, env or {})
        with Client(settings) as client:
            environment = child_environment(settings, _environ(env or {}))
            service = RunningService(settings, client, environment, redis, supervisor, folder, concurrency, app)
            try:
                worker = service.start_worker(args=worker_args, wait=False)
                if beat:
                    supervisor.start(beat_service(environment, app=app, log_file=folder / "beat.log"))
                if flower:
                    supervisor.start(flower_service(environment, log_file=folder / "flower.log"))
                if wait:
                    service.wait_for_worker(worker)
                yield service
            except BaseException as error:
                error.add_note(service.log_tails())
                raise


def _settings(folder: Path, workspace: Path | None, url: str, env: Mapping[str, str]) -> Settings:
    own = {"UQUEUE_BROKER_URL": url, "UQUEUE_CACHE_DIR": str(folder / "cache"), **QUICK}
    if workspace is not None:
        own["UQUEUE_WORKSPACE_ROOT"] = str(workspace)
    return Settings.load({**own, **env})


def _environ(env: Mapping[str, str]) -> dict[str, str]:
    path = os.pathsep.join(filter(None, [str(TESTS), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path, **env}
