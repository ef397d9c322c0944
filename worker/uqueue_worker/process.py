"""What one worker process owns: its settings, Redis connection, model and heartbeat. Made on first use, once."""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import redis
from billiard.pool import EX_RECYCLE
from billiard.process import current_process
from threadpoolctl import threadpool_limits

from uqueue_config.connections import connect
from uqueue_config.errors import UnknownModel
from uqueue_config.ledger import Ledger
from uqueue_config.names import DEFAULT_MODEL, lane_of
from uqueue_config.settings import Settings
from uqueue_worker.artifacts import open_cache, open_provider
from uqueue_worker.jobs import JobRunner
from uqueue_worker.lane import Lane
from uqueue_worker.lane.batch import Batch
from uqueue_worker.lane.events import BatchEvents
from uqueue_worker.models.store import LoadOptions, ModelStore
from uqueue_worker.payloads import PayloadSweeper
from uqueue_worker.serving import Heartbeat, poll, prune
from uqueue_worker.sweeper import Sweeper
from uqueue_worker.warden import Row, Table

#: What the processes of a pool tell their parent; made before they are forked.
table: Table | None = None

#: The Celery worker in whose name jobs are reported to Flower, if they are; known before its processes are forked.
flower_hostname: str | None = None

_current: WorkerProcess | None = None
_making = threading.Lock()


class WorkerProcess:
    """One process of the worker. Nothing is loaded or connected before `start` or the first job."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.pid = os.getpid()
        self._starting = threading.Lock()
        self._heartbeat: Heartbeat | None = None
        self._lane: Lane | None = None
        self._jobs_done = 0
        self._answering_since: float | None = None

    @cached_property
    def redis(self) -> redis.Redis:
        return connect(self.settings.result_store)

    @cached_property
    def store(self) -> ModelStore:
        options = LoadOptions(
            forward_mode=self.settings.forward_mode,
            engine=self.settings.engine,
            refuse_stale=self.settings.stale_calibration == "refuse",
        )
        cache = open_cache(self.settings, cache_folder(self.settings))
        return ModelStore(DEFAULT_MODEL, open_provider(self.settings, DEFAULT_MODEL, cache), cache, options)

    @cached_property
    def _sweeper(self) -> Sweeper:
        return Sweeper(self.settings, self.redis)

    @cached_property
    def _payload_sweeper(self) -> PayloadSweeper:
        return PayloadSweeper(self.settings)

    @cached_property
    def _row(self) -> Row:
        return (table or Table()).row(getattr(current_process(), "index", 0))

    @cached_property
    def runner(self) -> JobRunner:
        return JobRunner(self.settings, Ledger(self.redis), self.start().process)

    @property
    def is_serving(self) -> bool:
        """Whether it acknowledges what it serves; the main process of a pool does not."""
        return self._heartbeat is not None

    def start(self) -> Heartbeat:
        """Load the model and follow the wanted version from now on; does so once."""
        with self._starting:
            if self._heartbeat is None:
                # One core per process; a matrix product split over more threads may also differ in its last bit.
                threadpool_limits(1)
                self._heartbeat = Heartbeat(
                    self.redis,
                    self.store,
                    retry_seconds=self.settings.poll_seconds.total_seconds(),
                    jobs_done=lambda: self._jobs_done + (self._lane.jobs_done if self._lane else 0),
                    busy_since=self._busy_since,
                    pool_pid=os.getppid() if hasattr(current_process(), "index") else None,
                    chores=self._chores,
                )
                self._row.start(self._heartbeat.process)
                self._heartbeat.start()
                if self.settings.lane_is_on:
                    self._lane = self._start_lane(self._heartbeat)
            return self._heartbeat

    def _busy_since(self) -> float | None:
        """Since when this process computes what it computes now, in seconds since the epoch."""
        in_lane: float = self._row.busy_since
        return time.time() - (time.monotonic() - in_lane) if in_lane else self._answering_since

    def _chores(self) -> None:
        self._payload_sweeper.take_turn()
        self._sweeper.take_turn()

    def _start_lane(self, heartbeat: Heartbeat) -> Lane:
        runner = JobRunner(self.settings, Ledger(self.redis), heartbeat.process)
        batch = Batch(self.settings, self.store.serve, runner.checkpoint)
        lane = Lane(self.settings, batch, lane_of(heartbeat.process), watch=self._row, retire=self._retire)
        database = self.redis.connection_pool.connection_kwargs.get("db", 0)
        lane.start(BatchEvents(flower_hostname, database) if flower_hostname else None)
        return lane

    def _retire(self) -> None:
        """End this process of a pool, which then starts another in its place."""
        self.stop()
        os._exit(EX_RECYCLE)

    def stop(self) -> None:
        """Finish the batch at hand, then withdraw the acknowledgement."""
        if self._lane is not None:
            self._lane.stop(self.settings.shutdown_seconds.total_seconds())
        if self._heartbeat is not None:
            self._heartbeat.stop()

    def answer(self, job_id: str, kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the result message of one prediction job; see `JobRunner.run` for what it raises."""
        self.start()
        self._answering_since = time.time()
        try:
            return self.runner.run(job_id, kwargs, self.store.serve)
        finally:
            self._answering_since = None
            self._jobs_done += 1

    def poll(self, model: str) -> dict[str, Any]:
        """Look at the artifacts now. Raises UnknownModel."""
        heartbeat = self.start()
        if model != self.store.name:
            raise UnknownModel(model=model, served=self.store.name)
        report = poll(self.redis, self.store)
        heartbeat.acknowledge()
        prune(self.redis, model)
        return report.model_dump()


def current() -> WorkerProcess:
    """Return this process's own; a forked child gets a fresh one."""
    global _current
    with _making:
        if _current is None or _current.pid != os.getpid():
            _current = WorkerProcess(Settings.load())
        return _current


def cache_folder(settings: Settings) -> Path:
    """Return where last good artifacts are kept: the setting, or a folder of this user in the temporary folder."""
    return settings.cache_dir or Path(tempfile.gettempdir()) / f"uqueue-{os.getuid()}"
