"""What Flower is told of a batch: one Celery message that holds the events of all its jobs.

Celery's own dispatcher sends such groups too (routing key `task.multi`), and its receivers take them apart. The
envelope is kombu's for a fanout on Redis.
"""

from __future__ import annotations

import base64
import json
import os
import time
import uuid
from collections.abc import Sequence
from typing import Any

from uqueue_config.connections import connect
from uqueue_config.ledger import ClaimedJob, Outcome
from uqueue_config.names import JobState, Task
from uqueue_worker.lane.batch import shown_arguments

EXCHANGE = "celeryev"
ROUTING_KEY = "task.multi"


class BatchEvents:
    """Publishes events in the name of the Celery worker `hostname`."""

    def __init__(self, hostname: str, broker_url: str) -> None:
        self._hostname = hostname
        self._redis = connect(broker_url)
        database = self._redis.connection_pool.connection_kwargs.get("db", 0)
        self._channel = f"/{database}.{EXCHANGE}/{ROUTING_KEY}"

    def publish(self, jobs: Sequence[ClaimedJob], outcomes: Sequence[tuple[str, Outcome]], started: float) -> None:
        """Tell what happened to the jobs of a batch that began at `started` (seconds since the epoch)."""
        ended = dict(outcomes)
        runtime = time.time() - started
        events = [event for job in jobs for event in self._events(job, ended.get(job.id), started, runtime)]
        self._redis.publish(self._channel, self._envelope(events))

    def _events(self, job: ClaimedJob, outcome: Outcome | None, started: float, runtime: float) -> list[dict[str, Any]]:
        arguments = {"name": Task.PREDICT.value, "args": "()", "kwargs": shown_arguments(job.message)}
        events = [self._event("received", job.id, started, **arguments), self._event("started", job.id, started)]
        if outcome is None:
            return events
        if outcome.state is JobState.SUCCEEDED:
            events.append(self._event("succeeded", job.id, started + runtime, result="", runtime=runtime))
        elif outcome.error is not None and outcome.state is JobState.FAILED:
            message = repr(outcome.error.message)
            events.append(self._event("failed", job.id, started + runtime, exception=message, traceback=""))
        else:
            events.append(
                self._event("revoked", job.id, started + runtime, terminated=False, signum=None, expired=False)
            )
        return events

    def _event(self, what: str, job_id: str, timestamp: float, **more: Any) -> dict[str, Any]:
        return {
            "type": f"task-{what}",
            "uuid": job_id,
            "hostname": self._hostname,
            "timestamp": timestamp,
            "pid": os.getpid(),
            "clock": 0,
            "utcoffset": 0,
            **more,
        }

    def _envelope(self, events: list[dict[str, Any]]) -> str:
        envelope = {
            "body": base64.b64encode(json.dumps(events).encode()).decode("ascii"),
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": {"hostname": self._hostname},
            "properties": {
                "delivery_mode": 1,
                "delivery_info": {"exchange": EXCHANGE, "routing_key": ROUTING_KEY},
                "priority": 0,
                "body_encoding": "base64",
                "delivery_tag": str(uuid.uuid4()),
            },
        }
        return json.dumps(envelope)
