"""The worker of the chaos tests: `celery -A chaos.app worker`, with what it does noted outside Redis.

CHAOS_EFFECTS      the file of notes (see effects.py)
CHAOS_KILLS        how often processes kill themselves in all; never unless set
CHAOS_KILL_SHARE   the probability of it for each batch, at a point that is drawn for each process
CHAOS_KILL_POINTS  from which of POINTS it is drawn; all unless set

A row that begins with 666 kills the process that computes it; one that begins with SLOW takes a while. Everything
is wrapped here and nothing in the product knows.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from builders.poison_app import app
from chaos.effects import VARIABLE, Notes
from chaos.requests import SLOW
from uqueue_config.ledger import ClaimedJob, Command, Ledger
from uqueue_worker.jobs import JobRunner
from uqueue_worker.lane import batch as lane_batch
from uqueue_worker.lane.exchange import Exchange
from uqueue_worker.models import IntervalModel

__all__ = ["app"]

SLOW_SECONDS = 0.25
#: A claim was sent and its reply not read; read; computing; computed and not sent; sent and no reply read.
POINTS = ("asked", "claimed", "computing", "computed", "committed")
#: Jobs that were started before come back one at a time: to die as often there would give innocent jobs up.
RETRIED = 0.002
#: A process that is to die while it computes does so within this time, which is about what a full batch takes.
COMPUTING_SECONDS = 0.003

_notes = Notes(os.environ[VARIABLE])
_kills = int(os.environ.get("CHAOS_KILLS", "0"))
_share = float(os.environ.get("CHAOS_KILL_SHARE", "0"))
_points = tuple(os.environ.get("CHAOS_KILL_POINTS", ",".join(POINTS)).split(","))


class Fate:
    """Decides whether this process dies now; knows what it has in hand."""

    def __init__(self) -> None:
        self.jobs: Sequence[ClaimedJob] = ()
        self._pid = 0

    def may_strike(self, point: str) -> None:
        if not _kills or not self.jobs:  # a model that is loading, a lane that has had nothing yet
            return
        if self._pid != os.getpid():  # forked
            self._pid, self._random = os.getpid(), random.Random(os.getpid())
            self._point = self._random.choice(_points)
        share = _share * (RETRIED if any(job.attempt > 1 for job in self.jobs) else 1)
        if point == self._point and self._random.random() < share and self._kills_so_far() < _kills:
            _notes.note("killing", point, len(self.jobs))
            if point != "computing":
                os.kill(os.getpid(), signal.SIGKILL)
            seconds = self._random.uniform(0, COMPUTING_SECONDS)
            threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGKILL)).start()

    def _kills_so_far(self) -> int:
        notes = Path(os.environ[VARIABLE])
        return notes.read_bytes().count(b"\nkilling ") if notes.exists() else 0  # nobody has noted anything yet


_fate = Fate()
_answers = lane_batch.Batch.answers
_grouped = lane_batch._grouped
_summarise = IntervalModel._summarise
_send = Exchange._send
_read = Exchange._read
_answer_task = JobRunner._answer
_run = Ledger.run


def _claimed(self: lane_batch.Batch, jobs: Sequence[ClaimedJob], wanted: Any) -> Iterator[Any]:
    _fate.jobs = jobs
    _fate.may_strike("claimed")
    yield from _answers(self, jobs, wanted)


def _noted_groups(ready: Any) -> Iterator[Any]:
    for group in _grouped(ready):
        for work in group:
            _notes.note("computing", work.job.id, work.job.attempt)
        yield group


def _computing(self: IntervalModel, table: Any, *args: Any, **kwargs: Any) -> Any:
    _fate.may_strike("computing")
    if (table[:, 0] == SLOW).any():
        time.sleep(SLOW_SECONDS)
    return _summarise(self, table, *args, **kwargs)


def _sending(self: Exchange, kind: Any, step: Any) -> None:
    if kind == "commit":
        _fate.may_strike("computed")
    _send(self, kind, step)
    if kind in ("claim", "commit"):
        _fate.may_strike("asked" if kind == "claim" else "committed")


def _reading(self: Exchange) -> Any:
    answers = self._uncommitted[0] if self._unread[0] == "commit" else ()
    kind, reply = _read(self)
    if kind == "commit":
        _notes.note("committed", reply, *(answer.job_id for answer in answers))
    return kind, reply


def _computing_task(self: JobRunner, job_id: str, kwargs: Mapping[str, Any], attempt: Any, *more: Any) -> Any:
    _notes.note("computing", job_id, attempt.number)
    return _answer_task(self, job_id, kwargs, attempt, *more)


def _running(self: Ledger, command: Command[Any]) -> Any:
    """Commits outside the lane: tasks, the sweeper, the warden."""
    reply = _run(self, command)
    if command.script == "commit":
        _notes.note("committed", reply, *command.args[2::6])
    return reply


lane_batch.Batch.answers = _claimed  # type: ignore[method-assign]
lane_batch._grouped = _noted_groups
IntervalModel._summarise = _computing  # type: ignore[method-assign]
Exchange._send = _sending  # type: ignore[method-assign]
Exchange._read = _reading  # type: ignore[method-assign]
JobRunner._answer = _computing_task  # type: ignore[method-assign]
Ledger.run = _running  # type: ignore[method-assign]
