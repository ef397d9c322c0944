"""The columns of data sets, kept so that the next evaluation of the same file need not decode its samples again.

    <folder>/<key>.jsonl     {"schema": 1}, then one line for each table, then {"samples": n}

A campaign evaluates every new version on the same pool and test set, and to decode a sample takes longer than to
evaluate it. The key names the content of the data set, the features and the label. Who may write into the folder
decides what evaluations see; it is made for this user only.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic_core import from_json, to_json

from uqueue_config.arrays import decode_array, encode_array
from uqueue_worker.learning.models.features import FeatureSpec, MissingReport
from uqueue_worker.learning.models.sample_table import SampleTable

KEPT = 20
_LISTS = ("ids", "labels", "scenario_ids", "seconds", "sensors")


class ColumnsFolder:
    """Keeps the columns of the data sets that were evaluated last, at most 20 of them."""

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder)

    def tables(
        self, tables: Iterator[SampleTable], identifier: str, spec: FeatureSpec, rows: int, label: str | None
    ) -> Iterator[SampleTable]:
        """Yield the tables of this data set: those that are kept, or else the ones given, which are kept then."""
        said = json.dumps([identifier, spec.fingerprint, rows, label])
        path = self._folder / f"{hashlib.sha256(said.encode()).hexdigest()}.jsonl"
        if _is_whole(path):
            os.utime(path)
            return _read(path, identifier, spec)
        return self._kept(tables, path)

    def _kept(self, tables: Iterator[SampleTable], path: Path) -> Iterator[SampleTable]:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".writing-", dir=self._folder)
        try:
            samples = 0
            with os.fdopen(handle, "wb") as file:
                file.write(b'{"schema":1}\n')
                for table in tables:
                    file.write(_line(table))
                    samples += len(table)
                    yield table
                file.write(to_json({"samples": samples}) + b"\n")
            Path(name).replace(path)
            self._forget()
        finally:
            with contextlib.suppress(FileNotFoundError):
                Path(name).unlink()

    def _forget(self) -> None:
        found = []
        for path in self._folder.glob("*.jsonl"):
            with contextlib.suppress(FileNotFoundError):
                found.append((path.stat().st_mtime_ns, path))
        for _, path in sorted(found)[:-KEPT]:
            path.unlink(missing_ok=True)


def _line(table: SampleTable) -> bytes:
    arrays = {"values": encode_array(table.values, "base64"), "present": encode_array(table.present, "base64")}
    return to_json({**{name: getattr(table, name) for name in _LISTS}, **arrays}) + b"\n"


def _is_whole(path: Path) -> bool:
    """Tell whether there is such a file with the line that ends it."""
    try:
        with path.open("rb") as file:
            file.seek(-min(64, path.stat().st_size), os.SEEK_END)
            last = file.read().splitlines()[-1]
        return isinstance(from_json(last).get("samples"), int)
    except (OSError, ValueError, IndexError, AttributeError):
        return False


def _read(path: Path, identifier: str, spec: FeatureSpec) -> Iterator[SampleTable]:
    with path.open("rb") as file:
        next(file)
        for line in file:
            found: dict[str, Any] = from_json(line)
            if "samples" in found:
                return
            yield SampleTable(
                spec=spec,
                identifier=identifier,
                **{name: tuple(found[name]) for name in _LISTS},
                values=decode_array(found["values"], "<f8"),
                present=decode_array(found["present"], "|b1"),
                missing=MissingReport({}),
            )
