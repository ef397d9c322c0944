"""Features through the queue: one job, or a few where a batch is too large for one."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from uqueue.aio import AsyncClient, AsyncJob
from uqueue_config.errors import InvalidMessage, JobFailed, JobNotFinished, ModelOutputInvalid, UqueueError
from uqueue_config.localization import Localization

#: What a message holds beside its features.
_ENVELOPE_BYTES = 4096


def rows_per_job(most: int, row_bytes: int, message_bytes: int) -> int:
    """Return how many rows travel in one job: `most`, or what fits a message of so many bytes as base64."""
    return max(1, min(most, (message_bytes - _ENVELOPE_BYTES) * 3 // 4 // row_bytes))


async def localize(
    client: AsyncClient, model: str, version: str, rows: NDArray[np.float32], most: int, seconds: float
) -> list[Localization]:
    """Return the answers to float32 rows (n, values), in order, each for up to `most` of them.

    Raises JobNotFinished after `seconds`, and what the jobs ended with, a ModelOutputInvalid with its row among all.
    Whatever is not wanted any more, because of an error or because nobody waits, is cancelled.
    """
    if seconds <= 0:
        raise JobNotFinished(job_id="", state="queued", timeout_seconds="0")
    deadline = asyncio.get_running_loop().time() + seconds
    parts = [rows[first : first + most] for first in range(0, len(rows), most)]
    if len(parts) == 1:
        jobs = [await client.submit(parts[0], model, version=version, expires=seconds)]
    else:
        jobs = await client.submit_many(parts, model, version=version, expires=seconds)
    waiting = [
        asyncio.ensure_future(_result(job, deadline, len(part), first=number * most))
        for number, (job, part) in enumerate(zip(jobs, parts, strict=True))
    ]
    try:
        return list(await asyncio.gather(*waiting))
    except BaseException:
        open_jobs = [job for job, one in zip(jobs, waiting, strict=True) if not _succeeded(one)]
        for one in waiting:
            one.cancel()
        await asyncio.shield(_cancel(open_jobs))
        raise


async def _result(job: AsyncJob, deadline: float, rows: int, first: int) -> Localization:
    left = max(0.0, deadline - asyncio.get_running_loop().time())
    try:
        found = Localization.from_message(await job.message(left))
    except InvalidMessage as error:
        raise JobFailed(job_id=job.id, reason=error.message) from error
    except ModelOutputInvalid as error:
        if (row := error.row_below(rows)) is not None:
            error.facts["row"] = first + row
        raise
    job.let_go()
    if len(found) != rows:
        raise JobFailed(job_id=job.id, reason=f"{len(found)} answers to {rows} rows")
    return found


def _succeeded(waiting: asyncio.Future[Localization]) -> bool:
    return waiting.done() and not waiting.cancelled() and waiting.exception() is None


async def _cancel(jobs: Sequence[AsyncJob]) -> None:
    for job in jobs:
        with contextlib.suppress(UqueueError):  # it may have ended meanwhile
            await job.cancel()
