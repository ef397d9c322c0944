"""What a lane and Redis say to each other, and what of it is settled.

Steps are written without waiting for the replies to earlier ones. What is not settled survives a lost connection:
commits are sent again, which does no harm, and so is a claim whose reply was lost, under its old token, so that no job
is forgotten that Redis has handed out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Literal

from uqueue_config.ledger import Claim, Command, LedgerCommands
from uqueue_worker.lane.batch import Answer
from uqueue_worker.lane.wire import Plain, Wire

Sent = Literal["look", "claim", "commit", "event"]
SCRIPTS = ("claim", "commit")
#: Makes the claim of a token: `(token, may_retry, again) -> command`.
ClaimFor = Callable[[int, bool, bool], Command[Claim]]


class Exchange:
    """The state of one lane's conversation, over as many connections as it takes.

    `look` is the command that waits until there is something to claim. Call `resume` before anything else.
    """

    _wire: Wire

    def __init__(self, commands: LedgerCommands, claim_for: ClaimFor, look: Plain) -> None:
        self._commands = commands
        self._claim_for = claim_for
        self._look = look
        self._unread: deque[Sent] = deque()
        self._uncommitted: deque[Sequence[Answer]] = deque()
        self._token = 0
        self._may_retry = True
        self.is_claiming = False

    @property
    def is_settled(self) -> bool:
        """Whether nothing is under way in either direction."""
        return not self._uncommitted and not self.is_claiming

    def resume(self, wire: Wire) -> None:
        """Go on over a new connection, and say again what the last one may have lost."""
        self._wire = wire
        self._unread.clear()
        for answers in self._uncommitted:
            self._send("commit", self._commit(answers))
        if self.is_claiming:
            self._send("claim", self._claim_for(self._token, self._may_retry, True))

    def ask(self, *, wait: bool) -> None:
        """Ask for jobs, now or as soon as there are some.

        Who asks while it still computes others gets no job that was started before and may end its process.
        """
        self._token += 1
        self.is_claiming = True
        self._may_retry = wait
        claim = self._claim_for(self._token, wait, False)
        if wait:
            self._send("look", self._look)
        self._send("claim", claim)

    def receive(self) -> Claim:
        """Return the answer to `ask`; waits for it."""
        while True:
            kind, reply = self._read()
            if kind == "claim":
                self.is_claiming = False
                return Claim.parse(reply)

    def commit(self, answers: Sequence[Answer], event: Plain | None = None) -> None:
        """Store answers, however long Redis is away, and publish an event about them, if it is there."""
        self._uncommitted.append(answers)
        self._send("commit", self._commit(answers))
        if event is not None:
            self._send("event", event)

    def settle(self) -> None:
        """Wait until everything that was sent is confirmed."""
        while self._unread:
            self._read()

    def _read(self) -> tuple[Sent, Any]:
        reply = self._wire.read()
        kind = self._unread.popleft()
        if kind == "commit":
            self._uncommitted.popleft()
        return kind, reply

    def _send(self, kind: Sent, step: Command[Any] | Plain) -> None:
        self._unread.append(kind)
        self._wire.send(step)

    def _commit(self, answers: Sequence[Answer]) -> Command[int]:
        return self._commands.commit_prepared([part for answer in answers for part in answer])
