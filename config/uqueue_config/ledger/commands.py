"""The ledger's steps as values, without I/O, so that plain and asyncio clients share them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Generic, TypeVar

from uqueue_config.ledger.records import Attempt, Claim, JobRecord, Opened, Outcome, Swept
from uqueue_config.names import DEAD_KEY, JobState, job_key, result_key, wanted_key

T = TypeVar("T")
Argument = str | int | bytes


@dataclass(frozen=True)
class Command(Generic[T]):
    """One script call: the script's name, its keys and arguments, and how to read the reply."""

    script: str
    keys: tuple[str, ...]
    args: tuple[Argument, ...]
    parse: Callable[[Any], T]


@dataclass(frozen=True)
class Application:
    """A job that asks to be accepted. `columns` and `targets`, where given, must be those of the served model.

    `push` is False where the queue lives in another Redis than the records: then the caller pushes the message.
    """

    model: str
    digest: str
    queue: str
    message: str
    expires_seconds: float | None = None
    columns: int | None = None
    targets: int | None = None
    push: bool = True


@dataclass(frozen=True)
class LedgerCommands:
    """Makes commands. Results are kept for `result_ttl`, records of ended jobs for `record_ttl`."""

    result_ttl: timedelta
    record_ttl: timedelta

    def open(self, job_id: str, application: Application) -> Command[Opened]:
        """Accept a job and push its message; nothing happens if the id is known or the shape does not fit."""
        expires = application.expires_seconds
        args = (
            application.digest,
            application.model,
            "" if expires is None else math.ceil(expires * 1000),
            application.message,
            application.columns or "",
            application.targets or "",
            int(application.push),
        )
        extra_keys = (application.queue, wanted_key(application.model))
        return self._command("open", job_id, args, Opened.parse, extra_keys)

    def begin(self, job_id: str, *, model: str, worker: str, max_attempts: int) -> Command[Attempt]:
        """Start an attempt, unless the job has ended or was started too often."""
        return self._command("begin", job_id, (model, worker, max_attempts), Attempt.parse, (wanted_key(model),))

    def commit(self, job_id: str, outcome: Outcome) -> Command[bool]:
        """End a job; True if this was the first outcome, which is the one that stays."""
        args = (outcome.state.value, outcome.celery_meta(job_id), outcome.error_json())
        return self._command("commit", job_id, args, lambda reply: reply == 1)

    def claim(
        self, *, queue: str, model: str, worker: str, most: int, most_bytes: int, max_attempts: int
    ) -> Command[Claim]:
        """Take messages off a queue and start an attempt of each, as `begin` does, until `most_bytes` are taken."""
        args = (worker, model, most, most_bytes, max_attempts)
        return self._command("claim", "", args, Claim.parse, (queue, wanted_key(model), DEAD_KEY))

    def commit_many(self, outcomes: Iterable[tuple[str, str, str, str]]) -> Command[int]:
        """End jobs: (id, state, Celery record, error JSON or empty) each; answers how many had no outcome before."""
        args = tuple(part for outcome in outcomes for part in outcome)
        return self._command("commit_many", "", args, int)

    def cancel(self, job_id: str) -> Command[JobState | None]:
        """Ask a job to end; answers the state it was found in, None if unknown."""
        return self._command("cancel", job_id, (), lambda reply: JobState(reply.decode()) if reply else None)

    def read(self, job_id: str, *, with_result: bool) -> Command[JobRecord | None]:
        """Read a job's record; None if unknown."""
        return self._command("read", job_id, (int(with_result),), lambda reply: JobRecord.parse(job_id, reply))

    def progress(self, job_id: str, *, rows_done: int, rows_total: int) -> Command[bool]:
        """Note progress of a running job; True if it should stop."""
        return self._command("progress", job_id, (rows_done, rows_total), lambda reply: reply == 1)

    def sweep(self, *, grace_seconds: float, most: int, max_attempts: int, queue_is_here: bool) -> Command[Swept]:
        """Publish again what was lost; looks at no more than `most` jobs whose whereabouts are older than the grace."""
        args = (math.ceil(grace_seconds * 1000), most, max_attempts, int(queue_is_here))
        return self._command("sweep", "", args, Swept.parse)

    def _command(
        self,
        script: str,
        job_id: str,
        args: tuple[Argument, ...],
        parse: Callable[[Any], T],
        extra_keys: tuple[str, ...] = (),
    ) -> Command[T]:
        keys = (job_key(job_id), result_key(job_id), *extra_keys)
        common = (job_id, math.ceil(self.result_ttl.total_seconds()), math.ceil(self.record_ttl.total_seconds()))
        return Command(script, keys, (*common, *args), parse)
