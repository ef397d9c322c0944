"""What a process may use that reads a hostile file for the first time."""

from __future__ import annotations

import resource
import signal
from typing import Final

CPU_SECONDS_PER_GIGABYTE: Final = 20.0
MEMORY_BYTES: Final = 1024**3


def limit_this_process(size_bytes: int, *, cpu_seconds: float, memory_times_size: int) -> None:
    """Let the system end this process when it computes too long or takes too much memory for a file of this size.

    A loop inside native code lets no Python code run, so the signal keeps its default action.
    """
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_PROF, cpu_seconds + size_bytes / 1e9 * CPU_SECONDS_PER_GIGABYTE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit_bytes = MEMORY_BYTES + memory_times_size * size_bytes
    if hard == resource.RLIM_INFINITY or hard > limit_bytes:
        resource.setrlimit(resource.RLIMIT_AS, (limit_bytes, hard))
