"""Waiting well: in the background, not too long, and less often after failures."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from typing import Final

FIRST_PAUSE_SECONDS: Final = 1.0
LONGEST_PAUSE_SECONDS: Final = 30.0


class Backoff:
    """How long to leave something alone: twice as long after each failure in a row."""

    def __init__(self) -> None:
        self._failures = 0
        self._until = 0.0

    @property
    def waiting(self) -> bool:
        return time.monotonic() < self._until

    def failed(self) -> None:
        pause_seconds = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** min(self._failures, 10))
        self._failures += 1
        self._until = time.monotonic() + pause_seconds

    def succeeded(self) -> None:
        self._failures, self._until = 0, 0.0


class Background:
    """Runs calls in threads of their own; a call under the same key as one that still runs is that one."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._running: dict[Hashable, threading.Thread] = {}

    def run(self, key: Hashable, call: Callable[[], None], patience_seconds: float) -> bool:
        """Start the call unless it runs already, and wait that long; return whether it has ended."""
        with self._lock:
            self._running = {one: thread for one, thread in self._running.items() if thread.is_alive()}
            thread = self._running.get(key)
            if thread is None:
                thread = threading.Thread(target=call, name=self._name, daemon=True)
                thread.start()
                self._running[key] = thread
        thread.join(patience_seconds)
        return not thread.is_alive()
