"""Runs ledger commands on a Redis connection: plain, or under asyncio."""

from __future__ import annotations

import functools
import importlib.resources
from typing import Any, TypeVar

import redis
import redis.asyncio

from uqueue_config.ledger.commands import Command

T = TypeVar("T")


#: Scripts that a Redis at its memory limit refuses. The others write too, but what they end makes room.
_BOUND_BY_MEMORY = frozenset({"open", "bury", "replay", "webhook_put"})


@functools.cache
def source(script: str) -> str:
    """Return a script's text: its flags, the prelude, the script."""
    folder = importlib.resources.files(__package__)
    flags = "" if script in _BOUND_BY_MEMORY else " flags=allow-oom"
    return "\n".join((f"#!lua{flags}", *((folder / f"{name}.lua").read_text() for name in ("prelude", script))))


class Ledger:
    """Runs commands, each in one round trip."""

    def __init__(self, connection: redis.Redis) -> None:
        self.connection = connection
        self._scripts: dict[str, Any] = {}

    def run(self, command: Command[T]) -> T:
        return command.parse(self._script(command)(command.keys, command.args))

    def _script(self, command: Command[Any]) -> Any:
        if command.script not in self._scripts:
            self._scripts[command.script] = self.connection.register_script(source(command.script))
        return self._scripts[command.script]


class AsyncLedger:
    """The same under asyncio."""

    def __init__(self, connection: redis.asyncio.Redis) -> None:
        self.connection = connection
        self._scripts: dict[str, Any] = {}

    async def run(self, command: Command[T]) -> T:
        return command.parse(await self._script(command)(command.keys, command.args))

    def _script(self, command: Command[Any]) -> Any:
        if command.script not in self._scripts:
            self._scripts[command.script] = self.connection.register_script(source(command.script))
        return self._scripts[command.script]
