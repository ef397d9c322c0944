"""Dead letters: messages that no worker could answer, kept with the reason until somebody replays or drops them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, ClassVar, Self

#: How much of a message that is not a job's own is kept.
KEPT_BYTES = 65536


@dataclass(frozen=True)
class Letter:
    """One dead letter. `message` is None where it was not asked for, and cut if it was larger than what is kept."""

    FIELDS: ClassVar = ("queue", "reason", "job_id", "buried_at", "size_bytes", "message")

    number: int
    queue: str
    reason: str
    job_id: str | None
    buried_at: datetime
    size_bytes: int
    message: bytes | None

    @classmethod
    def parse(cls, reply: Any) -> Self:
        number, (queue, reason, job_id, buried_at, size_bytes, *message) = reply
        return cls(
            number=int(number),
            queue=queue.decode(errors="replace"),
            reason=reason.decode(errors="replace"),
            job_id=job_id.decode(errors="replace") or None,
            buried_at=datetime.fromtimestamp(int(buried_at) / 1000, UTC),
            size_bytes=int(size_bytes),
            message=message[0] if message else None,
        )


@dataclass(frozen=True)
class Letters:
    """A page of dead letters, and how many there are in all."""

    total: int
    letters: tuple[Letter, ...]

    @classmethod
    def parse(cls, reply: Any) -> Self:
        total, found = reply
        return cls(int(total), tuple(Letter.parse(one) for one in found if one[1][0] is not None))


class ReplayVerdict(StrEnum):
    """What became of the wish to replay a dead letter."""

    REPLAYED = "replayed"
    UNKNOWN = "unknown"
    CUT = "cut"  # its message was too large to be kept whole
    ANSWERED = "answered"  # its job has another outcome by now


@dataclass(frozen=True)
class Replayed:
    """The answer to `replay`: queue and message are set where it was replayed."""

    verdict: ReplayVerdict
    queue: str
    message: bytes

    @classmethod
    def parse(cls, reply: Any) -> Self:
        verdict, queue, message = reply
        return cls(ReplayVerdict(verdict.decode()), queue.decode(), message)
