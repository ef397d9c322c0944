"""Data sets to evaluate on: a list of samples, an Avro file, or a folder with parts of one."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uqueue_worker.learning.avro.reading import iter_samples
from uqueue_worker.learning.errors import DatasetFormat, DatasetNotFound
from uqueue_worker.learning.interfaces import DatasetType, FilePathType


@dataclass(frozen=True)
class Dataset:
    """`identifier` is the name of a file and the beginning of its SHA-256; None for a list."""

    samples: Iterable[Mapping[str, Any]]
    identifier: str | None


def open_dataset(
    dataset: DatasetType | FilePathType | Path, roots: Sequence[str | Path], wanted: Collection[str] | None = None
) -> Dataset:
    """Return the samples of a data set; those of files are read as they are asked for, `wanted` as `iter_samples` says.

    Files lie below one of the roots, wherever links lead. Raises DatasetNotFound, also for a path beyond them, and
    DatasetFormat.
    """
    if isinstance(dataset, str | Path):
        path = Path(dataset)
        parts = [_allowed(part, roots) for part in _parts(_allowed(path, roots), path)]
        return Dataset(_all_samples(parts, wanted), f"{path.name}#sha256:{_fingerprint(parts)}")
    if not isinstance(dataset, list | tuple):
        reason = f"expected a list of samples or a path, got a {type(dataset).__name__}"
        raise DatasetFormat(dataset="given", reason=reason)
    return Dataset(dataset, None)


def _allowed(path: Path, roots: Sequence[str | Path]) -> Path:
    resolved = path.resolve()
    if not any(resolved.is_relative_to(Path(root).resolve()) for root in roots) or not resolved.exists():
        raise DatasetNotFound(dataset=str(path)[:500])
    return resolved


def _parts(resolved: Path, given: Path) -> list[Path]:
    if not resolved.is_dir():
        return [resolved]
    found = sorted(resolved.glob("*.avro"))
    if not found:
        raise DatasetFormat(dataset=str(given), reason="the folder holds no *.avro files")
    return found


def _fingerprint(parts: Sequence[Path]) -> str:
    """Return 16 hexadecimal digits of SHA-256: of the file or, for several, of their names and digests."""
    digests = []
    for part in parts:
        with part.open("rb") as file:
            digests.append(hashlib.file_digest(file, "sha256").hexdigest())
    if len(parts) == 1:
        return digests[0][:16]
    listed = "".join(f"{part.name} {digest}\n" for part, digest in zip(parts, digests, strict=True))
    return hashlib.sha256(listed.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _all_samples(parts: Sequence[Path], wanted: Collection[str] | None) -> Iterator[dict[str, Any]]:
    for part in parts:
        yield from iter_samples(part, wanted=wanted)
