"""Many messages that differ in their id and arguments only: the rest of the envelope is written once."""

from __future__ import annotations

from functools import lru_cache

from pydantic_core import to_json

from uqueue_config.envelope import celery_message
from uqueue_config.trace import TraceContext

_ID = "11111111-1111-1111-1111-111111111111"
_HEADERS = b'"headers":{'
_BEFORE, _AFTER = "[[],", ',{"callbacks":null,"errbacks":null,"chain":null,"chord":null}]'


class MessageTemplate:
    """Writes what `celery_message` would write for one task, queue and description of the arguments."""

    def __init__(self, task: str, *, queue: str, argsrepr: str) -> None:
        text = celery_message(_ID, task, {}, queue=queue, argsrepr=argsrepr, delivery_tag=_ID).encode()
        head, _, tail = text.rpartition(to_json(f"{_BEFORE}{{}}{_AFTER}"))
        self._around_id = head.split(_ID.encode())
        self._tail = tail

    def message(self, job_id: str, kwargs_json: str, trace: TraceContext | None = None) -> bytes:
        """Return the message of one job; `kwargs_json` is a JSON object, the id needs no escape in JSON."""
        head = job_id.encode().join(self._around_id)
        if trace is not None:
            head = head.replace(_HEADERS, _HEADERS + trace.headers_json, 1)
        return head + to_json(_BEFORE + kwargs_json + _AFTER) + self._tail


@lru_cache(maxsize=256)
def template(task: str, queue: str, argsrepr: str) -> MessageTemplate:
    return MessageTemplate(task, queue=queue, argsrepr=argsrepr)
