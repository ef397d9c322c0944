"""Writing tables of samples: checked as Avro checks them, and there whole or not at all."""

from __future__ import annotations

import os
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import fastavro

from uqueue_worker.learning.avro import SchemaSet, write_samples
from uqueue_worker.learning.errors import GenerationFailed
from uqueue_worker.learning.exports.arrow import csv_metadata, write_csv, write_parquet
from uqueue_worker.learning.exports.hdf5 import write_hdf5
from uqueue_worker.learning.exports.layout import Layout, layout_of
from uqueue_worker.learning.exports.leaves import Anatomy
from uqueue_worker.learning.exports.table import batches

#: The endings of the files by format.
SUFFIXES: Mapping[str, str] = {"dataframe_csv": ".csv", "dataframe_parquet": ".parquet", "hdf5": ".h5"}
_LIBRARIES = {"dataframe_csv": "pyarrow", "dataframe_parquet": "pyarrow", "hdf5": "h5py"}
_LAYOUT_VERSION = "1.0"


@dataclass(frozen=True)
class ExportReport:
    """Where a table is, and how many samples were written to it and set aside beside it."""

    path: Path
    written: int
    rejected: int


def check_installed(output_format: str) -> None:
    """Raise GenerationFailed where the library that writes this format does not load."""
    library = _LIBRARIES[output_format]
    try:
        import_module(library)
    except ImportError as error:
        reason = f'{output_format} needs {library} ({error}): pip install "uqueue[learning-export]"'
        raise GenerationFailed(reason=reason[:500]) from None


def write_table(
    folder: Path,
    name: str,
    output_format: str,
    samples: Iterable[Mapping[str, Any]],
    *,
    schemas: SchemaSet,
    metadata: Mapping[str, str],
) -> ExportReport:
    """Write MLDataSample records to `<folder>/<name>` with the ending of the format, by way of an Avro file.

    So the checks, the limits, `<file>.rejected.jsonl` and the values are those of Avro. Raises GenerationFailed, and
    writes no table, for more than 5 % refused samples and for what the format cannot hold; OSError.
    """
    target = folder / f"{name}{SUFFIXES[output_format]}"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", suffix=".part", dir=folder) as place:
        checked = Path(place, target.name)
        try:
            report = write_samples(checked, samples, schemas=schemas, metadata=metadata)
        finally:
            _move_quarantine(checked, target)
        facts = {
            "layout_version": _LAYOUT_VERSION,
            "schema_fingerprint": report.schema_fingerprint,
            "samples": report.written,
            **metadata,
        }
        try:
            _write(target, output_format, checked, Anatomy(schemas.parsed("MLDataSample")), facts)
        except (ValueError, RuntimeError) as error:  # what pyarrow and h5py say of what they cannot write
            raise GenerationFailed(reason=f"{output_format}: {str(error)[:300]}") from error
    return ExportReport(target, report.written, len(report.rejected))


def _write(target: Path, output_format: str, checked: Path, anatomy: Anatomy, facts: dict[str, Any]) -> None:
    layout: Layout = layout_of(_samples(checked), anatomy)
    rows = batches(_samples(checked), anatomy)
    if output_format == "dataframe_parquet":
        with _replacing(target) as temporary:
            write_parquet(temporary, layout, rows, facts)
    elif output_format == "hdf5":
        with _replacing(target) as temporary:
            write_hdf5(temporary, layout, rows, facts)
    else:
        beside = target.with_name(f"{target.name}-metadata.json")
        with _replacing(target) as temporary, _replacing(beside) as told:
            write_csv(temporary, layout, rows)
            told.write_bytes(csv_metadata(target.name, layout, facts))


def _samples(checked: Path) -> Iterator[dict[str, Any]]:
    with checked.open("rb") as file:
        reader: Any = fastavro.reader(file, return_record_name=True, return_record_name_override=True)
        yield from reader


@contextmanager
def _replacing(target: Path) -> Iterator[Path]:
    """Give a path beside the target; the file there takes its place when all went well, and is removed when not."""
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}.part")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _move_quarantine(checked: Path, target: Path) -> None:
    made, kept = (one.with_name(f"{one.name}.rejected.jsonl") for one in (checked, target))
    if made.exists():
        made.replace(kept)
    else:
        kept.unlink(missing_ok=True)
