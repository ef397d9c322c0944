"""What may pass from a queue to Celery, and what becomes a dead letter instead."""

from __future__ import annotations

import functools
import re
import time
import uuid
from collections import deque
from typing import Any, cast

import structlog
from redis.exceptions import RedisError

from uqueue_config.connections import connect
from uqueue_config.envelope import read_for_celery
from uqueue_config.errors import InvalidMessage
from uqueue_config.learning.names import LearningQueue, LearningTask
from uqueue_config.ledger import Ledger, LedgerCommands
from uqueue_config.names import CELERY_DEFAULT_QUEUE, Queue, Task, job_key
from uqueue_config.settings import Settings
from uqueue_worker import process

#: A producer may be allowed to push predictions and nothing else, so tasks do not travel in each other's queues.
TASKS_OF_QUEUE: dict[str, frozenset[str]] = {
    Queue.PREDICTIONS: frozenset({Task.PREDICT}),
    Queue.CONTROL: frozenset({Task.POLL_ARTIFACTS}),
    CELERY_DEFAULT_QUEUE: frozenset({Task.PREDICT}),
    **{queue.value: frozenset(LearningTask) for queue in LearningQueue},
}
_KNOWN_TASKS = frozenset(task for tasks in TASKS_OF_QUEUE.values() for task in tasks)
LEARNING_TASKS = frozenset(LearningTask)
_RETRY_SECONDS = 1.0
_SHOWN_ID = re.compile(rb'"id": ?"([A-Za-z0-9_.:-]{1,128})"')
_log = structlog.get_logger("uqueue.gate")


class Gate:
    """Lets a message through or buries it. What could be neither, while the ledger's Redis is away, is held."""

    def __init__(self, settings: Settings, ledger: Ledger) -> None:
        self._settings = settings
        self._ledger = ledger
        self._commands = LedgerCommands(settings.result_ttl_seconds, settings.record_ttl_seconds)
        self._held: deque[tuple[str, bytes]] = deque()
        self._retry_at = 0.0

    @property
    def holds(self) -> bool:
        return bool(self._held)

    def admit(self, queue: str, message: bytes) -> dict[str, Any] | None:
        """Return what to hand to Celery, or None: then the message is a dead letter, or held."""
        try:
            try:
                return self._checked(queue, message)
            except InvalidMessage as error:
                self.bury(queue, message, error.reason)
        except RedisError as error:
            _log.warning("message_held", queue=queue, reason=str(error), size_bytes=len(message))
            self._held.append((queue, message))
            self._retry_at = time.monotonic() + _RETRY_SECONDS
        return None

    def admit_held(self) -> tuple[str, dict[str, Any]] | None:
        """Try the oldest held message again, at most once a second. Returns (queue, what to hand to Celery) or None."""
        if not self._held or time.monotonic() < self._retry_at:
            return None
        queue, message = self._held.popleft()
        envelope = self.admit(queue, message)
        return None if envelope is None else (queue, envelope)

    def put_back(self, client: Any) -> None:
        """Return held messages to their queues. Raises RedisError, and still holds what could not be returned."""
        while self._held:
            client.rpush(*self._held[0])
            self._held.popleft()

    def bury(self, queue: str, message: bytes, reason: str) -> None:
        """Keep a message as a dead letter. Raises RedisError."""
        shown = _SHOWN_ID.search(message)
        job_id = shown[1].decode() if shown else None
        number = self._ledger.run(self._commands.bury(queue, message, reason, job_id))
        _log.warning("message_buried", queue=queue, reason=reason, letter=number, job_id=job_id)

    def _checked(self, queue: str, message: bytes) -> dict[str, Any]:
        limit = self._settings.max_inline_bytes
        if len(message) > limit:
            raise InvalidMessage(reason=f"{len(message)} bytes, UQUEUE_MAX_INLINE_BYTES allows {limit}")
        envelope, kwargs = read_for_celery(message)
        headers, properties = envelope["headers"], envelope["properties"]
        _check_task(queue, headers["task"])
        if headers["task"] == Task.PREDICT:
            self._leave_to_the_ledger(headers)
        elif headers["task"] in LEARNING_TASKS:
            headers["ignore_result"] = True  # none of them is a job, whatever id it names
        else:
            self._check_poll(headers["id"], kwargs)
        # Kombu files unacknowledged messages by tag, and restores them to the queue that they name.
        properties["delivery_tag"] = str(uuid.uuid4())
        properties["delivery_info"] |= {"exchange": "", "routing_key": queue}
        return envelope

    def _leave_to_the_ledger(self, headers: dict[str, Any]) -> None:
        """Take out by what a message could end a job that it merely names, and make sure that its outcome is stored."""
        headers["ignore_result"] = False
        limits = headers.get("timelimit") or (None,)
        if (headers.get("expires") or any(limits)) and self._ledger.connection.exists(job_key(headers["id"])):
            headers["expires"] = headers["timelimit"] = None

    def _check_poll(self, job_id: str, kwargs: dict[str, Any]) -> None:
        """A poll under the id of a prediction would end it, by its answer or by an argument that it does not take."""
        if not kwargs.keys() <= {"model", "scheduled"}:
            raise InvalidMessage(reason="body: a poll has no arguments but `model` and `scheduled`")
        if not (isinstance(kwargs.get("model", ""), str) and isinstance(kwargs.get("scheduled", False), bool)):
            raise InvalidMessage(reason="body: a poll names its `model` in text, and `scheduled` is true or false")
        queue, model = cast(list[Any], self._ledger.connection.hmget(job_key(job_id), ["queue", "model"]))
        if queue == Queue.PREDICTIONS.value.encode() or (queue is None and model is not None):
            raise InvalidMessage(reason="headers.id: it belongs to a prediction")


def _check_task(queue: str, task: str) -> None:
    if task not in _KNOWN_TASKS:
        raise InvalidMessage(reason=f"unknown task {task[:80]!r}")
    if task not in TASKS_OF_QUEUE.get(queue, _KNOWN_TASKS):
        raise InvalidMessage(reason=f"task {task} does not belong in the queue {queue}")


@functools.cache
def gate() -> Gate:
    """Return the gate of this process; it outlives the connections that ask it."""
    settings = process.current().settings
    return Gate(settings, Ledger(connect(settings.result_store, reply_seconds=3.0, retries=1)))
