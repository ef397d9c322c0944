"""POST /model/reload, and SIGHUP for the same: look at the registry now, and wait until the workers have followed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from types import FrameType
from typing import Any

from uqueue.gateway import logs
from uqueue.gateway.localization.answers import utc_text
from uqueue.gateway.localization.refusals import RETRY, refusal
from uqueue.gateway.localization.service import Localizer
from uqueue.gateway.problems import Problem
from uqueue_config.errors import JobNotFinished, UqueueError

LOCK = "reloading"
#: A gateway that died while it reloaded holds others up for so long beyond the time it had.
SPARE_SECONDS = 5.0
LOOK_SECONDS = 0.2


async def reload(localizer: Localizer, version_id: str | None, stage: str, *, force: bool) -> dict[str, Any]:
    """Return what a reload changed. Raises Problem: 409 while one runs on any gateway, 503 where the new version is
    refused or no worker looks; the old one serves on."""
    _ = localizer.named
    seconds = localizer.settings.gateway_wait_seconds.total_seconds()
    token = await localizer.shared.take(LOCK, seconds + SPARE_SECONDS)
    if token is None:
        raise Problem(409, "reload_running", "A reload is already running. Wait for it to end.")
    try:
        return await _reload(localizer, version_id or (None if stage == "Production" else stage), seconds, force=force)
    finally:
        with contextlib.suppress(UqueueError):
            await localizer.shared.give_back(LOCK, token)


async def _reload(localizer: Localizer, version: str | None, seconds: float, *, force: bool) -> dict[str, Any]:
    started, in_work = time.perf_counter(), localizer.in_work
    before = (await localizer.versions.look(fresh=True)).active
    if version is None:
        message = await _follow(localizer, seconds)
    else:
        message = f"Version {await localizer.versions.activate(version)} answers all requests."
    after = (await localizer.versions.look(fresh=True)).active
    if force and after == before:
        message += " Its content is the same, checked by its hash, so nothing had to be loaded again."
    localizer.recorder.reloaded()
    return {
        "success": True,
        "message": message,
        "previous_version": before,
        "new_version": after,
        "reload_time_ms": 1000 * (time.perf_counter() - started),
        "requests_drained": in_work,
        "timestamp": utc_text(datetime.now(UTC)),
    }


async def _follow(localizer: Localizer, seconds: float) -> str:
    try:
        report = await localizer.gateway.reload(localizer.named, seconds)
    except JobNotFinished as error:
        raise _failed(f"No worker looked at the registry within {seconds:g} s.") from error
    except UqueueError as error:
        problem = refusal(error)
        if problem.status < 500:
            raise _failed(problem.detail) from error
        raise problem from error
    if report.poll.outcome in ("rejected", "missing"):
        raise _failed((report.poll.reason or report.poll.outcome).rstrip(".") + ".")
    await localizer.versions.follow_stable()
    if not report.model.converged:
        return "The new version is taken over; some processes have not loaded it yet."
    return (
        "The version has not changed." if report.poll.outcome == "unchanged" else "All processes serve the new version."
    )


def _failed(reason: str) -> Problem:
    return Problem(503, "reload_failed", f"The old version serves on. {reason}", RETRY)


@asynccontextmanager
async def reload_at_hangup(localizer: Localizer) -> AsyncIterator[None]:
    """Reload whenever the process gets SIGHUP, as long as the block runs. The handler itself only sets a flag.

    Does nothing outside the main thread, where there are no signals, and without a localization model.
    """
    if localizer.model is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    asked = threading.Event()

    def note(number: int, frame: FrameType | None) -> None:
        asked.set()

    before = signal.signal(signal.SIGHUP, note)
    task = asyncio.create_task(_reload_whenever(asked, localizer))
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _reload_whenever(asked: threading.Event, localizer: Localizer) -> None:
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        if not asked.is_set():
            continue
        asked.clear()
        try:
            found = await reload(localizer, None, "Production", force=False)
            logs.write(logging.INFO, "reloaded", message=found["message"], model_version=found["new_version"])
        except (Problem, UqueueError) as error:
            logs.write(logging.ERROR, "not_reloaded", reason=str(error))
