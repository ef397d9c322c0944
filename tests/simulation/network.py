"""One connection to Redis: what was written and is not executed yet, what was answered and is not read yet."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from redis.exceptions import ConnectionError

from simulation.server import Step

if TYPE_CHECKING:
    from simulation.process import Process
    from simulation.world import World


class NotYet(BaseException):
    """The reply has not come; whoever reads has to wait. No `except Exception` in between may take it."""


class Link:
    """A `Wire` of the simulation. After it is severed, what was written either never arrives or arrives later."""

    def __init__(self, world: World, process: Process) -> None:
        self._world = world
        self.process = process
        self.pending: deque[Step] = deque()
        self.replies: deque[Any] = deque()
        self.severed = False
        self.noticed_ms = 0
        self.not_before_ms = 0

    def __enter__(self) -> Link:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.links.remove(self)

    @property
    def is_broken(self) -> bool:
        """Whether its process knows that it is severed."""
        return self.severed and self._world.elapsed_ms >= self.noticed_ms

    @property
    def is_readable(self) -> bool:
        return bool(self.replies) or self.is_broken

    def send(self, *steps: Step) -> None:
        if self.is_broken:
            raise ConnectionError("the connection is broken")
        if self.severed:
            return
        is_first = not self.pending
        self.pending.extend(steps)
        if is_first:
            self._world.busy_links.append(self)
            self._next()

    def read(self) -> Any:
        if self.replies:
            return self.replies.popleft()
        if self.is_broken:
            raise ConnectionError("the connection is broken")
        raise NotYet

    @property
    def is_deliverable(self) -> bool:
        """Whether Redis could execute the next step now; a look at an empty queue waits."""
        if self._world.elapsed_ms >= self.not_before_ms:
            return True
        return not self.severed and self._world.server.queue_length > 0

    def deliver(self) -> None:
        """Let Redis execute the next step."""
        step = self.pending.popleft()
        if is_look(step):
            step = ("LMOVE", *step[1:5])  # it has waited as long as it had to
        reply = self._world.execute(self.process, step, is_answered=not self.severed)
        if not self.severed:
            self.replies.append(reply)
        if self.pending:
            self._next()
        else:
            self._world.busy_links.remove(self)

    def sever(self, *, arrives_after_ms: int | None = None, noticed_after_ms: int = 0) -> None:
        """Break the connection. What is pending is lost, or arrives in the end; replies on their way are lost."""
        self.severed = True
        self.replies.clear()
        self.noticed_ms = self._world.elapsed_ms + noticed_after_ms
        if arrives_after_ms is not None:
            self.not_before_ms = self._world.elapsed_ms + arrives_after_ms
        elif self.pending:
            self.pending.clear()
            self._world.busy_links.remove(self)

    def _next(self) -> None:
        if not self.severed:
            is_waiting = is_look(self.pending[0])
            self.not_before_ms = self._world.elapsed_ms + self._world.look_ms() if is_waiting else 0


def is_look(step: Step) -> bool:
    return type(step) is tuple and step[0] == "BLMOVE"
