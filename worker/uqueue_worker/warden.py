"""Ending worker processes that cannot end themselves: stuck in native code, or stopped.

The processes of a pool share a small table with their parent, which was there before they were forked. Each writes that
it is alive and since when it computes; a thread in the parent reads. Celery does the same for its tasks; this is for
the lane, whose jobs are no tasks, and for processes that do nothing at all any more. Of one that has ended the parent
withdraws the acknowledgement, so that its jobs start again at once and not when it lapses.
"""

from __future__ import annotations

import contextlib
import math
import mmap
import os
import signal
import struct
import threading
import time
from collections.abc import Callable

import structlog
from redis.exceptions import RedisError

from uqueue_config.catalog import Catalog
from uqueue_config.connections import connect
from uqueue_config.errors import JobTimeLimit
from uqueue_config.ledger import Ledger, LedgerCommands, Outcome
from uqueue_config.names import serving_key
from uqueue_config.settings import Settings

#: A process that has not said for this long that it is alive is ended.
LIFELESS_SECONDS = 30.0
BEAT_SECONDS = 1.0
LOOK_SECONDS = 0.5
#: The exit code of a worker that did not end by itself when it was asked to.
EX_SOFTWARE = 70
_MOST_PROCESSES = 1024
#: pid, alive at, busy since (0: idle), id of the only job at hand (empty: several), the name it acknowledges under
_ROW = struct.Struct("qdd128s256s")
_log = structlog.get_logger("uqueue.warden")


class Table:
    """What processes tell their parent; make it before they are forked. Times are of the system's monotonic clock."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _ROW.size * _MOST_PROCESSES)

    def row(self, index: int) -> Row:
        return Row(self._memory, index % _MOST_PROCESSES)

    def rows(self) -> list[Row]:
        """Return the rows that some process has written."""
        rows = [Row(self._memory, index) for index in range(_MOST_PROCESSES)]
        return [row for row in rows if row.pid]


class Row:
    """One process in the table. Only that process writes."""

    def __init__(self, memory: mmap.mmap, index: int) -> None:
        self._memory = memory
        self._offset = index * _ROW.size
        self.pid, self.alive_at, self.busy_since, job_id, name = _ROW.unpack_from(memory, self._offset)
        self.job_id, self.name = job_id.rstrip(b"\0").decode(), name.rstrip(b"\0").decode()

    def start(self, name: str) -> None:
        """Begin to say that this process is alive, which acknowledges as `name`."""
        self.pid, self.busy_since, self.job_id, self.name = os.getpid(), 0.0, "", name
        threading.Thread(target=self._beat, name="uqueue-alive", daemon=True).start()

    def busy(self, job_id: str) -> None:
        """Say that a computation begins: of this job, or of several if empty."""
        self.busy_since, self.job_id = time.monotonic(), job_id
        self._write()

    def idle(self) -> None:
        self.busy_since = 0.0
        self._write()

    def _beat(self) -> None:
        while True:
            self.alive_at = time.monotonic()
            self._write()
            time.sleep(BEAT_SECONDS)

    def _write(self) -> None:
        row = (self.pid, self.alive_at, self.busy_since, self.job_id.encode()[:128], self.name.encode()[:256])
        _ROW.pack_into(self._memory, self._offset, *row)


class Warden:
    """Watches the processes of a pool from their parent; `children` are the pids that are there now."""

    def __init__(self, settings: Settings, table: Table, children: Callable[[], set[int]]) -> None:
        self._settings = settings
        self._tracks = Catalog.load(settings).tracks
        self._table = table
        self._children = children
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="uqueue-warden", daemon=True)
        self._looked_at = time.monotonic()
        self._names: dict[int, str] = {}
        self._end_by = math.inf

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()

    def expect_end(self, **_: object) -> None:
        """The worker was asked to end. A pool one of whose processes was killed in the wrong moment never does."""
        patience = 2 * self._settings.shutdown_seconds.total_seconds() + LIFELESS_SECONDS
        self._end_by = min(self._end_by, time.monotonic() + patience)

    def _run(self) -> None:
        patience_from = time.monotonic()
        while not self._stopping.wait(LOOK_SECONDS):
            now = time.monotonic()
            if now - self._looked_at > 10 * LOOK_SECONDS:  # this process was stopped, and the others may have been
                patience_from = now
            self._looked_at = now
            children = self._children()
            for row in self._table.rows():
                if row.pid in children:
                    self._names[row.pid] = row.name
                    self._look_at(row, now, patience_from)
            self._report_ended(children)
            if now > self._end_by:
                _log.error("shutdown_forced", processes=sorted(children))
                for pid in children:
                    _kill(pid)
                os._exit(EX_SOFTWARE)

    def _look_at(self, row: Row, now: float, patience_from: float) -> None:
        limit = self._settings.time_limit_seconds.total_seconds()
        if row.busy_since and now - row.busy_since > limit:
            _log.error("process_over_time_limit", pid=row.pid, seconds=limit, job_id=row.job_id)
            self._fail(row.job_id, limit)
            _kill(row.pid)
        elif now - max(row.alive_at, patience_from) > LIFELESS_SECONDS:
            _log.error("process_lifeless", pid=row.pid, seconds=round(now - row.alive_at, 1))
            _kill(row.pid)

    def _report_ended(self, children: set[int]) -> None:
        """Withdraw the acknowledgements of processes that are no longer there; tried again where Redis is away."""
        for pid in self._names.keys() - children:
            try:
                with connect(self._settings.result_store, retries=0) as connection:
                    for track in self._tracks:
                        connection.srem(serving_key(track), self._names[pid])
                        connection.delete(serving_key(track, self._names[pid]))
            except RedisError as error:
                _log.warning("redis_unreachable", reason=str(error))
            else:
                del self._names[pid]

    def _fail(self, job_id: str, limit: float) -> None:
        """End a job that exceeded the limit alone. Jobs that shared a batch start again, each alone."""
        if not job_id:
            return
        commands = LedgerCommands(self._settings.result_ttl_seconds, self._settings.record_ttl_seconds)
        outcome = Outcome.failure(JobTimeLimit(job_id=job_id, limit_seconds=limit))
        try:
            with connect(self._settings.result_store) as connection:
                Ledger(connection).run(commands.commit([(job_id, outcome)]))
        except RedisError as error:  # it starts again, and meets its limit again
            _log.warning("redis_unreachable", reason=str(error))


def _kill(pid: int) -> None:
    """End a process; a pool that shuts down still names some that have ended."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
