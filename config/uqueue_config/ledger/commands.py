"""The ledger's steps as values, without I/O, so that plain and asyncio clients share them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Generic, TypeVar

from uqueue_config.ledger.letters import KEPT_BYTES, Letter, Letters, Replayed
from uqueue_config.ledger.records import Attempt, Claim, JobRecord, Opened, Outcome, Swept
from uqueue_config.names import JobState, wanted_key

T = TypeVar("T")
Argument = str | int | bytes


@dataclass(frozen=True)
class Command(Generic[T]):
    """One script call: the script's name, its keys and arguments, and how to read the reply."""

    script: str
    keys: tuple[str, ...]
    args: tuple[Argument, ...]
    parse: Callable[[Any], T]


@dataclass(frozen=True, slots=True)
class Application:
    """A job that asks to be accepted. `columns` and `targets`, where given, must be those of the served model."""

    job_id: str
    digest: str
    message: str | bytes
    columns: int | None = None
    targets: int | None = None


@dataclass(frozen=True)
class LedgerCommands:
    """Makes commands. Results are kept for `result_ttl`, records of ended jobs for `record_ttl`."""

    result_ttl: timedelta
    record_ttl: timedelta

    def open(
        self,
        applications: Sequence[Application],
        *,
        model: str,
        queue: str,
        queue_limit: int,
        expires_seconds: float | None = None,
        push: bool = True,
        batch: bool = True,
    ) -> Command[list[Opened]]:
        """Accept jobs and push their messages. Nothing happens to one whose id is known or whose shape does not fit;
        where the queue has no room for all jobs of a `batch`, none is accepted.

        `push` is False where the queue lives in another Redis than the records: then the caller pushes the messages.
        """
        expires_ms = "" if expires_seconds is None else math.ceil(expires_seconds * 1000)
        args: list[Argument] = [model, expires_ms, queue_limit, int(push), int(batch)]
        for one in applications:
            args += (one.job_id, one.digest, one.message, one.columns or "", one.targets or "")
        return self._command("open", args, Opened.parse_all, queue, wanted_key(model))

    def begin(
        self,
        job_id: str,
        *,
        model: str,
        worker: str,
        max_attempts: int,
        digest: str = "",
        tracks: Sequence[str] = (),
    ) -> Command[Attempt]:
        """Start an attempt, unless the job has ended, was started too often, or was opened with another request.

        Answers the wanted versions of `tracks`, in their order.
        """
        keys = map(wanted_key, tracks)
        return self._command("begin", (job_id, model, worker, digest, max_attempts), Attempt.parse, *keys)

    def claim(
        self,
        *,
        queue: str,
        model: str,
        worker: str,
        token: int,
        tracks: Sequence[str] = (),
        most: int,
        most_bytes: int,
        most_message_bytes: int,
        max_attempts: int,
        may_retry: bool = True,
        again: bool = False,
    ) -> Command[Claim]:
        """Take messages off a queue and start an attempt of each, until `most` jobs or `most_bytes` are taken.
        Answers the wanted versions of `tracks`, in their order, too.

        model       what jobs are filed under that were sent by a program that does not know the ledger
        token       a number that is larger at every claim of this worker
        most_message_bytes  a longer message that no client of the ledger sent becomes a dead letter
        may_retry   a job that was started before may be handed out; it then comes alone
        again       the reply to the claim of this token was lost: answer the same jobs
        """
        limits = (most, most_bytes, most_message_bytes, max_attempts)
        args = (model, worker, token, int(again), *limits, int(may_retry))
        return self._command("claim", args, Claim.parse, queue, *map(wanted_key, tracks))

    def commit(
        self, outcomes: Iterable[tuple[str, Outcome]], *, attempts: dict[str, int] | None = None
    ) -> Command[int]:
        """End jobs; answers how many had no outcome before. The first outcome of a job is the one that stays.

        `attempts` holds the number of the attempt that an outcome belongs to, where known: a failure does not end a
        job that another attempt has taken over. A success does, for every attempt gives the same answer.
        """
        args: list[Argument] = []
        for job_id, outcome in outcomes:
            args += outcome.committable(job_id, (attempts or {}).get(job_id))
        return self.commit_prepared(args)

    def commit_prepared(self, args: Sequence[Argument]) -> Command[int]:
        """The same for outcomes that are already what `Outcome.committable` makes of them, one after the other."""
        return self._command("commit", args, int)

    def cancel(self, job_id: str) -> Command[JobState | None]:
        """Ask a job to end; answers the state it was found in, None if unknown."""
        return self._command("cancel", (job_id,), lambda reply: JobState(reply.decode()) if reply else None)

    def read(self, job_id: str, *, with_result: bool) -> Command[JobRecord | None]:
        """Read a job's record; None if unknown."""
        args = (job_id, int(with_result), *JobRecord.FIELDS)
        return self._command("read", args, lambda reply: JobRecord.parse(job_id, reply))

    def read_once(self, job_ids: Iterable[str]) -> Command[int]:
        """Let jobs that have ended go within a minute, because whoever asked has read their answers."""
        return self._command("read_once", tuple(job_ids), int)

    def progress(self, job_id: str, *, rows_done: int, rows_total: int) -> Command[bool]:
        """Note progress of a running job; True if it should stop."""
        return self._command("progress", (job_id, rows_done, rows_total), lambda reply: reply == 1)

    def sweep(
        self, queues: Iterable[str], *, grace_seconds: float, most: int, max_attempts: int, queue_is_here: bool
    ) -> Command[Swept]:
        """Publish again what was lost; looks at no more than `most` jobs of a kind, not seen for the grace."""
        args = (math.ceil(grace_seconds * 1000), most, max_attempts, int(queue_is_here))
        return self._command("sweep", args, Swept.parse, *queues)

    def bury(self, queue: str, message: bytes, reason: str, job_id: str | None = None) -> Command[int]:
        """Keep a message that cannot be a job as a dead letter (its first 64 KiB); answers the letter's number."""
        args = (queue, message[:KEPT_BYTES], len(message), reason, job_id or "")
        return self._command("bury", args, int)

    def letters(self, first: int, count: int) -> Command[Letters]:
        """Read dead letters without their messages, newest first, from place `first`."""
        return self._command("letters", (first, count, *Letter.FIELDS[:-1]), Letters.parse)

    def letter(self, number_or_job_id: str) -> Command[Letter | None]:
        """Read one dead letter with its message; None if there is none."""
        args = (number_or_job_id, *Letter.FIELDS)
        return self._command("letter", args, lambda reply: Letter.parse(reply) if reply else None)

    def drop(self, numbers: Iterable[int]) -> Command[int]:
        """Forget dead letters; answers how many there were."""
        return self._command("drop", tuple(numbers), int)

    def replay(self, number: int, *, queue_is_here: bool) -> Command[Replayed]:
        """Publish a dead letter again; a job that was given up is open again."""
        return self._command("replay", (number, int(queue_is_here)), Replayed.parse)

    def _command(self, script: str, args: Sequence[Argument], parse: Callable[[Any], T], *keys: str) -> Command[T]:
        common = (math.ceil(self.result_ttl.total_seconds()), math.ceil(self.record_ttl.total_seconds()))
        return Command(script, keys, (*common, *args), parse)
