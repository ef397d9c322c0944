"""Faults at random, drawn by a seed."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import psutil
from redis.exceptions import RedisError

from chaos.town import Town, children_of
from uqueue.supervisor import Service
from uqueue_config.connections import connect
from uqueue_config.names import job_key

RUNNING = "uqueue:running"


class Faults:
    """Strikes a town. The kinds come in shuffled rounds, so that none is forgotten.

    done     how often each kind struck
    in_hand  how many jobs the processes that were struck had begun and not ended, by kind
    """

    def __init__(self, town: Town, seed: int) -> None:
        self._town = town
        self._rng = random.Random(seed)
        self._kinds: list[Callable[[], None]] = []
        self._sleepers: list[threading.Timer] = []
        self.done: Counter[str] = Counter()
        self.in_hand: Counter[str] = Counter()

    def strike(self) -> None:
        if not self._kinds:
            self._kinds = [self.kill_child, self.kill_worker, self.kill_redis]
            self._kinds += [self.stop_child, self.stop_redis, self.end_worker]
            self._rng.shuffle(self._kinds)
        kind = self._kinds.pop()
        kind()
        self.done[kind.__name__] += 1

    def pause(self, shortest: float, longest: float) -> None:
        time.sleep(self._rng.uniform(shortest, longest))

    def wake_all(self) -> None:
        """Wait until every process that was stopped goes on."""
        for sleeper in self._sleepers:
            sleeper.join()

    # --- the kinds ---

    def kill_child(self) -> None:
        """A process of a pool dies; its parent starts another."""
        for child in self._one_child():
            self._note("kill_child", [child])
            child.kill()

    def kill_worker(self) -> None:
        """A worker and its pool die; another worker is started."""
        worker = self._rng.choice(self._town.workers)
        processes = [psutil.Process(worker.pid), *children_of(worker)]
        self._note("kill_worker", processes)
        for process in processes:
            _send(process.kill)
        self._town.replace_worker(worker)

    def kill_redis(self) -> None:
        self._note("kill_redis", [child for worker in self._town.workers for child in children_of(worker)])
        self._town.kill_redis()
        self.pause(0, 1.5)
        self._town.revive_redis()

    def stop_child(self) -> None:
        """A process of a pool stands still until its acknowledgement has lapsed, and then goes on with its jobs."""
        for child in self._one_child():
            self._note("stop_child", [child])
            child.suspend()
            sleeper = threading.Timer(self._rng.uniform(12, 15), _send, (child.resume,))
            sleeper.start()
            self._sleepers.append(sleeper)

    def stop_redis(self) -> None:
        with self._town.stopped_redis():
            self.pause(1, 3)

    def end_worker(self) -> None:
        """A worker is asked to end and finishes its jobs; another is started meanwhile."""
        worker = self._rng.choice(self._town.workers)
        self._note("end_worker", children_of(worker))
        psutil.Process(worker.pid).terminate()
        self._town.replace_worker(worker)

    def _one_child(self) -> Iterable[psutil.Process]:
        children = [child for worker in self._town.workers for child in children_of(worker)]
        return [self._rng.choice(children)] if children else []

    def _note(self, kind: str, processes: Iterable[psutil.Process]) -> None:
        self.in_hand[kind] += jobs_of(self._town, {process.pid for process in processes})


def jobs_of(town: Town, pids: set[int]) -> int:
    """Return how many jobs these processes have begun and not ended."""
    try:
        with connect(town.service.settings.broker, reply_seconds=1, retries=0) as connection:
            ids: Any = connection.zrange(RUNNING, 0, -1)
            pipeline = connection.pipeline(transaction=False)
            for job_id in ids:
                pipeline.hget(job_key(job_id.decode()), "worker")
            holders = [holder.decode() for holder in pipeline.execute() if holder]
    except RedisError:
        return 0
    return sum(int(holder.rpartition(":")[2]) in pids for holder in holders)


def _send(signal: Callable[[], None]) -> None:
    """A process may have ended by itself, or been killed meanwhile."""
    with contextlib.suppress(psutil.NoSuchProcess):
        signal()


def has_ended(worker: Service) -> bool:
    return worker.returncode is not None
