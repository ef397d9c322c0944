"""Asking a worker to look at a model's artifacts now.

Who may push to the control queue may fill it with whatever they like, so a gateway may not. It leaves a note instead,
for which every worker process that serves the model looks at each heartbeat, and waits for the poll that comes of it.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import Any

from uqueue.aio import AsyncClient
from uqueue.status import ReloadReport
from uqueue_config.connections import translated
from uqueue_config.errors import JobNotFinished, JobNotFound
from uqueue_config.messages import PollReport
from uqueue_config.names import RELOADS_KEY

#: A note that no process has seen for so long is forgotten.
KEPT_SECONDS = 60
LOOK_SECONDS = 0.05


async def reload(client: AsyncClient, connection: Any, model: str, timeout_seconds: float) -> ReloadReport:
    """Have the artifacts of a model looked at and wait for every process, as `AsyncClient.reload` does.

    Raises UnknownModel, JobNotFinished where no process sees the note or answers in time, and what the poll raises.
    """
    deadline = time.monotonic() + timeout_seconds
    await client.model(model)
    with translated(client.settings.result_store):
        job_id = await _ask(connection, model)
    while not await _is_open(client, job_id):
        if time.monotonic() > deadline:
            raise JobNotFinished(job_id=job_id, state="queued", timeout_seconds=f"{timeout_seconds:g}")
        await asyncio.sleep(LOOK_SECONDS)
    poll = PollReport.model_validate(await client.job(job_id).message(max(0.0, deadline - time.monotonic())))
    while not (status := await client.model(model)).converged and time.monotonic() < deadline:
        await asyncio.sleep(LOOK_SECONDS)
    return ReloadReport(poll, status)


async def _is_open(client: AsyncClient, job_id: str) -> bool:
    try:
        await client.job(job_id).status()
    except JobNotFound:
        return False
    return True


async def _ask(connection: Any, model: str) -> str:
    """Leave a note, or join those who wait for the one that is there; returns the id of the poll."""
    while True:
        job_id = str(uuid.uuid4())
        if await connection.hsetnx(RELOADS_KEY, model, job_id):
            await connection.expire(RELOADS_KEY, KEPT_SECONDS)
            return job_id
        known = await connection.hget(RELOADS_KEY, model)
        if known is not None:
            return str(known.decode())
