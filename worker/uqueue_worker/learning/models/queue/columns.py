"""The columns of data sets, kept so that the next evaluation of the same file need not decode its samples again.

    <folder>/<key>.jsonl     {"schema": 1}, then one line for each table, then {"samples": n}

A campaign evaluates every new version on the same pool and test set, and to decode samples is most of an evaluation's
work. The key names the content of the data set, the features and the label. Processes may share a folder: a file
appears whole or not at all, and one that is read stays readable when another process removes it. Who may write into
the folder decides what evaluations see; it is made for this user only. Where nothing can be kept, evaluations go on.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from pydantic_core import from_json, to_json

from uqueue_config.arrays import decode_array, encode_array
from uqueue_worker.learning.models.features import FeatureSpec, MissingReport
from uqueue_worker.learning.models.sample_table import SampleTable

_LOG = logging.getLogger(__name__)
KEPT = 20
#: No evaluation takes that long: what was not finished by then was left behind by a process that was killed.
ABANDONED_SECONDS = 86400.0
_WRITING = ".writing-"
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
        file = _opened_whole(path)
        if file is None:
            yield from _kept(tables, _Keeping(path, identifier))
            return
        with contextlib.suppress(OSError):  # one that may only be read is as good
            os.utime(path)
        yield from _read(file, identifier, spec)


class _Keeping:
    """Writes one file; after the first thing that goes wrong it does nothing more but to say so."""

    def __init__(self, path: Path, dataset: str) -> None:
        self._path = path
        self._dataset = dataset
        self._file: IO[bytes] | None = None
        self._samples = 0

    def begin(self) -> None:
        with self._told():
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._file = tempfile.NamedTemporaryFile(  # noqa: SIM115  # closed by `end`
                prefix=_WRITING, dir=self._path.parent, delete=False
            )
            self._file.write(b'{"schema":1}\n')

    def add(self, table: SampleTable) -> None:
        if self._file is not None:
            with self._told():
                self._file.write(_line(table))
                self._samples += len(table)

    def finish(self) -> None:
        if self._file is not None:
            with self._told():
                self._file.write(to_json({"samples": self._samples}) + b"\n")
                self._file.flush()
                os.fsync(self._file.fileno())
                Path(self._file.name).replace(self._path)
                _forget(self._path.parent)

    def end(self) -> None:
        """Remove what was not finished."""
        if self._file is not None:
            file, self._file = self._file, None
            with contextlib.suppress(OSError):
                file.close()  # which tries again to write what is left
            with contextlib.suppress(OSError):
                Path(file.name).unlink(missing_ok=True)

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            _LOG.warning("The columns of %s are not kept: %s.", self._dataset, error.strerror or error)
            self.end()


def _kept(tables: Iterator[SampleTable], keeping: _Keeping) -> Iterator[SampleTable]:
    try:
        keeping.begin()
        for table in tables:
            keeping.add(table)
            yield table
        keeping.finish()
    finally:
        keeping.end()


def _forget(folder: Path) -> None:
    """Remove the files that were not used for longest, and what killed processes left behind."""
    found = sorted((_used_at(path), path) for path in folder.glob("*.jsonl"))
    left = [path for path in folder.glob(f"{_WRITING}*") if 0 < _used_at(path) < time.time() - ABANDONED_SECONDS]
    for path in [*(path for _, path in found[:-KEPT]), *left]:
        with contextlib.suppress(OSError):
            path.unlink()


def _used_at(path: Path) -> float:
    """Return when a file was used last; 0 where another process removed it meanwhile."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _line(table: SampleTable) -> bytes:
    arrays = {"values": encode_array(table.values, "base64"), "present": encode_array(table.present, "base64")}
    return to_json({**{name: getattr(table, name) for name in _LISTS}, **arrays}) + b"\n"


def _opened_whole(path: Path) -> IO[bytes] | None:
    """Return the file where there is one with the line that ends it, from its first line on."""
    with contextlib.ExitStack() as closing:
        try:
            file = closing.enter_context(path.open("rb"))
            file.seek(-min(64, file.seek(0, os.SEEK_END)), os.SEEK_END)
            last = file.read().splitlines()[-1]
            if not isinstance(from_json(last).get("samples"), int):
                return None
            file.seek(0)
        except (OSError, ValueError, IndexError, AttributeError):
            return None
        closing.pop_all()
        return file


def _read(file: IO[bytes], identifier: str, spec: FeatureSpec) -> Iterator[SampleTable]:
    with file:
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
