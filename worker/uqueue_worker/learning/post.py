"""How learning workers reach each other: messages in queues, and notes about which are under way.

`tasks.py` has the implementation over Celery and Redis; what is here knows neither.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from uqueue_config.learning.names import LearningQueue, LearningTask, sent_key
from uqueue_worker.learning.engine.parts import Part


class Post(Protocol):
    """Everything raises ServiceUnreachable where the servers do not answer."""

    def send(self, task: LearningTask, queue: str, arguments: Mapping[str, Any]) -> None:
        """Put a message into a queue."""

    def note(self, key: str, text: str, seconds: float, *, only_new: bool = False) -> bool:
        """Leave a note that lapses; False where `only_new` and there is one."""

    def noted(self, key: str) -> str | None:
        """Return what a note says, None where there is none."""

    def forget(self, key: str) -> None:
        """Remove a note."""

    def count(self, key: str, change: int, seconds: float) -> int:
        """Add to a number that lapses, and return it."""


def part_name(part: Part) -> str:
    """Return the name of a part in keys: 32 hexadecimal digits, a function of what identifies it."""
    said = [part.run_id, part.cycle, part.state, part.key]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:32]


class QueueDispatcher:
    """A dispatcher that sends parts and steps as tasks.

    A part about which a message is under way is not sent again before `lost_seconds` have passed since it was sent.
    """

    def __init__(self, post: Post, lost_seconds: float) -> None:
        self._post = post
        self._lost_seconds = lost_seconds

    def dispatch(self, parts: Sequence[Part]) -> None:
        """Send those parts of which no message is under way. Raises ServiceUnreachable."""
        for part in parts:
            token = uuid.uuid4().hex
            if self._post.note(sent_key(part_name(part)), token, self._lost_seconds, only_new=True):
                self._send(part, token, 1)

    def send_again(self, part: Part, token: str, attempt: int) -> bool:
        """Send a part to whoever goes on with it; False where another message about it is under way.

        `token` is that of the message by which the sender came to it. Of several messages about a part one goes on.
        """
        key = sent_key(part_name(part))
        if self._post.noted(key) not in (token, None):
            return False
        fresh = uuid.uuid4().hex
        self._post.note(key, fresh, self._lost_seconds)
        self._send(part, fresh, attempt)
        return True

    def ended(self, part: Part) -> None:
        """Note that no message about a part is needed any more."""
        self._post.forget(sent_key(part_name(part)))

    def advance_later(self, run_id: str, seconds: float = 0.0) -> None:
        """Send a message that has the run advanced; at once, whatever `seconds` says. Raises ServiceUnreachable."""
        self._post.send(LearningTask.ADVANCE, LearningQueue.ALM.value, {"run_id": run_id})

    def _send(self, part: Part, token: str, attempt: int) -> None:
        arguments = {"run_id": part.run_id, "cycle": part.cycle, "state": part.state, "key": part.key}
        try:
            self._post.send(LearningTask.PART, part.queue, {**arguments, "token": token, "attempt": attempt})
        except Exception:
            self.ended(part)
            raise
