"""Requests as they come out of the queue: take one, answer it, leave the answer where its asker waits.

`connection` is a Redis client of the server with the records; this module imports none.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from enum import Enum
from typing import Any

import structlog
from pydantic import BaseModel

from uqueue_config.errors import InternalError, UqueueError
from uqueue_config.learning.answers import frame_of, frame_of_error
from uqueue_config.learning.names import ANSWER_SECONDS, PRESENCE_KEY, PRESENCE_SECONDS, answer_key, asked_key
from uqueue_config.learning.requests import Ask, Request

_log = structlog.get_logger("uqueue.learning.asked")


class Later(Enum):
    """What is returned in place of an answer that comes from another task."""

    LATER = "later"


LATER = Later.LATER
Answering = Callable[[Request[Any]], BaseModel | Later]


def serve(kwargs: Mapping[str, Any], answering: Answering, connection: Any) -> bool:
    """Answer the request in the keyword arguments of a message; True if it was begun with.

    False where its asker gave it up, or another delivery of the same message was begun with. Whatever `answering`
    raises is answered; where it returns LATER, somebody else calls `leave_answer`. Raises InvalidMessage, and what
    Redis raises.
    """
    ask = Ask.read(kwargs)
    if not connection.delete(asked_key(ask.token)):
        _log.info("request passed over", request=ask.request.kind)
        return False
    leave_answer(ask.token, ask.request.kind, lambda: answering(ask.request), connection)
    return True


def leave_answer(token: str, kind: str, answering: Callable[[], BaseModel | Later], connection: Any) -> None:
    """Leave what `answering` returns or raises where its asker waits, unless it is LATER."""
    begun = time.monotonic()
    frame, outcome = _frame(kind, answering)
    if frame:
        where = answer_key(token)
        pipeline = connection.pipeline(transaction=True)
        pipeline.delete(where)
        pipeline.rpush(where, frame)
        pipeline.expire(where, ANSWER_SECONDS)
        pipeline.execute()
    duration_ms = round(1000 * (time.monotonic() - begun), 3)
    _log.info("request answered", request=kind, outcome=outcome, duration_ms=duration_ms, bytes=len(frame))


def _frame(kind: str, answering: Callable[[], BaseModel | Later]) -> tuple[bytes, str]:
    """Return what crosses Redis, nothing for LATER, and the error's code, or "ok"."""
    try:
        found = answering()
        return (b"", "later") if isinstance(found, Later) else (frame_of(found), "ok")
    except UqueueError as error:
        return frame_of_error(error), error.code
    except Exception:
        reference = uuid.uuid4().hex[:12]
        _log.exception("request failed", request=kind, reference=reference)
        return frame_of_error(InternalError(reference=reference)), InternalError.code


class Presence:
    """Says in Redis that a learning worker is there, as long as it runs: from a thread of its own."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="learning-presence", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the thread; the key lapses by itself, since another worker may be there."""
        self._stopped.set()
        self._thread.join(PRESENCE_SECONDS)

    def _renew(self) -> None:
        while True:
            with suppress(Exception):  # Redis away: its clients notice that themselves
                self._connection.set(PRESENCE_KEY, f"{time.time():.0f}", ex=PRESENCE_SECONDS)
            if self._stopped.wait(PRESENCE_SECONDS / 3):
                return
