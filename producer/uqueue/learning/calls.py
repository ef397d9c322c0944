"""What both kinds of client do alike: make requests of arguments, and know when a run needs no more waiting."""

from __future__ import annotations

import math
import time
from typing import Any, TypeVar

from pydantic import ValidationError

from uqueue_config.errors import InputError, ServiceUnreachable, UqueueError
from uqueue_config.learning.answers import RunDetails
from uqueue_config.learning.errors import AnswerLate, LearningBusy, NoLearningWorker
from uqueue_config.learning.problems import problems_of
from uqueue_config.learning.requests import Request
from uqueue_config.learning.runs import ENDED, RunStatus

R = TypeVar("R", bound=Request[Any])
#: How often a run that is waited for is looked at.
LOOK_SECONDS = 1.0
#: A run in one of these goes on only if somebody does something.
STILL: tuple[RunStatus, ...] = (*ENDED, "waiting")
#: What a wait puts up with for a while: a learning worker or a Redis that starts again.
TRANSIENT = (NoLearningWorker, LearningBusy, AnswerLate, ServiceUnreachable)
GRACE_SECONDS = 60.0


def made(kind: type[R], **arguments: Any) -> R:
    """Return the request; arguments that are None say nothing. Raises InputError naming everything that is wrong."""
    try:
        return kind(**{name: value for name, value in arguments.items() if value is not None})
    except ValidationError as error:
        raise InputError(reason=problems_of(error)) from None


class Wait:
    """A wait for a run with an end: `left` seconds, for ever if `timeout` is None."""

    def __init__(self, timeout: float | None) -> None:
        if timeout is not None and not timeout >= 0:
            raise InputError(reason=f"timeout: expected seconds from 0 on, got {timeout!r}")
        self._deadline = math.inf if timeout is None else time.monotonic() + timeout
        self._failing_since: float | None = None

    def note(self, error: UqueueError) -> None:
        """Take in that a look failed. Raises the error where looks fail for too long, or the time is up."""
        now = time.monotonic()
        self._failing_since = self._failing_since or now
        if now >= self._deadline or now - self._failing_since >= GRACE_SECONDS:
            raise error

    def forgive(self) -> None:
        """Take in that a look went well."""
        self._failing_since = None

    def is_over(self, details: RunDetails) -> bool:
        """Return whether the run has ended or waits for a person, or the time is up."""
        return details.run.status in STILL or time.monotonic() >= self._deadline

    @property
    def pause_seconds(self) -> float:
        """How long to wait before the next look."""
        return max(0.0, min(LOOK_SECONDS, self._deadline - time.monotonic()))
