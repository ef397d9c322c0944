"""Features that are too large for a message: a file in a folder that clients and workers share, named by its content.

{"ref": "<sha256>.f32", "sha256": "<sha256>", "dtype": "<f4", "shape": [100000, 8]}

The name makes a retry harmless: it writes the same bytes under the same name. Who reads trusts neither the message nor
the folder: name, kind of file, size and hash are checked, and no more is read than the reference says.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import re
import stat
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from uqueue_config.errors import PayloadUnavailable, ServiceUnreachable
from uqueue_config.settings import Settings

DTYPE = np.dtype("<f4")
_MEMBERS = {"ref", "sha256", "dtype", "shape"}
_SHA256 = re.compile(r"[0-9a-f]{64}")
_OURS = re.compile(r"[0-9a-f]{64}\.f32|\.[0-9a-f]{64}\.[0-9a-f]{16}\.tmp")


@dataclass(frozen=True)
class Reference:
    """Where a table of float32 features (rows, columns) lies, and what it must be."""

    sha256: str
    shape: tuple[int, int]

    @classmethod
    def to(cls, table: NDArray[np.float32]) -> Self:
        rows, columns = table.shape
        return cls(hashlib.sha256(_bytes_of(table)).hexdigest(), (rows, columns))

    @classmethod
    def parse(cls, value: Mapping[str, Any]) -> Self:
        """Read what `message` wrote. Raises ValueError."""
        if set(value) != _MEMBERS:
            raise ValueError(f"expected an object with {', '.join(sorted(_MEMBERS))}")
        sha256, shape = value["sha256"], value["shape"]
        if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256) or value["ref"] != f"{sha256}.f32":
            raise ValueError("expected ref to be <sha256>.f32, and sha256 64 hexadecimal digits")
        if value["dtype"] != DTYPE.str:
            raise ValueError(f"expected dtype {DTYPE.str!r}")
        if not isinstance(shape, list) or len(shape) != 2 or not all(type(size) is int and size > 0 for size in shape):
            raise ValueError("expected shape to be two whole numbers above 0")
        return cls(sha256, (shape[0], shape[1]))

    @property
    def name(self) -> str:
        return f"{self.sha256}.f32"

    @property
    def size_bytes(self) -> int:
        return math.prod(self.shape) * DTYPE.itemsize

    def message(self) -> dict[str, Any]:
        """Return the `features` of a request."""
        return {"ref": self.name, "sha256": self.sha256, "dtype": DTYPE.str, "shape": list(self.shape)}


@dataclass(frozen=True)
class PayloadFolder:
    """A folder of payloads; `most_bytes` bounds what one of them may hold."""

    folder: Path
    most_bytes: int

    @classmethod
    def of(cls, settings: Settings) -> Self | None:
        """Return the folder that the settings name, None if they name none."""
        return cls(settings.payload_dir, settings.max_payload_bytes) if settings.payload_dir else None

    def write(self, table: NDArray[np.float32], reference: Reference) -> None:
        """Store a table durably; there is never half a file under its name. Raises ServiceUnreachable."""
        temporary = f".{reference.sha256}.{os.urandom(8).hex()}.tmp"
        try:
            with self._opened() as folder:
                try:
                    self._write_file(temporary, table, folder)
                    os.rename(temporary, reference.name, src_dir_fd=folder, dst_dir_fd=folder)
                    os.fsync(folder)
                except BaseException:
                    with contextlib.suppress(OSError):
                        os.unlink(temporary, dir_fd=folder)
                    raise
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise ServiceUnreachable(
                f"The payload folder {self.folder} cannot be written ({reason}). Nothing was enqueued; check "
                "UQUEUE_PAYLOAD_DIR.",
                service="The payload folder",
                url=str(self.folder),
                reason=reason,
            ) from error

    def read(self, reference: Reference) -> NDArray[np.float32]:
        """Return the table. Raises PayloadUnavailable if it is not exactly what the reference says."""
        if reference.size_bytes > self.most_bytes:
            raise PayloadUnavailable(
                reason=f"{reference.size_bytes} bytes, UQUEUE_MAX_PAYLOAD_BYTES allows {self.most_bytes} here"
            )
        try:
            with self._opened() as folder:
                raw = _read_file(reference, folder)
        except OSError as error:
            reason = f"{reference.name} cannot be read ({error.strerror or type(error).__name__})"
            raise PayloadUnavailable(reason=reason) from error
        if hashlib.sha256(raw).hexdigest() != reference.sha256:
            raise PayloadUnavailable(reason=f"the content of {reference.name} is not what was submitted")
        return np.frombuffer(raw, DTYPE).reshape(reference.shape).astype(np.float32, copy=False)

    def remove_older(self, seconds: float) -> int:
        """Remove payloads, whole and half-written, that nobody wrote or read for that long; answers how many."""
        removed, before = 0, time.time() - seconds
        with self._opened() as folder, os.scandir(folder) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):  # another process removed it
                    if _OURS.fullmatch(entry.name) and entry.stat(follow_symlinks=False).st_mtime < before:
                        os.unlink(entry.name, dir_fd=folder)
                        removed += 1
        return removed

    @contextlib.contextmanager
    def _opened(self) -> Iterator[int]:
        descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    @staticmethod
    def _write_file(name: str, table: NDArray[np.float32], folder: int) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        # Workers may run as another user: it is the folder's permissions that decide who gets in.
        with os.fdopen(os.open(name, flags, 0o644, dir_fd=folder), "wb") as file:
            file.write(_bytes_of(table))
            file.flush()
            os.fsync(file.fileno())


class PayloadTable:
    """A table that is read when it is needed: what `validate_features` takes for an array."""

    def __init__(self, payloads: PayloadFolder | None, reference: Reference) -> None:
        self._payloads = payloads
        self._reference = reference

    def __len__(self) -> int:
        return self._reference.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if self._payloads is None:
            raise PayloadUnavailable(reason="the worker has no UQUEUE_PAYLOAD_DIR")
        table = self._payloads.read(self._reference)
        return table if dtype is None else table.astype(dtype)


def _bytes_of(table: NDArray[np.float32]) -> memoryview:
    return np.ascontiguousarray(table, DTYPE).data.cast("B")


def _read_file(reference: Reference, folder: int) -> bytearray:
    # A link could lead out of the folder, and a pipe would have to be waited for.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(reference.name, flags, dir_fd=folder)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise PayloadUnavailable(reason=f"{reference.name} is not a regular file")
        if found.st_size != reference.size_bytes:
            raise PayloadUnavailable(
                reason=f"{reference.name} has {found.st_size} bytes, expected {reference.size_bytes}"
            )
        raw = bytearray(reference.size_bytes)
        with open(descriptor, "rb", closefd=False) as file:
            if file.readinto(raw) != len(raw):
                raise PayloadUnavailable(reason=f"{reference.name} was cut while it was read")
        with contextlib.suppress(OSError):  # it belongs to another user, then its age counts from its writing
            os.utime(descriptor)
        return raw
    finally:
        os.close(descriptor)
