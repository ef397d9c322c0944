"""What one worker process owns: its settings, Redis connection, models and heartbeat. Made on first use, once."""

from __future__ import annotations

import contextlib
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

from uqueue_config.catalog import Catalog, ModelSpec
from uqueue_config.connections import connect
from uqueue_config.errors import UqueueError
from uqueue_config.ledger import Ledger
from uqueue_config.names import JobState, Task, lane_of
from uqueue_config.settings import Settings
from uqueue_worker.artifacts import open_cache, open_provider
from uqueue_worker.asked_reloads import AskedReloads
from uqueue_worker.counts import CountedBatch, Counts
from uqueue_worker.jobs import JobRunner
from uqueue_worker.lane import Lane
from uqueue_worker.lane.events import BatchEvents
from uqueue_worker.localization import OnnxOptions
from uqueue_worker.localization.session import threads_for
from uqueue_worker.models.catalog import ModelCatalog
from uqueue_worker.models.comparison import Comparisons
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
        self.comparisons = Comparisons()
        self.counts = Counts()
        self._answering_since: float | None = None

    @cached_property
    def redis(self) -> redis.Redis:
        return connect(self.settings.result_store)

    @cached_property
    def models(self) -> ModelCatalog:
        return ModelCatalog(self._catalog, self._open_store, self.settings.model_memory_bytes)

    @cached_property
    def _catalog(self) -> Catalog:
        return Catalog.load(self.settings)

    def _open_store(self, spec: ModelSpec, track: str, source: str | None) -> ModelStore:
        settings = self.settings.model_copy(update={"artifact_source": source, "engine": spec.engine})
        options = LoadOptions(
            forward_mode=spec.forward_mode,
            engine=spec.engine,
            refuse_stale=settings.stale_calibration == "refuse",
            nominal_coverage=spec.nominal_coverage,
            memory_limit_bytes=spec.memory_limit_bytes,
            onnx=OnnxOptions(
                providers=settings.onnx_providers,
                # The processes of a pool are one per core unless set, as Celery does it.
                threads=threads_for(settings.concurrency or os.cpu_count() or 1),
                max_batch=settings.max_onnx_batch,
            ),
        )
        cache = open_cache(settings, cache_folder(settings))
        provider = open_provider(settings, spec.name, cache)
        return ModelStore(spec.name, provider, cache, options, track=track, on_demand=spec.on_demand)

    @cached_property
    def _sweeper(self) -> Sweeper:
        return Sweeper(self.settings, self.redis)

    @cached_property
    def _asked_reloads(self) -> AskedReloads:
        return AskedReloads(self.settings, Ledger(self.redis), self._catalog.tracks)

    @cached_property
    def _payload_sweeper(self) -> PayloadSweeper:
        return PayloadSweeper(self.settings)

    @cached_property
    def _row(self) -> Row:
        return (table or Table()).row(getattr(current_process(), "index", 0))

    @cached_property
    def runner(self) -> JobRunner:
        return self._runner_of(self.start().process)

    def _runner_of(self, worker: str) -> JobRunner:
        return JobRunner(self.settings, Ledger(self.redis), worker, self._catalog.tracks)

    @property
    def is_serving(self) -> bool:
        """Whether it acknowledges what it serves; the main process of a pool does not."""
        return self._heartbeat is not None

    def start(self) -> Heartbeat:
        """Load the models and follow the wanted versions from now on; does so once."""
        with self._starting:
            if self._heartbeat is None:
                # One core per process; a matrix product split over more threads may also differ in its last bit.
                threadpool_limits(1)
                self._heartbeat = Heartbeat(
                    self.redis,
                    self.models,
                    retry_seconds=self.settings.poll_seconds.total_seconds(),
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
        self.comparisons.store(self.redis)
        self.counts.store(self.redis)
        self._sweeper.take_turn()
        self._asked_reloads.grant()

    def _start_lane(self, heartbeat: Heartbeat) -> Lane:
        checkpoint_for = self._runner_of(heartbeat.process).checkpoint
        batch = CountedBatch(self.settings, self.models.serve, checkpoint_for, self.comparisons)
        batch.counts = self.counts
        tracks, worker = self._catalog.tracks, lane_of(heartbeat.process)
        lane = Lane(self.settings, batch, worker, tracks, watch=self._row, retire=self._retire)
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
            with contextlib.suppress(redis.RedisError):
                self.counts.store(self.redis)

    def answer(self, job_id: str, kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the result message of one prediction job; see `JobRunner.run` for what it raises."""
        self.start()
        self._answering_since, begun = time.time(), time.perf_counter()
        try:
            result = self.runner.run(job_id, kwargs, self.models.serve, self.comparisons)
            self.counts.answered(job_id, result, time.perf_counter() - begun)
            return result
        except UqueueError as error:
            self.counts.failed(job_id, error, time.perf_counter() - begun)
            raise
        finally:
            self._answering_since = None

    def poll(self, track: str, *, scheduled: bool) -> dict[str, Any]:
        """Look at the artifacts of a track now, or leave it to whoever does in this interval. Raises UnknownModel."""
        heartbeat, begun = self.start(), time.perf_counter()
        interval_seconds = self.settings.poll_seconds.total_seconds()
        report = poll(self.redis, self.models.store(track), interval_seconds, scheduled=scheduled)
        if report.outcome != "elsewhere":
            self.models.make_room(keep=track)
            heartbeat.acknowledge()
            prune(self.redis, track)
        self.counts.ended(JobState.SUCCEEDED.value, time.perf_counter() - begun, task=Task.POLL_ARTIFACTS.value)
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
