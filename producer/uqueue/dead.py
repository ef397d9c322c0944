"""Dead letters: messages that no worker could answer, kept with the reason until somebody replays or drops them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from uqueue_config.connections import connect, translated
from uqueue_config.errors import LetterNotFound, LetterNotReplayable
from uqueue_config.ledger import Command, Ledger, LedgerCommands, Letter, Letters, ReplayVerdict
from uqueue_config.settings import Settings

PAGE = 500
T = TypeVar("T")
_REFUSALS = {
    ReplayVerdict.CUT: "its message was not kept whole; submit the job again",
    ReplayVerdict.ANSWERED: "its job has another outcome by now",
}


class DeadLetters:
    """The dead letters of a service; `Client.dead_letters` makes it. All methods raise ServiceUnreachable."""

    def __init__(self, settings: Settings, ledger: Ledger, commands: LedgerCommands) -> None:
        self._settings = settings
        self._ledger = ledger
        self._commands = commands

    def list(self, first: int = 0, count: int = 50) -> Letters:
        """Return `count` letters without their messages, newest first, from place `first`; and how many there are."""
        return self._run(self._commands.letters(first, count))

    def numbers(self) -> tuple[int, ...]:
        """Return the numbers of all letters there are now, oldest first."""
        found: set[int] = set()
        first, total = 0, 1
        while first < total:
            page = self.list(first, PAGE)
            found.update(letter.number for letter in page.letters)
            first, total = first + PAGE, page.total
        return tuple(sorted(found))

    def get(self, number_or_job_id: int | str) -> Letter:
        """Return one letter with its message. Raises LetterNotFound."""
        letter = self._run(self._commands.letter(str(number_or_job_id)))
        if letter is None:
            raise LetterNotFound(number=number_or_job_id)
        return letter

    def replay(self, number: int) -> None:
        """Publish a letter's message again and forget the letter; its job is open again, its attempts counted anew.

        Raises LetterNotFound, LetterNotReplayable, and StoreFull where Redis has no memory left.
        """
        here = self._settings.queue_is_with_records
        replayed = self._run(self._commands.replay(number, queue_is_here=here))
        if replayed.verdict is ReplayVerdict.UNKNOWN:
            raise LetterNotFound(number=number)
        if replayed.verdict in _REFUSALS:
            raise LetterNotReplayable(number=number, reason=_REFUSALS[replayed.verdict])
        if not here:
            self._push(replayed.queue, replayed.message)

    def drop(self, numbers: Iterable[int]) -> int:
        """Forget letters for good; answers how many of them there were."""
        wanted = list(numbers)
        return sum(
            self._run(self._commands.drop(wanted[first : first + PAGE])) for first in range(0, len(wanted), PAGE)
        )

    def replay_all(self) -> tuple[int, ...]:
        """Replay every letter there is now, oldest first; answers their numbers. What cannot be replayed stays."""
        return tuple(number for number in self.numbers() if self._was_replayed(number))

    def drop_all(self) -> int:
        """Forget every letter there is now; answers how many there were."""
        return self.drop(self.numbers())

    def _was_replayed(self, number: int) -> bool:
        try:
            self.replay(number)
        except (LetterNotFound, LetterNotReplayable):
            return False
        return True

    def _run(self, command: Command[T]) -> T:
        with translated(self._settings.result_store):
            return self._ledger.run(command)

    def _push(self, queue: str, message: bytes) -> None:
        """The job of a letter is queued by now: after a crash in between the sweeper does it."""
        with translated(self._settings.broker), connect(self._settings.broker) as broker:
            broker.lpush(queue, message)
