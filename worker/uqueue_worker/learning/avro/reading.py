"""Reading data sets back: plain dicts, `datetime` for timestamps, `uuid.UUID` for package ids."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from uqueue_worker.learning.avro.container import PACKAGE_BYTES, ReadLimits, iter_records
from uqueue_worker.learning.avro.schemas import SchemaSet, packaged_schemas


def iter_samples(
    path: str | Path,
    *,
    limits: ReadLimits | None = None,
    schemas: SchemaSet | None = None,
    wanted: Collection[str] | None = None,
) -> Iterator[dict[str, Any]]:
    """Yield the samples of an Avro file, one block of them in memory at a time.

    Floats of readings have 32-bit precision. `wanted` names the fields that are read as they are meant, by default all.
    In others times stay milliseconds since 1970, texts bytes and symbols numbers, all unchecked, which takes a quarter
    less time. Raises DatasetNotFound, and DatasetFormat for what is not such a file, is damaged, or holds more than the
    limits allow.
    """
    return iter_records(Path(path), "MLDataSample", schemas or packaged_schemas(), limits or ReadLimits(), wanted)


def read_samples(
    path: str | Path, *, limits: ReadLimits | None = None, schemas: SchemaSet | None = None
) -> list[dict[str, Any]]:
    """Return all samples of an Avro file, as `iter_samples` yields them."""
    return list(iter_samples(path, limits=limits, schemas=schemas))


def read_definitions(path: str | Path, *, limits: ReadLimits | None = None) -> list[dict[str, Any]]:
    """Return the records of a file of scenario definitions; `ScenarioDefinition.read` checks them one by one."""
    return list(iter_records(Path(path), "ScenarioDefinition", packaged_schemas(), limits or ReadLimits()))


def read_packages(path: str | Path, *, limits: ReadLimits | None = None) -> list[dict[str, Any]]:
    """Return the run packages of a file, of at most 4 MiB each, embedded samples included."""
    limits = limits or ReadLimits(block_bytes=PACKAGE_BYTES + (1 << 17))
    return list(iter_records(Path(path), "ScenarioRunPackage", packaged_schemas(), limits))
