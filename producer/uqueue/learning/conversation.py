"""How a client asks the learning worker: as steps that either kind of client carries out. No I/O here.

1. A note is left in Redis that the request is open, and the request goes to the queue `alm`.
2. The worker takes the note away and begins; whoever takes it away first decides, so a request that its asker gave up
   is never begun with, and one that was delivered twice is done once.
3. The answer is a list of one element that lapses. It is read by moving it from its head to its own head: a reply that
   is lost can be asked for again.
"""

from __future__ import annotations

import secrets
import time
import uuid
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Literal, cast

from uqueue_config.envelope import celery_message
from uqueue_config.errors import InputError, PayloadTooLarge
from uqueue_config.learning.answers import opened
from uqueue_config.learning.errors import AnswerLate, LearningBusy, NoLearningWorker
from uqueue_config.learning.names import PRESENCE_KEY, LearningQueue, LearningTask, answer_key, asked_key
from uqueue_config.learning.requests import AnyRequest, Ask, Request
from uqueue_config.trace import current_trace

#: Without any sign of a learning worker a request is given up after so long.
NO_WORKER_SECONDS = 5.0
#: How long a request may take unless its caller says otherwise.
TIMEOUT_SECONDS = 60.0
MAX_TIMEOUT_SECONDS = 86_400.0
_LOOK_SECONDS = 1.0
_GRACE_SECONDS = 30


@dataclass(frozen=True)
class Step:
    """One Redis command: to the server with the records, or to the broker."""

    where: Literal["records", "queue"]
    command: tuple[Any, ...]


Conversation = Generator[Step, Any, Any]


def conversation(request: Request[Any], timeout: float, limit_bytes: int) -> Conversation:
    """Yield the commands to run, each answered with its reply; returns the answer as a JSON value.

    Raises the error that the worker answered, NoLearningWorker, LearningBusy, AnswerLate; before anything is sent
    PayloadTooLarge for a message of more than `limit_bytes`, and InputError for a timeout that is none.
    """
    if not 0 < timeout <= MAX_TIMEOUT_SECONDS:
        raise InputError(reason=f"timeout: expected seconds up to {MAX_TIMEOUT_SECONDS:g}, got {timeout:g}")
    ask = Ask(token=secrets.token_hex(16), request=cast(AnyRequest, request))
    message = _message(ask)
    if len(message) > limit_bytes:
        raise _too_large(len(message), limit_bytes)
    open_note, answers, begun = asked_key(ask.token), answer_key(ask.token), time.monotonic()
    yield Step("records", ("SET", open_note, ask.request.kind, "EX", int(timeout) + _GRACE_SECONDS))
    yield Step("queue", ("LPUSH", LearningQueue.ALM.value, message))
    while True:
        left = begun + timeout - time.monotonic()
        waited = time.monotonic() - begun
        if left <= 0 or (waited > NO_WORKER_SECONDS and (yield from _is_alone(open_note))):
            break
        frame = yield Step("records", ("BLMOVE", answers, answers, "LEFT", "LEFT", min(_LOOK_SECONDS, max(left, 0.05))))
        if frame is not None:
            yield Step("records", ("DEL", answers))
            return opened(frame)
    if not (yield Step("records", ("DEL", open_note))):
        raise AnswerLate(waited_seconds=f"{waited:.0f}")
    yield Step("queue", ("LREM", LearningQueue.ALM.value, 1, message))
    error = LearningBusy if (yield Step("records", ("EXISTS", PRESENCE_KEY))) else NoLearningWorker
    raise error(waited_seconds=f"{waited:.0f}")


def _is_alone(open_note: str) -> Generator[Step, Any, bool]:
    """Return whether nobody has begun with the request, and no learning worker says that it is there."""
    is_open = yield Step("records", ("EXISTS", open_note))
    return bool(is_open) and not (yield Step("records", ("EXISTS", PRESENCE_KEY)))


def _message(ask: Ask) -> bytes:
    shown, queue = f"{{'request': {ask.request.kind!r}}}", LearningQueue.ALM.value
    task, trace = LearningTask.ASK.value, current_trace.get()
    text = celery_message(str(uuid.uuid4()), task, ask.to_message(), queue=queue, argsrepr=shown, trace=trace)
    return text.encode()


def _too_large(size: int, limit: int) -> PayloadTooLarge:
    message = (
        f"The request would travel as {size} bytes; UQUEUE_MAX_INLINE_BYTES allows {limit}. Name a data set that the "
        "learning worker can read instead of sending samples."
    )
    return PayloadTooLarge(message, size_bytes=size, limit_bytes=limit)
