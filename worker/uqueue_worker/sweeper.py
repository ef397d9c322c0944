"""Finding jobs that got lost between a queue and a worker, and publishing them again.

Celery pops a message before it notes that it did; a process can die with a message it took; Redis can restart. The
ledger keeps the message of every open job, so a job that is neither queued nor with a living process starts again.
Every worker process takes its turn, so no other service has to run for it.
"""

from __future__ import annotations

import redis
import structlog

from uqueue_config.connections import connect
from uqueue_config.errors import JobAbandoned
from uqueue_config.ledger import Ledger, LedgerCommands, Outcome
from uqueue_config.names import Queue
from uqueue_config.settings import Settings

#: A job's whereabouts are looked into again after this time.
GRACE_SECONDS = 5.0
#: … or after this time, where nobody can look into the queue: every wait that is longer costs a surplus message.
ELSEWHERE_GRACE_SECONDS = 60.0
TURN_SECONDS = 2
MOST_JOBS = 500
TURN_KEY = "uqueue:sweeping"
_log = structlog.get_logger("uqueue.sweeper")


class Sweeper:
    """Sweeps on behalf of all; `take_turn` does nothing while another process just has."""

    def __init__(self, settings: Settings, connection: redis.Redis) -> None:
        self._settings = settings
        self._ledger = Ledger(connection)
        self._commands = LedgerCommands(settings.result_ttl_seconds, settings.record_ttl_seconds)

    def take_turn(self) -> None:
        if self._ledger.connection.set(TURN_KEY, "1", nx=True, ex=TURN_SECONDS):
            self.sweep()

    def sweep(self, *, grace_seconds: float = GRACE_SECONDS) -> None:
        """Look once at the jobs nobody has looked at for `grace_seconds`."""
        limit = self._settings.max_attempts
        here = self._settings.queue_is_with_records
        swept = self._ledger.run(
            self._commands.sweep(
                list(Queue),
                grace_seconds=grace_seconds if here else ELSEWHERE_GRACE_SECONDS,
                most=MOST_JOBS,
                max_attempts=limit,
                queue_is_here=here,
            )
        )
        for job_id in swept.abandoned:
            error = JobAbandoned(job_id=job_id, attempts=limit)
            if self._ledger.run(self._commands.commit([(job_id, Outcome.failure(error))])):
                _log.error("job_abandoned", job_id=job_id, attempts=limit)
        if swept.messages:
            with connect(self._settings.broker) as broker:
                for queue, message in swept.messages:
                    broker.lpush(queue, message)
