"""Locks on folders and files of the cache. They end with the process that holds them, however it ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
import weakref
from collections.abc import Iterator
from pathlib import Path

_LOOK_SECONDS = 0.02


class Lease:
    """Keeps a folder from being removed by `remove_unless_leased`, until it is dropped. Raises OSError.

    Any number of processes may lease the same folder.
    """

    def __init__(self, folder: Path) -> None:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, descriptor)
        fcntl.flock(descriptor, fcntl.LOCK_SH)  # waits at most while somebody removes it
        self._folder = folder
        self._inode = os.fstat(descriptor).st_ino

    @property
    def holds(self) -> bool:
        """Whether the folder is still the one that was leased: it may have been removed just before."""
        with contextlib.suppress(OSError):
            return self._folder.stat().st_ino == self._inode
        return False


def remove_unless_leased(folder: Path) -> bool:
    """Remove the folder and return True, unless a process leases it."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    else:
        shutil.rmtree(folder, ignore_errors=True)
        return True
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def taking_turns(file: Path, patience_seconds: float) -> Iterator[None]:
    """Let one process at a time into the block; after `patience_seconds` others do not wait any longer."""
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        deadline = time.monotonic() + patience_seconds
        while not _locked(descriptor) and time.monotonic() < deadline:
            time.sleep(_LOOK_SECONDS)
        yield
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    with contextlib.suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False
