"""Files of a run: names derive from keys, and a file appears whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from uqueue_config.learning.feedback import InvalidFeedback, ModelPerformanceData
from uqueue_worker.learning.errors import DatasetFormat, DatasetNotFound

_NAME_DIGITS = 24


def key_name(*parts: Any) -> str:
    """Return a file name, 24 hexadecimal digits, that is a function of the parts of a key."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:_NAME_DIGITS]


def write_whole(path: Path, data: bytes) -> str:
    """Write a file under a temporary name, rename it, and return the SHA-256 of its content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _beside(path, data) as temporary:
        temporary.replace(path)
    return hashlib.sha256(data).hexdigest()


@contextmanager
def _beside(path: Path, data: bytes) -> Iterator[Path]:
    """Give a file of this content beside the path, which is removed afterwards if it is still there."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file. Raises DatasetNotFound."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except FileNotFoundError:
        raise DatasetNotFound(dataset=str(path)) from None
    return digest.hexdigest()


def check_sha256(path: Path, expected: str) -> None:
    """Raise DatasetFormat unless the file is the one that was registered."""
    if file_sha256(path) != expected:
        raise DatasetFormat(dataset=str(path), reason="its content is not what was registered")


def write_json_once(path: Path, value: Any) -> str:
    """Write canonical JSON unless the file is there already, and return the SHA-256 of the one that is there then.

    Of several processes that write the same key, the first one's file stays: others may have read it.
    """
    data = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    with _beside(path, data) as temporary, suppress(FileExistsError):
        os.link(temporary, path)
    return file_sha256(path)


def read_feedback(uri: str, sha256: str) -> ModelPerformanceData:
    """Return the feedback of a file that has this SHA-256. Raises DatasetNotFound or DatasetFormat."""
    path = Path(uri)
    check_sha256(path, sha256)
    try:
        return ModelPerformanceData.read(json.loads(path.read_bytes()))
    except (ValueError, InvalidFeedback) as error:
        raise DatasetFormat(dataset=uri, reason=str(error)[:500]) from None


def content_sha256(samples: Iterable[Mapping[str, Any]]) -> str:
    """Return a SHA-256 over samples, without the run that they were made in and the time of generation."""
    digest = hashlib.sha256()
    for sample in samples:
        told = {name: value for name, value in (sample.get("sample_metadata") or {}).items() if name != "alm_run_id"}
        counted = {**sample, "sample_metadata": told, "generation_timestamp_utc": None}
        digest.update(json.dumps(counted, sort_keys=True, default=str).encode())
    return digest.hexdigest()
