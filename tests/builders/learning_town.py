"""Active learning over real processes: Redis, PostgreSQL, a worker that serves the models, beat, a learning worker."""

from __future__ import annotations

import os
import signal
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg

from builders.learning_runs import MODEL
from builders.learning_subject import NAMED
from builders.postgres import kill_postgres, migrated_database, postgres_server
from builders.service import QUICK, TESTS, RunningService
from uqueue import Client, Settings
from uqueue.embedded import EmbeddedRedis, start_redis
from uqueue.local import ONE_THREAD, beat_service, child_environment
from uqueue.supervisor import Service, Supervisor
from uqueue_config.connections import connect
from uqueue_config.learning.names import PRESENCE_KEY
from uqueue_worker.learning.engine.postgres_store import PostgresRunStore
from uqueue_worker.learning.repository.connection import Database
from uqueue_worker.learning.repository.embedded import EmbeddedPostgres, start_postgres

LEARNING_APP = "uqueue_worker.learning.tasks"
QUEUES = "alm,simulate,train"


class LearningTown:
    """`store` and `client` look at what the learning worker does; `data` is its folder, `postgres` its servers."""

    def __init__(
        self,
        service: RunningService,
        postgres: list[EmbeddedPostgres],
        dsn: str,
        data: Path,
        learning: dict[str, str],
        app: str,
    ) -> None:
        self.service = service
        self.postgres = postgres
        self.dsn = dsn
        self.data = data
        self.database = Database(dsn)
        self.store = PostgresRunStore(self.database)
        self._learning = learning
        self._app = app
        self._started = 0

    @property
    def client(self) -> Client:
        return self.service.client

    @property
    def learning_environment(self) -> dict[str, str]:
        return {**ONE_THREAD, **self.service.environment, **self._learning}

    def start_learning(self, concurrency: int = 2) -> Service:
        """Start the learning worker (again) in place of the one before."""
        self._started += 1
        name = f"learning-{uuid.uuid4().hex[:8]}@%h"
        celery = [sys.executable, "-m", "celery", "--quiet", "-A", self._app, "worker"]
        worker = Service(
            "learning",
            [*celery, "-Q", QUEUES, "-n", name, f"--concurrency={concurrency}", "--without-gossip", "--without-mingle"],
            self.learning_environment,
            stop_steps=((signal.SIGTERM, 5.0), (signal.SIGQUIT, 5.0)),
            log_file=self.service.folder / f"learning{self._started}.log",
        )
        return self.service.supervisor.start(worker)

    def is_there(self) -> bool:
        """Whether a learning worker has said so."""
        with connect(self.service.redis.url) as connection:
            return bool(connection.exists(PRESENCE_KEY))

    def kill_learning(self) -> None:
        """End the learning worker, its whole pool included, at once."""
        worker = self.service.services["learning"]
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait(10)

    def drop_database_connections(self) -> int:
        """Have PostgreSQL end every other connection; return how many there were."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            ended = connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity "
                "where datname = current_database() and pid <> pg_backend_pid()"
            ).fetchall()
        return len(ended)

    def end_postgres(self, signal_number: int) -> None:
        """End the PostgreSQL server at once: SIGQUIT is its immediate shutdown, SIGKILL a crash of its main process."""
        kill_postgres(self.postgres[-1], signal_number)

    def start_postgres(self) -> None:
        """Start it again on the same port with what it had on disk."""
        first = self.postgres[0]
        self.postgres.append(start_postgres(first.folder, port=first.port, durable=False))

    def restart_redis(self) -> None:
        """Kill Redis, and start it again on the same port with what it had on disk."""
        redis: EmbeddedRedis = self.service.redis
        redis.process.kill()
        redis.process.wait()
        self.service.redis = start_redis(self.service.folder / "redis", appendonly=True, port=redis.port)


@contextmanager
def learning_town(
    folder: Path, *, app: str = LEARNING_APP, env: Mapping[str, str] | None = None, start: bool = True
) -> Iterator[LearningTown]:
    """Run all of it; `env` is added to the environment of the learning worker. A block that raises gets the logs."""
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / "data"
    with ExitStack() as stack:
        servers = [stack.enter_context(postgres_server())]
        stack.callback(lambda: servers[-1].stop())
        dsn = stack.enter_context(migrated_database(servers[0]))
        redis = start_redis(folder / "redis", appendonly=True)
        supervisor = stack.enter_context(Supervisor())
        own = _settings(folder, data, redis.url)
        client = stack.enter_context(Client(own))
        environment = child_environment(own, {**os.environ, "PYTHONPATH": str(TESTS)})
        service = RunningService(own, client, environment, redis, supervisor, folder, 1, "uqueue_worker.app")
        learning = {
            "UQUEUE_LEARNING_DATABASE": dsn,
            "UQUEUE_LEARNING_DATA_DIR": str(data),
            "UQUEUE_LEARNING_SUBJECT": NAMED,
            "UQUEUE_LEARNING_STALE_SECONDS": "1.5",
            **(env or {}),
        }
        town = LearningTown(service, servers, dsn, data, learning, app)
        stack.callback(lambda: service.redis.stop())
        stack.callback(town.database.close)
        try:
            service.start_worker(wait=False)
            ticking = {**environment, "UQUEUE_LEARNING_TICK_SECONDS": "0.5"}
            supervisor.start(beat_service(ticking, log_file=folder / "beat.log"))
            if start:
                town.start_learning()
            yield town
        except BaseException as error:
            error.add_note(service.log_tails())
            raise
        finally:
            for one in supervisor.services.values():
                one.send(signal.SIGTERM)  # all at once


def _settings(folder: Path, data: Path, url: str) -> Settings:
    catalog = folder / "models.toml"
    catalog.write_text(f'[models.{MODEL}]\nengine = "onnx-classifier"\nsource = "{data / "models"}"\n', "utf-8")
    own: dict[str, Any] = {"UQUEUE_BROKER_URL": url, "UQUEUE_CACHE_DIR": str(folder / "cache")}
    return Settings.load({**QUICK, **own, "UQUEUE_MODELS": str(catalog)})
