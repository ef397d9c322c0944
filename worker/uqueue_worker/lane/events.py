"""What Flower is told of a batch: one Celery message that holds the events of all its jobs.

Celery's own dispatcher sends such groups too (routing key `task.multi`), and its receivers take them apart. The
envelope is kombu's for a fanout on Redis.
"""

from __future__ import annotations

import base64
import os
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic_core import from_json, to_json

from uqueue_config.ledger import ClaimedJob
from uqueue_config.names import JobState, Task
from uqueue_worker.lane.batch import Answer
from uqueue_worker.lane.wire import Plain

EXCHANGE = "celeryev"
ROUTING_KEY = "task.multi"


class BatchEvents:
    """Makes events in the name of the Celery worker `hostname`, for the Redis database of the broker."""

    def __init__(self, hostname: str, database: int) -> None:
        self._hostname = hostname
        self._channel = f"/{database}.{EXCHANGE}/{ROUTING_KEY}"

    def of(self, answers: Sequence[Answer], jobs: Mapping[str, ClaimedJob], started: float) -> Plain:
        """Return the command that tells of jobs answered now and begun at `started` (seconds since the epoch)."""
        common = {"hostname": self._hostname, "pid": os.getpid(), "clock": 0, "utcoffset": 0}
        ended = time.time()
        events: list[dict[str, Any]] = []
        for answer in answers:
            one = {**common, "uuid": answer.job_id}
            shown = _shown_arguments(jobs[answer.job_id].message)
            events += (
                {
                    **one,
                    "type": "task-received",
                    "timestamp": started,
                    "name": Task.PREDICT,
                    "args": "()",
                    "kwargs": shown,
                },
                {**one, "type": "task-started", "timestamp": started},
                {**one, "timestamp": ended, **_end(answer, ended - started)},
            )
        return ("PUBLISH", self._channel, self._envelope(events))

    def _envelope(self, events: list[dict[str, Any]]) -> bytes:
        envelope = {
            "body": base64.b64encode(to_json(events)).decode("ascii"),
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
        return to_json(envelope)


def _end(answer: Answer, runtime: float) -> dict[str, Any]:
    if answer.state == JobState.SUCCEEDED:
        return {"type": "task-succeeded", "result": "", "runtime": runtime}
    if answer.state == JobState.FAILED:
        return {"type": "task-failed", "exception": repr(from_json(answer.error_json)["message"]), "traceback": ""}
    return {"type": "task-revoked", "terminated": False, "signum": None, "expired": False}


def _shown_arguments(message: bytes) -> Any:
    """Return the arguments as the sender wants them shown; never the numbers themselves."""
    try:
        return from_json(message)["headers"].get("kwargsrepr", "")
    except (ValueError, KeyError, TypeError, AttributeError):
        return ""
