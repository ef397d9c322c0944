"""One Redis connection used by hand: several steps in one write, each reply read when it is needed."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from uqueue_config.connections import connect
from uqueue_config.ledger import Command, source

#: A plain Redis command: its name and arguments.
Plain = tuple[str | int | float | bytes, ...]


class Wire:
    """A connection that knows the ledger's scripts. Any RedisError leaves it unusable; open another."""

    def __init__(self, url: str, scripts: Sequence[str], *, reply_seconds: float) -> None:
        self._client = connect(url, reply_seconds=reply_seconds, retries=0)
        self._scripts = scripts
        self._digests: dict[str, bytes] = {}

    def __enter__(self) -> Self:
        self._connection: Any = self._client.connection_pool.get_connection()
        for script in self._scripts:
            self.send(("SCRIPT LOAD", source(script)))
            self._digests[script] = self.read()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._connection.disconnect()
        self._client.close()

    def send(self, *steps: Command[Any] | Plain) -> None:
        """Write the steps in one go. Their replies have to be read one by one, in this order."""
        packed = self._connection.pack_commands([self._words(step) for step in steps])
        self._connection.send_packed_command(packed)

    def read(self) -> Any:
        """Return the next reply. Raises RedisError, also for a step that the server refused."""
        return self._connection.read_response()

    def _words(self, step: Command[Any] | Plain) -> Plain:
        if isinstance(step, Command):
            return ("EVALSHA", self._digests[step.script], len(step.keys), *step.keys, *step.args)
        return step
