"""A model in a workspace folder: models/<name>/model.h5 (or model.pt) and state/<name>/mccp_state.pkl.

state/<name>/mccp_checks.json may lie beside them: what a candidate must stand up to before it serves.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from pathlib import Path
from typing import Final, NamedTuple

from uqueue_config.errors import IncompleteArtifact, ModelInvalid, ModelNotAvailable
from uqueue_worker.artifacts.pair import MODEL_FILES, ArtifactPair, fingerprint
from uqueue_worker.artifacts.provider import ModelProvider
from uqueue_worker.artifacts.safe_pickle import MAX_STATE_BYTES

MAX_MODEL_BYTES: Final = 2 * 1024**3  # far beyond any MQNN; keeps a wrong file from filling the memory
MAX_CHECKS_BYTES: Final = 8 * 1024**2
RETRY_SECONDS: Final = (0.02, 0.08, 0.2, 0.3, 0.4)
SETTLING_NS: Final = 2 * 10**9


class FileStat(NamedTuple):
    """What changes when a file does."""

    mtime_ns: int
    size_bytes: int
    inode: int
    ctime_ns: int


class WatchedFile(NamedTuple):
    """A file of the workspace, and how it was when it was looked at."""

    path: Path
    status: FileStat
    limit_bytes: int


class LocalFilesystemProvider(ModelProvider):
    """Reads the files that a training run overwrites in place. Symbolic links are followed.

    They are taken as soon as all keep their time, size and inode while they are read; that is tried for about a second.
    A training run may still be between the two of a pair: then it is `stale`, see `ArtifactPair.stale`. The model file
    is model.h5 or model.pt; where both are there nobody can tell which is meant, and neither is read.
    """

    def __init__(self, workspace_root: str | os.PathLike[str], name: str = "mccp-uq") -> None:
        self.name = name
        self._root = Path(workspace_root)
        self._known: tuple[list[WatchedFile], str] | None = None

    def get_model_path(self) -> Path:
        paths = self._model_paths()
        return next((path for path in paths if os.path.exists(path)), paths[0])

    def get_state_path(self) -> Path:
        return self._root / "state" / self.name / "mccp_state.pkl"

    def get_checks_path(self) -> Path:
        """Return where the checks are, or would be: most workspaces have none."""
        return self._root / "state" / self.name / "mccp_checks.json"

    def version(self) -> str:
        """Return the version of the files as they are now; hashes them only where a stat shows a change."""
        known = self._known
        if known is not None and self._look() == known[0]:
            return known[1]
        return self.load().version

    def load(self) -> ArtifactPair:
        for pause_seconds in RETRY_SECONDS:
            with contextlib.suppress(IncompleteArtifact):
                return self._read_once()
            time.sleep(pause_seconds)
        return self._read_once()

    def _model_paths(self) -> list[Path]:
        return [self._root / "models" / self.name / file for file in MODEL_FILES]

    def _read_once(self) -> ArtifactPair:
        before = self._look()
        contents = [read_file(file.path, file.limit_bytes) for file in before]
        after = self._look()
        if len(after) != len(before):
            raise IncompleteArtifact(file=str(after[-1].path.parent), reason="its files changed while they were read")
        for file, data, now in zip(before, contents, after, strict=True):
            if file != now or len(data) != now.status.size_bytes:
                raise IncompleteArtifact(file=str(file.path), reason="it changed while it was read")
            if not data:
                raise IncompleteArtifact(file=str(file.path), reason="it is empty")
        pair = self._pair(before, contents)
        self._remember(before, pair.version)
        return pair

    def _pair(self, files: list[WatchedFile], contents: list[bytes]) -> ArtifactPair:
        (model, model_file), (state, state_file), *more = [
            (data, fingerprint(data, file.status.mtime_ns)) for file, data in zip(files, contents, strict=True)
        ]
        checks, checks_file = more[0] if more else (None, None)
        model_filename = files[0].path.name
        return ArtifactPair(
            self.name, model, state, model_file, state_file, model_filename, checks=checks, checks_file=checks_file
        )

    def _remember(self, files: list[WatchedFile], version: str) -> None:
        """Trust the file times from now on, unless the next write could still get the same ones from a coarse clock."""
        settled = max(file.status.ctime_ns for file in files) + SETTLING_NS < time.time_ns()
        self._known = (files, version) if settled else None

    def _look(self) -> list[WatchedFile]:
        """Return model, state and, where they are there, checks. Raises ModelNotAvailable and ModelInvalid."""
        paths = self._model_paths()
        models = [WatchedFile(path, found, MAX_MODEL_BYTES) for path in paths if (found := status_of(path)) is not None]
        if len(models) > 1:
            names = " and ".join(MODEL_FILES)
            raise ModelInvalid(file=str(paths[0].parent), reason=f"it holds {names}; keep the one that is to be served")
        state = status_of(self.get_state_path())
        if not models or state is None:
            missing = [] if models else [str(paths[0])]
            missing += [] if state else [str(self.get_state_path())]
            raise ModelNotAvailable(model=self.name, missing=" and ".join(missing))
        return [models[0], WatchedFile(self.get_state_path(), state, MAX_STATE_BYTES), *self._look_at_checks()]

    def _look_at_checks(self) -> list[WatchedFile]:
        checks = status_of(self.get_checks_path())
        return [] if checks is None else [WatchedFile(self.get_checks_path(), checks, MAX_CHECKS_BYTES)]


def status_of(path: Path) -> FileStat | None:
    """Return the file's state, None where there is no file. Raises ModelInvalid where it cannot be one."""
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ModelInvalid(file=str(path), reason=f"it cannot be read ({error.strerror})") from error
    if not stat.S_ISREG(status.st_mode):
        raise ModelInvalid(file=str(path), reason="it is not a regular file")
    return FileStat(status.st_mtime_ns, status.st_size, status.st_ino, status.st_ctime_ns)


def read_file(path: Path, limit_bytes: int) -> bytes:
    """Return the file's content, never more than `limit_bytes`. Raises IncompleteArtifact and ModelInvalid."""
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
