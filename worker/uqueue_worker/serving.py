"""Keeping one process on the wanted version, and saying so.

The wanted version is a pointer in Redis. A process compares it when it claims a job, when a reload signal comes, and
every heartbeat, so that a lost signal or a late start changes nothing. Each heartbeat renews the acknowledgement.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, cast

import redis
import structlog
from redis.exceptions import RedisError

from uqueue_config.messages import LAPSE_SECONDS, Acknowledgement, PollReport
from uqueue_config.names import MODELS_KEY, RELOAD_CHANNEL, candidate_key, serving_key, wanted_key
from uqueue_worker.models.store import Candidate, ModelStore

HEARTBEAT_SECONDS = 2.0
#: In a script, because a Redis at its memory limit would refuse the commands: what serves must not look dead then.
_ACKNOWLEDGE = """#!lua flags=allow-oom
redis.call('SADD', KEYS[1], ARGV[1])
redis.call('SADD', KEYS[2], ARGV[2])
redis.call('SET', KEYS[3], ARGV[3], 'EX', ARGV[4])
"""
_log = structlog.get_logger("uqueue.serving")


class Pointer:
    """The wanted version of one model, in Redis."""

    def __init__(self, connection: redis.Redis, store: ModelStore) -> None:
        self._redis = connection
        self._store = store

    def read(self) -> str | None:
        version = cast(bytes | None, self._redis.hget(wanted_key(self._store.name), "version"))
        return version.decode() if version else None

    def move(self, *, only_if_unset: bool = False) -> None:
        """Point at what this process serves, and tell the others to look."""
        model = self._store.model
        if model is None or (only_if_unset and self.read() is not None):
            return
        fields = {
            "version": model.identity.version,
            "n_features": model.n_features,
            "n_targets": model.n_targets,
            "moved_at": repr(time.time()),
        }
        pipeline = self._redis.pipeline(transaction=True)
        pipeline.hset(wanted_key(self._store.name), mapping=cast(Any, fields))
        pipeline.publish(RELOAD_CHANNEL, self._store.name)
        pipeline.execute()


class Heartbeat:
    """A thread that follows the pointer, renews the acknowledgement and does `chores` at every beat."""

    def __init__(
        self,
        connection: redis.Redis,
        store: ModelStore,
        *,
        retry_seconds: float,
        jobs_done: Callable[[], int],
        busy_since: Callable[[], float | None],
        pool_pid: int | None,
        chores: Callable[[], None],
    ) -> None:
        self._redis = connection
        self._store = store
        self._pointer = Pointer(connection, store)
        self._retry_seconds = retry_seconds
        self._jobs_done = jobs_done
        self._busy_since = busy_since
        self._pool_pid = pool_pid
        self._renew: Any = connection.register_script(_ACKNOWLEDGE)
        self._chores = chores
        self._last_try = 0.0
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        # The middle tells it from another that had the same number before, as in a container that was restarted.
        self.process = f"{socket.gethostname()}/{os.urandom(3).hex()}:{os.getpid()}"

    def start(self) -> None:
        """Load the first model, acknowledge it, and go on in the background."""
        self._guarded(self._first_look)
        self._thread = threading.Thread(target=self._run, name="uqueue-heartbeat", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop following and withdraw the acknowledgement."""
        self._stopping.set()
        self._guarded(self._withdraw)

    def acknowledge(self) -> None:
        """Tell Redis what this process serves, for a few seconds."""
        store = self._store
        identity = store.model.identity if store.model else None
        statement = Acknowledgement(
            host=socket.gethostname(),
            pid=os.getpid(),
            model=store.name,
            state=store.state.value,
            version=store.version,
            sha256=identity.sha256 if identity else None,
            engine=store.model.engine_name if store.model else None,
            forward_mode=store.model.forward_mode if store.model else None,
            stochastic=store.model.stochastic if store.model else None,
            loaded_at=store.loaded_at,
            jobs_done=self._jobs_done(),
            busy_since=self._busy_since(),
            pool_pid=self._pool_pid,
            artifacts_missing=store.artifacts_missing,
            reason=store.reason,
        )
        keys = (MODELS_KEY, serving_key(store.name), serving_key(store.name, self.process))
        self._renew(keys, (store.name, self.process, statement.model_dump_json(), LAPSE_SECONDS))

    def _first_look(self) -> None:
        wanted = self._pointer.read()
        self._store.start(wanted)
        self._pointer.move(only_if_unset=True)
        self.acknowledge()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._guarded(self._follow)
            self._stopping.wait(0.5)

    def _follow(self) -> None:
        """Look now, then at every signal and every heartbeat, until the connection breaks or the process stops."""
        with self._redis.pubsub() as signals:  # type: ignore[no-untyped-call]
            signals.subscribe(RELOAD_CHANNEL)
            while not self._stopping.is_set():
                self._look()
                message: Any = signals.get_message(timeout=HEARTBEAT_SECONDS)
                while message is not None:  # several signals are one reason to look
                    message = signals.get_message(timeout=0)

    def _look(self) -> None:
        wanted = self._pointer.read()
        if wanted is not None:
            self._store.move_to(wanted)
        if self._store.model is None and time.monotonic() - self._last_try > self._retry_seconds:
            self._last_try = time.monotonic()
            self._store.start(wanted)
        self._pointer.move(only_if_unset=True)
        if not self._stopping.is_set():
            self.acknowledge()
            self._guarded(self._chores)

    def _withdraw(self) -> None:
        self._redis.srem(serving_key(self._store.name), self.process)
        self._redis.delete(serving_key(self._store.name, self.process))

    def _guarded(self, step: Callable[[], None]) -> None:
        try:
            step()
        except RedisError as error:
            _log.warning("redis_unreachable", reason=str(error))
        except Exception:
            _log.exception("heartbeat_failed")


def poll(connection: redis.Redis, store: ModelStore) -> PollReport:
    """Look at the source; move the pointer to a good new version, remember a refused one for people to see."""
    previous = store.version
    pointer = Pointer(connection, store)
    candidate = store.examine()
    wanted = pointer.read()
    if store.model is not None and candidate.outcome in ("moved", "unchanged"):
        if wanted != store.version:
            pointer.move()
            outcome: Any = "moved"
        else:
            outcome = "unchanged"
        _forget_refusals(connection, store)
    else:
        outcome = candidate.outcome
        _remember_refusal(connection, store, candidate)
    report = PollReport(
        model=store.name,
        outcome=outcome,
        version=candidate.version,
        previous=wanted or previous,
        reason=candidate.reason,
    )
    if outcome != "unchanged":
        _log.info("artifacts_polled", **report.model_dump())
    return report


def _remember_refusal(connection: redis.Redis, store: ModelStore, candidate: Candidate) -> None:
    fields = {"version": candidate.version or "", "reason": candidate.reason or ""}
    pipeline = connection.pipeline(transaction=True)
    pipeline.hset(candidate_key(store.name), mapping=cast(Any, fields))
    pipeline.execute()


def _forget_refusals(connection: redis.Redis, store: ModelStore) -> None:
    connection.delete(candidate_key(store.name))


def prune(connection: redis.Redis, name: str) -> None:
    """Drop processes that no longer acknowledge from the set of who serves."""
    members = [member.decode() for member in cast(Any, connection.smembers(serving_key(name)))]
    for member in members:
        if not connection.exists(serving_key(name, member)):
            connection.srem(serving_key(name), member)
