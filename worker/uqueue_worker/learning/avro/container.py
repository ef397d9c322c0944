"""Avro container files from anywhere: framed here, in bounds, before fastavro decodes a single record.

A library that unpacks a block at once lets a file of a kilobyte ask for a terabyte. Here the header's schema must be
one that we know by its fingerprint, so that no record is free of charge (a null costs no bytes and could be repeated
for ever); a block is unpacked up to a limit; what a block says of itself must be exactly true.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import fastavro
import fastavro.schema

from uqueue_worker.learning.avro.schemas import Schema, SchemaSet, fingerprint
from uqueue_worker.learning.errors import DatasetFormat, DatasetNotFound

MAGIC = b"Obj\x01"
SYNC_BYTES = 16
SAMPLE_BYTES = 1 << 20  # the largest sample that is written; decoded, a hostile one may take seventy times its bytes
PACKAGE_BYTES = 4 << 20
_HEADER_BYTES = 1 << 20
_HEADER_ENTRIES = 64
_VARINT_BYTES = 10
_DECODING = (EOFError, ValueError, LookupError, OverflowError, TypeError, AttributeError, ArithmeticError)


@dataclass(frozen=True)
class ReadLimits:
    """What a file may ask for: of one block (packed and unpacked), in bytes unpacked, and in records."""

    block_bytes: int = SAMPLE_BYTES + (1 << 17)
    total_bytes: int = 4 << 30
    records: int = 1_000_000


def iter_records(
    path: Path, name: str, schemas: SchemaSet, limits: ReadLimits, wanted: Collection[str] | None = None
) -> Iterator[dict[str, Any]]:
    """Yield the records of a container file whose schema is `name` of `schemas`, one block in memory at a time.

    `wanted` is as `iter_samples` says. Raises DatasetNotFound, and DatasetFormat for a file that is something else,
    damaged or beyond the limits.
    """
    try:
        file = path.open("rb")
    except (FileNotFoundError, NotADirectoryError):
        raise DatasetNotFound(dataset=path.name) from None
    except OSError as error:
        raise DatasetFormat(dataset=path.name, reason=error.strerror or "it cannot be opened") from None
    with file:
        yield from _Container(file, path.name, limits).records(name, schemas, wanted)


class _Container:
    def __init__(self, file: IO[bytes], dataset: str, limits: ReadLimits) -> None:
        self._file = file
        self._dataset = dataset
        self._limits = limits

    def records(self, name: str, schemas: SchemaSet, wanted: Collection[str] | None = None) -> Iterator[dict[str, Any]]:
        if self._file.read(len(MAGIC)) != MAGIC:
            raise self._broken("it is not an Avro container file")
        header = self._header()
        sync = self._bytes(SYNC_BYTES)
        codec = header.get("avro.codec", b"null").decode("ascii", "replace")
        if codec not in ("null", "deflate"):
            raise self._broken(f"its codec is {codec[:20]!r}; null and deflate are read")
        self._check_schema(header, name, schemas)
        schema = schemas.parsed(name) if wanted is None else schemas.lean(name, wanted)
        records, unpacked = 0, 0
        while (count := self._number(end_allowed=True)) is not None:
            block = self._block(codec, sync)
            records, unpacked = records + count, unpacked + len(block)
            if not 0 <= count <= len(block):
                raise self._broken(f"a block of {len(block)} bytes claims to hold {count} records")
            if records > self._limits.records or unpacked > self._limits.total_bytes:
                allowed = f"{self._limits.records} records and {self._limits.total_bytes} bytes"
                raise self._broken(f"it holds more than the {allowed} that are read from one file")
            yield from self._decoded(block, count, schema)

    def _header(self) -> dict[str, bytes]:
        """Return the header's map. It is kept short: a few entries, and in all at most a megabyte."""
        entries: dict[str, bytes] = {}
        left = _HEADER_BYTES
        while count := self._number():
            if count < 0:
                count = -count
                self._number()
            if len(entries) + count > _HEADER_ENTRIES:
                raise self._broken("its header has too many entries")
            for _ in range(count):
                key = self._text(left)
                value = self._text(left - len(key))
                left -= len(key) + len(value)
                entries[key.decode("utf-8", "replace")] = value
        return entries

    def _check_schema(self, header: dict[str, bytes], name: str, schemas: SchemaSet) -> None:
        try:
            written = fingerprint(json.loads(header["avro.schema"]))
        except (*_DECODING, RecursionError, fastavro.schema.SchemaParseException):
            raise self._broken("its header has no schema that can be read") from None
        expected = schemas.fingerprint(name)
        if written != expected:
            raise self._broken(f"its schema has the fingerprint {written}; {name} is {expected}")

    def _block(self, codec: str, sync: bytes) -> bytes:
        packed = self._text(self._limits.block_bytes)
        if self._bytes(SYNC_BYTES) != sync:
            raise self._broken("a block does not end with the mark that the header names")
        return packed if codec == "null" else self._inflated(packed)

    def _inflated(self, packed: bytes) -> bytes:
        unpacking = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            block = unpacking.decompress(packed, self._limits.block_bytes + 1)
        except zlib.error:
            raise self._broken("a block cannot be unpacked") from None
        if len(block) > self._limits.block_bytes:
            raise self._broken(f"a block unpacks to more than the {self._limits.block_bytes} bytes that are allowed")
        if not unpacking.eof or unpacking.unused_data:
            raise self._broken("a block cannot be unpacked")
        return block

    def _decoded(self, block: bytes, count: int, schema: Schema) -> Iterator[dict[str, Any]]:
        data = BytesIO(block)
        for _ in range(count):
            try:
                record = fastavro.schemaless_reader(data, schema, None)
            except _DECODING:
                raise self._broken("a record cannot be decoded") from None
            yield record  # type: ignore[misc]  # the schema is a record's
        if data.tell() != len(block):
            raise self._broken("a block holds more than its records")

    def _text(self, limit: int) -> bytes:
        size = self._number()
        if size is None or not 0 <= size <= limit:
            raise self._broken(f"a part of it claims {size} bytes; {limit} are allowed")
        return self._bytes(size)

    def _bytes(self, size: int) -> bytes:
        data = self._file.read(size)
        if len(data) != size:
            raise self._broken("it ends early")
        return data

    def _number(self, *, end_allowed: bool = False) -> int | None:
        """Return Avro's variable-length integer, or None at the file's end where that is allowed."""
        value = 0
        for position in range(_VARINT_BYTES):
            byte = self._file.read(1)
            if not byte:
                if end_allowed and position == 0:
                    return None
                raise self._broken("it ends early")
            value |= (byte[0] & 0x7F) << (7 * position)
            if byte[0] < 0x80:
                return (value >> 1) ^ -(value & 1)
        raise self._broken("a number in it is too long")

    def _broken(self, reason: str) -> DatasetFormat:
        return DatasetFormat(dataset=self._dataset, reason=reason)
