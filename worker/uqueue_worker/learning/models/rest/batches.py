"""A question in batches: bounded in rows and bytes, a few at a time, answered in the order of the rows."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import numpy as np

from uqueue_worker.learning.breaker import CircuitBreaker
from uqueue_worker.learning.errors import FeatureMismatch
from uqueue_worker.learning.models.rest.answers import Answer, Question, Unfit
from uqueue_worker.learning.models.rest.dialects.base import Dialect
from uqueue_worker.learning.models.rest.endpoint import Endpoint
from uqueue_worker.learning.models.rest.transport import Transport


async def asked(question: Question, dialect: Dialect, transport: Transport, breaker: CircuitBreaker) -> list[Answer]:
    """Return the answers to all rows, in their order.

    As long as the breaker is not closed, one batch goes at a time: others beside a probe would be refused. The first
    batch that fails ends the others. Raises errors of the tree.
    """
    batches = enumerate(_batches(question, dialect))
    found: dict[int, Answer] = {}

    async def next_batches(*, until_closed: bool = False) -> None:
        for number, (part, body) in batches:
            found[number] = await _answered(part, body, dialect, transport)
            if until_closed and breaker.state == "closed":
                return

    if breaker.state != "closed":
        await next_batches(until_closed=True)
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(dialect.endpoint.concurrency):
                group.create_task(next_batches())
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return [found[number] for number in sorted(found)]


def encoded(body: dict[str, Any]) -> bytes:
    """Return JSON without spaces. Raises ValueError for NaN and infinities, which JSON does not have."""
    return json.dumps(body, allow_nan=False, separators=(",", ":")).encode()


async def _answered(part: Question, body: bytes, dialect: Dialect, transport: Transport) -> Answer:
    path = dialect.path(part.version)
    answer = await transport.post(path, body, part.request_id)
    try:
        return dialect.read(answer, part)
    except Unfit as problem:
        raise dialect.unfit(path, str(problem)) from None


def _batches(question: Question, dialect: Dialect) -> Iterator[tuple[Question, bytes]]:
    """Yield parts of a question with their requests, each made when its turn comes."""
    if not np.isfinite(question.rows).all():
        raise FeatureMismatch(reason="some values are NaN or infinite, which cannot be sent")
    step = dialect.endpoint.batch_rows
    for start in range(0, len(question), step):
        yield from _fitting(question, start, min(start + step, len(question)), dialect, dialect.endpoint)


def _fitting(
    question: Question, start: int, stop: int, dialect: Dialect, endpoint: Endpoint
) -> Iterator[tuple[Question, bytes]]:
    part = question.part(start, stop, str(uuid4()))
    body = encoded(dialect.body(part))
    if len(body) <= endpoint.batch_bytes:
        yield part, body
        return
    if len(part) == 1:
        reason = f"the request for one sample has {len(body)} bytes, more than the {endpoint.batch_bytes} allowed"
        raise FeatureMismatch(reason=reason)
    middle = (start + stop) // 2
    yield from _fitting(question, start, middle, dialect, endpoint)
    yield from _fitting(question, middle, stop, dialect, endpoint)
