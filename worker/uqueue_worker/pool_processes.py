"""The children of a process, as Linux lists them; none on other systems."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

_PROC = Path("/proc")
#: Fields of /proc/<pid>/stat, counted behind the name, which may hold blanks.
_STATE, _STARTED_TICKS = 0, 19


def children(pid: int) -> Iterator[tuple[int, float]]:
    """Yield the pid and the age in seconds of each child that has not ended."""
    with contextlib.suppress(OSError):
        uptime = float((_PROC / "uptime").read_text().split()[0])
        for listed in (_PROC / str(pid) / "task").glob("*/children"):
            for child in listed.read_text().split():
                with contextlib.suppress(OSError):  # it has just ended
                    fields = (_PROC / child / "stat").read_text().rpartition(")")[2].split()
                    if fields[_STATE] != "Z":
                        yield int(child), uptime - int(fields[_STARTED_TICKS]) / os.sysconf("SC_CLK_TCK")
