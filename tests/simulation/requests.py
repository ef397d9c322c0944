"""The jobs of a run, and what each of them must come to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from simulation.server import QUEUE
from uqueue_config.envelope import celery_message
from uqueue_config.errors import InternalError, InvalidFeatures
from uqueue_config.ledger import Application, Outcome
from uqueue_config.names import Task


class Kind(StrEnum):
    GOOD = "good"
    SLOW = "slow"
    WRONG = "wrong"  # its request cannot be answered
    FLAKY = "flaky"  # an attempt may fail for reasons of its process
    POISON = "poison"  # ends the process that computes it
    STUCK = "stuck"  # never comes back


#: They go on for a while, and look now and then whether they should.
TAKE_TIME = frozenset({Kind.SLOW, Kind.WRONG, Kind.FLAKY})


@dataclass(frozen=True)
class Request:
    """What somebody wants to know. `number` is its own: an answer that holds it is an answer to this request."""

    job_id: str
    kind: Kind
    number: int

    @property
    def kwargs(self) -> dict[str, Any]:
        return {"kind": self.kind.value, "number": self.number}

    @property
    def digest(self) -> str:
        return digest_of(self.kwargs)

    def message(self) -> bytes:
        task = Task.PREDICT.value
        tag = f"tag-{self.number}"
        return celery_message(self.job_id, task, self.kwargs, queue=QUEUE, argsrepr="", delivery_tag=tag).encode()

    def application(self) -> Application:
        return Application(self.job_id, self.digest, self.message())


def digest_of(kwargs: Mapping[str, Any]) -> str:
    return f"{kwargs.get('kind')} {kwargs.get('number')}"


def unforeseen(job_id: str) -> Outcome:
    return Outcome.failure(InternalError(job_id=job_id, reference="unforeseen"))


def answer_to(kwargs: Mapping[str, Any], job_id: str, flaw: bool) -> Outcome:
    """Return what computing gives: a function of the request, but for the flaw of a process."""
    if flaw:
        return unforeseen(job_id)
    if kwargs["kind"] == Kind.WRONG:
        return Outcome.failure(InvalidFeatures(reason=f"not {kwargs['number']}"))
    return Outcome.success({"number": kwargs["number"]})
