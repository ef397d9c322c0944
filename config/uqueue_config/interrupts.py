"""Signals that wait for a moment: what is being started must be known before anything can end the program."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator

_HELD = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def signals_later() -> Iterator[None]:
    """Let SIGINT, SIGTERM and SIGHUP act when the block has ended, each at most once.

    A KeyboardInterrupt within `subprocess.Popen`, or before its result is kept, leaves a process behind that nobody
    knows. In other threads than the main one, where Python handles no signals, nothing has to be done.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: dict[int, None] = {}
    before = {number: signal.getsignal(number) for number in _HELD}
    ours = [number for number, handler in before.items() if handler not in (None, signal.SIG_IGN)]
    for number in ours:
        signal.signal(number, lambda number, _frame: came.setdefault(number))
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, before[number])
        for one in came:
            signal.raise_signal(one)
