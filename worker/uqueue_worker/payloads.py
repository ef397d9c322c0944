"""Removing payloads that nobody will read again; every worker process does so now and then."""

from __future__ import annotations

import threading
import time

import structlog

from uqueue_config.payload import PayloadFolder
from uqueue_config.settings import Settings

MOST_SECONDS_BETWEEN = 3600.0
_log = structlog.get_logger("uqueue.payloads")


class PayloadSweeper:
    """Removes payloads by age: a job that read one has ended, and its record lapsed, before it is gone.

    Does nothing where no folder is set.
    """

    def __init__(self, settings: Settings) -> None:
        self._payloads = PayloadFolder.of(settings)
        self._keep_seconds = (settings.record_ttl_seconds + settings.time_limit_seconds).total_seconds()
        self._next = 0.0
        self._thread: threading.Thread | None = None

    def take_turn(self) -> None:
        """Begin to sweep if it is time to. A shared folder may hang, so nobody waits for it."""
        if self._payloads is None or time.monotonic() < self._next or (self._thread and self._thread.is_alive()):
            return
        self._next = time.monotonic() + min(MOST_SECONDS_BETWEEN, self._keep_seconds / 10)
        self._thread = threading.Thread(target=self.sweep, name="uqueue-payloads", daemon=True)
        self._thread.start()

    def sweep(self) -> None:
        """Look once at all payloads."""
        if self._payloads is None:
            return
        try:
            removed = self._payloads.remove_older(self._keep_seconds)
        except OSError as error:
            _log.warning("payloads_not_swept", folder=str(self._payloads.folder), reason=str(error))
        else:
            if removed:
                _log.info("payloads_removed", count=removed)
