"""What workers did, noted outside Redis: one line per event in a file that all processes append to.

    computing   a process begins to compute a job: `id attempt`
    committed   Redis answered a commit: `first id id ...`, how many of them had no outcome before
    killing     a process is about to kill itself: `point jobs`

A line is written in one step, so no kill tears it, and processes never wait for each other.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

#: The environment variable that names the file.
VARIABLE = "CHAOS_EFFECTS"


class Notes:
    """Writes to the file; each process opens it at its first note and keeps it open."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._file: int | None = None

    def note(self, event: str, *words: object) -> None:
        if self._file is None:
            self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(self._file, f"{event} {os.getpid()} {' '.join(map(str, words))}\n".encode())


@dataclass
class Effects:
    """What the file says.

    computed   how often each job was begun
    first      how often each job was certainly ended by a commit that Redis called its first outcome
    firsts     how many first outcomes Redis confirmed in all
    ended      the jobs that these were about
    surplus    how many outcomes came second and changed nothing
    killed     how often a process killed itself at each point, and `in_hand` with how many jobs
    """

    computed: Counter[str] = field(default_factory=Counter)
    first: Counter[str] = field(default_factory=Counter)
    firsts: int = 0
    ended: set[str] = field(default_factory=set)
    surplus: int = 0
    killed: Counter[str] = field(default_factory=Counter)
    in_hand: Counter[str] = field(default_factory=Counter)

    @classmethod
    def read(cls, path: Path) -> Effects:
        effects = cls()
        for line in path.read_text().splitlines() if path.exists() else ():
            event, _, *words = line.split()
            if event == "computing":
                effects.computed[words[0]] += 1
            elif event == "killing":
                effects.killed[words[0]] += 1
                effects.in_hand[words[0]] += int(words[1])
            else:
                effects._committed(int(words[0]), words[1:])
        return effects

    def _committed(self, first: int, ids: list[str]) -> None:
        self.firsts += first
        self.ended.update(ids)
        self.surplus += len(ids) - first
        if first == len(ids):
            self.first.update(ids)

    def recomputed(self, jobs: Iterable[str]) -> int:
        """Return how many computations there were beyond one per job."""
        return sum(max(0, self.computed[job] - 1) for job in jobs)
