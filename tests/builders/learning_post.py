"""Messages and notes of learning workers in memory, delivered as often and in whichever order a test wants."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from typing import Any

from uqueue_config.errors import ServiceUnreachable
from uqueue_config.learning.names import LearningTask
from uqueue_worker.learning.working import Outcome, Tasks


class MemoryPost:
    """A post whose notes never lapse by themselves; `away` has it raise what an unreachable Redis raises."""

    def __init__(self) -> None:
        self.messages: list[tuple[LearningTask, str, dict[str, Any]]] = []
        self.notes: dict[str, str] = {}
        self.counts: Counter[str] = Counter()
        self.away = False

    def send(self, task: LearningTask, queue: str, arguments: Mapping[str, Any]) -> None:
        self._reach()
        self.messages.append((task, queue, dict(arguments)))

    def note(self, key: str, text: str, seconds: float, *, only_new: bool = False) -> bool:
        self._reach()
        if only_new and key in self.notes:
            return False
        self.notes[key] = text
        return True

    def noted(self, key: str) -> str | None:
        self._reach()
        return self.notes.get(key)

    def forget(self, key: str) -> None:
        self._reach()
        self.notes.pop(key, None)

    def count(self, key: str, change: int, seconds: float) -> int:
        self._reach()
        self.counts[key] += change
        return self.counts[key]

    def deliver(self, tasks: Tasks, chance: random.Random | None = None, times: int = 1) -> list[Outcome]:
        """Have messages worked on until there are none left, each so many times, in a random order if asked for."""
        outcomes = []
        while self.messages:
            task, _, arguments = self.messages.pop(chance.randrange(len(self.messages)) if chance else 0)
            for _ in range(times):
                outcomes.append(work(tasks, task, arguments))
        return outcomes

    def _reach(self) -> None:
        if self.away:
            raise ServiceUnreachable(service="Redis", url="redis://away", reason="no connection")


def work(tasks: Tasks, task: LearningTask, arguments: Mapping[str, Any]) -> Outcome:
    """Do what a message says."""
    if task is LearningTask.ADVANCE:
        return tasks.advance(**arguments)
    assert task is LearningTask.PART
    return tasks.do_part(**arguments)
