"""The learning worker of the chaos tests: `celery -A chaos.learning_app worker`. Nothing in the product knows of it.

CHAOS_LEARNING_POINTS  a folder. Where a file `<cycle>-<state>-<point>.wait` is in it, whoever first comes to that
                       point makes it `.here`, which names its process, and stays until that is gone; see POINTS.

Every message is sent twice.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from chaos.sizes import LEARNING_POINTS
from uqueue_worker.learning.engine import machine
from uqueue_worker.learning.engine.machine import Engine
from uqueue_worker.learning.tasks import CeleryPost, app

__all__ = ["app"]

#: A part is done and its result not stored; a step is done and not committed; committed and nobody told.
POINTS = ("part", "step", "committed")
_STAY_SECONDS = 60.0
_do = machine.do
_finish = Engine._finish
_settled = machine._settled
_send = CeleryPost.send


def stay(cycle: int, state: str, point: str) -> None:
    """Stay where a test wants somebody to be, until it says otherwise."""
    here = Path(os.environ[LEARNING_POINTS]) / f"{cycle}-{state}-{point}.here"
    try:
        here.with_suffix(".wait").rename(here)
    except FileNotFoundError:
        return
    here.write_text(str(os.getpid()))
    until = time.monotonic() + _STAY_SECONDS
    while here.exists() and time.monotonic() < until:
        time.sleep(0.02)


def _doing(job: Any) -> Any:
    found = _do(job)
    stay(job.part.cycle, job.part.state, "part")
    return found


def _settling(context: Any, last_try: bool) -> Any:
    move = _settled(context, last_try)
    stay(context.run.cycle, context.run.state, "step")
    return move


def _finishing(self: Engine, context: Any, last_try: bool) -> Any:
    progress = _finish(self, context, last_try)
    stay(context.run.cycle, context.run.state, "committed")
    return progress


def _sending(self: CeleryPost, task: Any, queue: str, arguments: Any) -> None:
    for _ in range(2):
        _send(self, task, queue, arguments)


machine.do = _doing
CeleryPost.send = _sending  # type: ignore[method-assign]
machine._settled = _settling
Engine._finish = _finishing  # type: ignore[method-assign]
