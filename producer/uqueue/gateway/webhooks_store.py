"""What Redis remembers of webhooks. Written before their jobs are opened, so that none is lost with a gateway.

    uqueue:webhook:<job id>   url, prefix, state (waiting, sending, delivered, failed), tries, status, reason, next_at
    uqueue:webhooks           ids of those with something to do, by when

Any gateway may take one whose time has come, for the time of a lease: a try that is lost with its gateway is made anew.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, Self, TypeVar, cast

from uqueue_config.errors import JobCancelled, JobExpired, UqueueError, from_wire
from uqueue_config.ledger import AsyncLedger, Command
from uqueue_config.names import WEBHOOKS_KEY, JobState, webhook_key
from uqueue_config.settings import Settings

T = TypeVar("T")
#: A webhook whose job was not opened within this time was refused with it.
ORPHAN_SECONDS = 60.0
#: How soon, and how late, a job is looked at whose announcement may have been missed.
FIRST_LOOK_SECONDS, LONGEST_LOOK_SECONDS = 2.0, 300.0
#: How many are looked at in one step.
MOST_LOOKS = 200
Kept = Literal["new", "same", "conflict"]
#: What becomes of a try; `later` is one that was not made.
Outcome = Literal["delivered", "retry", "failed", "later"]


@dataclass(frozen=True)
class Due:
    """One webhook to send now; `tries` counts this one too."""

    job_id: str
    url: str
    prefix: str
    tries: int
    state: JobState
    finished_at: datetime
    error: UqueueError | None

    @classmethod
    def parse(cls, reply: Sequence[bytes]) -> Self:
        job_id, url, prefix, tries, _, state, finished_at, error = (part.decode() for part in reply)
        at = datetime.fromtimestamp(int(finished_at) / 1000, UTC)
        cause = from_wire(json.loads(error)) if error else _unanswered(job_id, state)
        return cls(job_id, url, prefix, int(tries), JobState(state), at, cause)


@dataclass(frozen=True)
class Taken:
    """The answer to `take`: what to send, and which jobs were looked at and go on."""

    due: list[Due]
    open_jobs: list[str]

    @classmethod
    def parse(cls, reply: Any) -> Self:
        taken, open_jobs = reply
        return cls([Due.parse(one) for one in taken], [job_id.decode() for job_id in open_jobs])


@dataclass(frozen=True)
class WebhookState:
    """How telling the end of a job goes. `status` is the last HTTP status; 0 where there was no answer."""

    state: str
    tries: int
    status: int | None
    reason: str | None
    next_at: datetime | None


class WebhookStore:
    """Webhooks in the Redis of the records. Every method raises RedisError."""

    def __init__(self, settings: Settings, connection: Any) -> None:
        self._connection = connection
        self._ledger = AsyncLedger(connection)
        seconds = settings.result_ttl_seconds.total_seconds(), settings.record_ttl_seconds.total_seconds()
        self._common = tuple(math.ceil(one) for one in seconds)

    async def put(self, job_id: str, url: str, prefix: str) -> Kept:
        """Keep where the end of a job is to be told; conflict where the job is known and it is not told there."""
        args = (job_id, url, prefix, _ms(FIRST_LOOK_SECONDS))
        return await self._run("webhook_put", args, lambda reply: cast(Kept, reply.decode()))

    async def take(self, most: int, lease_seconds: float, announced: Iterable[str] = ()) -> Taken:
        """Take up to `most` that are due; `announced` are jobs whose end was heard of."""
        looks = (MOST_LOOKS, _ms(ORPHAN_SECONDS), _ms(FIRST_LOOK_SECONDS), _ms(LONGEST_LOOK_SECONDS))
        return await self._run("webhook_claim", (most, _ms(lease_seconds), *looks, *announced), Taken.parse)

    async def note(
        self,
        due: Due,
        outcome: Outcome,
        *,
        status: int,
        reason: str,
        delay_seconds: float = 0.0,
    ) -> None:
        """Say what became of a try."""
        await self._run("webhook_note", (due.job_id, due.tries, outcome, _ms(delay_seconds), status, reason), int)

    async def state(self, job_id: str) -> WebhookState | None:
        """Return how it goes, None for a job without a webhook."""
        names = ("state", "tries", "status", "reason", "next_at")
        found = [part.decode() if part else None for part in await self._connection.hmget(webhook_key(job_id), names)]
        state, tries, status, reason, next_at = found
        if state is None:
            return None
        at = datetime.fromtimestamp(int(next_at) / 1000, UTC) if next_at else None
        return WebhookState(state, int(tries or 0), int(status) if status else None, reason, at)

    async def _run(self, script: str, args: Sequence[Any], parse: Callable[[Any], T]) -> T:
        return await self._ledger.run(Command(script, (WEBHOOKS_KEY,), (*self._common, *args), parse))


def _unanswered(job_id: str, state: str) -> UqueueError | None:
    kinds: dict[str, type[UqueueError]] = {JobState.CANCELLED: JobCancelled, JobState.EXPIRED: JobExpired}
    return kinds[state](job_id=job_id) if state in kinds else None


def _ms(seconds: float) -> int:
    return math.ceil(seconds * 1000)
