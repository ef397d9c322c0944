"""The chores of a heartbeat: the real `Sweeper`, whose calls are steps like all others, and the time limit."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from redis.exceptions import ConnectionError

from simulation.process import Process, Steps
from simulation.server import Step
from uqueue_config.ledger import Command, source
from uqueue_worker.serving import HEARTBEAT_SECONDS
from uqueue_worker.sweeper import Sweeper


def do_chores(process: Process, limits: Sequence[Callable[[Process], Steps[None]]]) -> Steps[None]:
    world = process.world
    while True:
        yield int(HEARTBEAT_SECONDS * 1000)
        try:
            if world.takes_turn_to_sweep():
                yield from _sweep(process)
            for enforce_limit in limits:
                yield from enforce_limit(process)
        except ConnectionError:
            pass


def _sweep(process: Process) -> Steps[None]:
    """Run a sweep from its beginning again, whenever it has been told one thing more."""
    told: list[Any] = []
    while True:
        try:
            Sweeper(process.world.settings, _Told(told)).sweep()  # type: ignore[arg-type]
        except _Asks as asks:
            told.append((yield from process.ask(asks.step)))
        else:
            return


class _Asks(Exception):
    def __init__(self, step: Step) -> None:
        self.step = step


class _Told:
    """Stands in for a Redis client: gives the replies that are known, then says what it is asked next."""

    def __init__(self, replies: Sequence[Any]) -> None:
        self._replies = iter(replies)

    def register_script(self, text: str) -> Callable[[Sequence[Any], Sequence[Any]], Any]:
        script = _scripts()[text]

        def run(keys: Sequence[Any], args: Sequence[Any]) -> Any:
            for reply in self._replies:
                return reply
            raise _Asks(Command(script, tuple(keys), tuple(args), lambda reply: reply))

        return run


@functools.cache
def _scripts() -> Mapping[str, str]:
    return {source(name): name for name in ("sweep", "commit")}
