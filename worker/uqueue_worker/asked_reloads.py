"""Looks at artifacts that gateways ask for: their Redis user may leave a note, and not push to the control queue.

The note names a track and the id under which the answer is waited for; the message is made here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, cast

import structlog

from uqueue_config.connections import connect
from uqueue_config.envelope import celery_message
from uqueue_config.ledger import Application, Ledger, LedgerCommands
from uqueue_config.names import RELOADS_KEY, Queue, Task
from uqueue_config.settings import Settings

_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
#: Another gateway may have left the next note meanwhile.
_FORGET = "if redis.call('HGET', KEYS[1], ARGV[1]) == ARGV[2] then redis.call('HDEL', KEYS[1], ARGV[1]) end"
_log = structlog.get_logger("uqueue.reloads")


class AskedReloads:
    """What was asked for the tracks of this process. Every process looks; that several see a note does no harm."""

    def __init__(self, settings: Settings, ledger: Ledger, tracks: Sequence[str]) -> None:
        self._settings = settings
        self._ledger = ledger
        self._commands = LedgerCommands(settings.result_ttl_seconds, settings.record_ttl_seconds)
        self._forget: Any = ledger.connection.register_script(_FORGET)
        self._tracks = list(tracks)

    def grant(self) -> None:
        """Put a poll into the control queue for every note, and then forget the note. Raises RedisError."""
        notes = cast(Any, self._ledger.connection.hmget(RELOADS_KEY, self._tracks))
        for track, note in zip(self._tracks, notes, strict=True):
            if note is None:
                continue
            job_id = note[:64].decode("ascii", "replace")
            if _ID.fullmatch(job_id):
                self._open(track, job_id)
                _log.info("reload_asked", model=track, job_id=job_id)
            self._forget((RELOADS_KEY,), (track, note))

    def _open(self, track: str, job_id: str) -> None:
        queue, is_here = Queue.CONTROL.value, self._settings.queue_is_with_records
        message = celery_message(job_id, Task.POLL_ARTIFACTS, {"model": track}, queue=queue, argsrepr=repr(track))
        application = Application(job_id, f"poll {track}", message)
        limit = self._settings.queue_limit
        self._ledger.run(self._commands.open([application], model=track, queue=queue, queue_limit=limit, push=is_here))
        if not is_here:
            with connect(self._settings.broker) as broker:
                broker.lpush(queue, message)
