"""Runs ledger commands on a Redis connection: plain, or under asyncio."""

from __future__ import annotations

import functools
import importlib.resources
from collections.abc import Iterable
from typing import Any, TypeVar

import redis
import redis.asyncio

from uqueue_config.ledger.commands import Command

T = TypeVar("T")


@functools.cache
def source(script: str) -> str:
    """Return a script's text, with the prelude before it."""
    folder = importlib.resources.files(__package__)
    return "\n".join((folder / f"{name}.lua").read_text() for name in ("prelude", script))


class Ledger:
    """Runs commands one by one, or many in one round trip."""

    def __init__(self, connection: redis.Redis) -> None:
        self.connection = connection
        self._scripts: dict[str, Any] = {}

    def run(self, command: Command[T]) -> T:
        return command.parse(self._script(command)(command.keys, command.args))

    def run_many(self, commands: Iterable[Command[T]]) -> list[T]:
        """Run commands in one pipeline, each atomic in itself. Raises the first error after all have run."""
        commands = list(commands)
        pipeline = self.connection.pipeline(transaction=False)
        for command in commands:
            self._script(command)(command.keys, command.args, client=pipeline)
        return [command.parse(reply) for command, reply in zip(commands, pipeline.execute(), strict=True)]

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

    async def run_many(self, commands: Iterable[Command[T]]) -> list[T]:
        """Run commands in one pipeline, each atomic in itself. Raises the first error after all have run."""
        commands = list(commands)
        pipeline = self.connection.pipeline(transaction=False)
        for command in commands:
            await self._script(command)(command.keys, command.args, client=pipeline)
        return [command.parse(reply) for command, reply in zip(commands, await pipeline.execute(), strict=True)]

    def _script(self, command: Command[Any]) -> Any:
        if command.script not in self._scripts:
            self._scripts[command.script] = self.connection.register_script(source(command.script))
        return self._scripts[command.script]
