"""Ctrl-C and its relatives, while child processes run that must not be left behind."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from types import FrameType

_WATCHED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_Handler = Callable[[int, FrameType | None], None]


class Interruptions:
    """Counts signals instead of being interrupted by them: the first means stop, the second means be quick."""

    def __init__(self) -> None:
        self.count = 0

    def stopping(self) -> bool:
        return self.count > 0

    def hurry(self) -> bool:
        return self.count > 1

    def note(self, _number: int, _frame: FrameType | None) -> None:
        self.count += 1


@contextlib.contextmanager
def counted() -> Iterator[Interruptions]:
    """Count SIGINT, SIGTERM and SIGHUP within the block."""
    interruptions = Interruptions()
    with _handled(interruptions.note):
        yield interruptions


@contextlib.contextmanager
def raised_once() -> Iterator[None]:
    """Let the first SIGINT, SIGTERM or SIGHUP raise KeyboardInterrupt; the clean-up that follows is not disturbed."""
    raised = False

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        nonlocal raised
        if not raised:
            raised = True
            raise KeyboardInterrupt

    with _handled(interrupt):
        yield


@contextlib.contextmanager
def _handled(handler: _Handler) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in _WATCHED}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
