"""The processes of the demo, in a folder of their own: Redis, PostgreSQL, workers that serve, workers that learn."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from uqueue.client import Client
from uqueue.embedded import start_redis
from uqueue.local import beat_service, child_environment, wait_for_worker, worker_service
from uqueue.supervisor import Service, Supervisor
from uqueue_config.settings import Settings
from uqueue_worker.learning.demo.story import NAME
from uqueue_worker.learning.repository import migrate
from uqueue_worker.learning.repository.embedded import EmbeddedPostgres, start_postgres

LEARNING_APP = "uqueue_worker.learning.tasks"
START_SECONDS = 90.0
_LAST_LINES = 15


class DemoStopped(Exception):
    """Something did not work; the message says what, with what its process said last."""


@dataclass(frozen=True)
class Stage:
    """What runs. `folder` is gone when the demo ends."""

    folder: Path
    client: Client
    supervisor: Supervisor
    postgres: EmbeddedPostgres
    redis_kind: str

    def check(self) -> None:
        """Raise DemoStopped if one of the processes has ended."""
        for service in self.supervisor.services.values():
            if service.returncode is not None:
                raise DemoStopped(last_words(service))


@contextlib.contextmanager
def staged(say: Callable[[str], None]) -> Iterator[Stage]:
    """Start everything, wait until it is ready, and stop it at the end."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="uqueue-learning-")))
        redis = stack.enter_context(start_redis(folder / "redis"))
        postgres = stack.enter_context(start_postgres(durable=False))
        migrate(postgres.dsn)
        say(f"Redis ({redis.kind}) and PostgreSQL ({postgres.kind}) run, the database is migrated.")
        settings = _settings(folder, redis.url)
        environment = {
            **child_environment(settings, os.environ),
            "UQUEUE_LEARNING_DATABASE": postgres.dsn,
            "UQUEUE_LEARNING_DATA_DIR": str(folder / "learning"),
        }
        client = stack.enter_context(Client(settings))
        stage = Stage(folder, client, stack.enter_context(Supervisor()), postgres, redis.kind)
        _start(stage, settings, environment)
        say("A worker waits for a classifier to serve, another one learns.")
        yield stage


def last_words(service: Service) -> str:
    """Return how a process is, and what it printed last."""
    lines = "".join(f"\n  {line}" for line in list(service.recent)[-_LAST_LINES:])
    state = "still runs" if service.returncode is None else f"ended with code {service.returncode}"
    return f"{service.name} {state}. Its last lines:{lines}"


def _settings(folder: Path, redis_url: str) -> Settings:
    models = folder / "models.toml"
    versions = folder / "learning" / "models"
    versions.mkdir(parents=True)
    models.write_text(f'[models.{NAME}]\nengine = "onnx-classifier"\nsource = "{versions}"\n')
    return Settings.load(
        {
            "UQUEUE_BROKER_URL": redis_url,
            "UQUEUE_MODELS": str(models),
            "UQUEUE_CACHE_DIR": str(folder / "cache"),
            "UQUEUE_CONCURRENCY": "1",
            "UQUEUE_POLL_SECONDS": "1",
            "UQUEUE_SHUTDOWN_SECONDS": "5",
        }
    )


def _start(stage: Stage, settings: Settings, environment: dict[str, str]) -> None:
    logs = stage.folder
    serving = worker_service(settings, environment, log_file=logs / "worker.log")
    stage.supervisor.start(serving)
    stage.supervisor.start(beat_service(environment, log_file=logs / "beat.log"))
    queues = ["-Q", "alm,simulate,train", "--concurrency=2"]
    log_file = logs / "learning.log"
    learning = worker_service(settings, environment, name="learning", app=LEARNING_APP, args=queues, log_file=log_file)
    stage.supervisor.start(learning)
    found = wait_for_worker(stage.client, serving, 1, START_SECONDS)
    if not found:
        raise DemoStopped(last_words(serving))
    deadline = time.monotonic() + START_SECONDS
    while not _answers(stage):
        if learning.returncode is not None or time.monotonic() > deadline:
            raise DemoStopped(last_words(learning))
        time.sleep(0.2)


def _answers(stage: Stage) -> bool:
    from uqueue_config.errors import UqueueError

    try:
        stage.client.learning.runs(limit=1)
    except UqueueError:
        return False
    return True
