"""A model in a workspace folder: models/<name>/model.h5 and state/<name>/mccp_state.pkl."""

from __future__ import annotations

import contextlib
import os
import stat
import time
from pathlib import Path
from typing import Final, NamedTuple

from uqueue_config.errors import IncompleteArtifact, ModelInvalid, ModelNotAvailable
from uqueue_worker.artifacts.pair import ArtifactPair, fingerprint
from uqueue_worker.artifacts.provider import ModelProvider
from uqueue_worker.artifacts.safe_pickle import MAX_STATE_BYTES

MAX_MODEL_BYTES: Final = 2 * 1024**3  # far beyond any MQNN; keeps a wrong file from filling the memory
RETRY_SECONDS: Final = (0.02, 0.08, 0.2, 0.3, 0.4)
SETTLING_NS: Final = 2 * 10**9


class FileStat(NamedTuple):
    """What changes when a file does."""

    mtime_ns: int
    size_bytes: int
    inode: int
    ctime_ns: int


class LocalFilesystemProvider(ModelProvider):
    """Reads the two files that a training run overwrites in place. Symbolic links are followed.

    The pair is taken as soon as both files keep their time, size and inode while they are read; that is tried for about
    a second. A training run may still be between the two files: then the pair is `stale`, see `ArtifactPair.stale`.
    """

    def __init__(self, workspace_root: str | os.PathLike[str], name: str = "mccp-uq") -> None:
        self.name = name
        self._root = Path(workspace_root)
        self._known: tuple[tuple[FileStat, FileStat], str] | None = None

    def get_model_path(self) -> Path:
        return self._root / "models" / self.name / "model.h5"

    def get_state_path(self) -> Path:
        return self._root / "state" / self.name / "mccp_state.pkl"

    def version(self) -> str:
        """Return the version of the files as they are now; hashes them only where a stat shows a change."""
        known = self._known
        if known is not None and self._stat() == known[0]:
            return known[1]
        return self.load().version

    def load(self) -> ArtifactPair:
        for pause_seconds in RETRY_SECONDS:
            with contextlib.suppress(IncompleteArtifact):
                return self._read_once()
            time.sleep(pause_seconds)
        return self._read_once()

    def _read_once(self) -> ArtifactPair:
        before = self._stat()
        model = _read(self.get_model_path(), MAX_MODEL_BYTES)
        state = _read(self.get_state_path(), MAX_STATE_BYTES)
        paths = (self.get_model_path(), self.get_state_path())
        for path, data, old, new in zip(paths, (model, state), before, self._stat(), strict=True):
            if old != new or len(data) != new.size_bytes:
                raise IncompleteArtifact(file=str(path), reason="it changed while it was read")
            if not data:
                raise IncompleteArtifact(file=str(path), reason="it is empty")
        model_file, state_file = fingerprint(model, before[0].mtime_ns), fingerprint(state, before[1].mtime_ns)
        pair = ArtifactPair(self.name, model, state, model_file, state_file)
        self._remember(before, pair.version)
        return pair

    def _remember(self, status: tuple[FileStat, FileStat], version: str) -> None:
        """Trust the file times from now on, unless the next write could still get the same ones from a coarse clock."""
        settled = max(file.ctime_ns for file in status) + SETTLING_NS < time.time_ns()
        self._known = (status, version) if settled else None

    def _stat(self) -> tuple[FileStat, FileStat]:
        paths = (self.get_model_path(), self.get_state_path())
        found = [_stat(path) for path in paths]
        model, state = found
        if model is None or state is None:
            missing = [str(path) for path, status in zip(paths, found, strict=True) if status is None]
            raise ModelNotAvailable(model=self.name, missing=" and ".join(missing))
        return model, state


def _stat(path: Path) -> FileStat | None:
    """Return the file's state, None where there is no file."""
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ModelInvalid(file=str(path), reason=f"it cannot be read ({error.strerror})") from error
    if not stat.S_ISREG(status.st_mode):
        raise ModelInvalid(file=str(path), reason="it is not a regular file")
    return FileStat(status.st_mtime_ns, status.st_size, status.st_ino, status.st_ctime_ns)


def _read(path: Path, limit_bytes: int) -> bytes:
    """Return the file's content, never more than `limit_bytes`."""
    try:
        # O_NONBLOCK: a FIFO put in place of the file after it was looked at would block the open for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0))
        with os.fdopen(descriptor, "rb") as stream:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise ModelInvalid(file=str(path), reason="it is not a regular file")
            if status.st_size > limit_bytes:
                reason = f"it has {status.st_size} bytes; at most {limit_bytes} are read"
                raise ModelInvalid(file=str(path), reason=reason)
            data = stream.read(status.st_size + 1)
    except FileNotFoundError as error:
        raise IncompleteArtifact(file=str(path), reason="it vanished while it was read") from error
    except OSError as error:
        raise ModelInvalid(file=str(path), reason=f"it cannot be read ({error.strerror})") from error
    return data
