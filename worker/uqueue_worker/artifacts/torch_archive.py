"""The zip archive that torch.save and torch.jit.save write, read strictly and without torch.

All entries lie in one folder, weights are stored as they are, and only code may be compressed. Whatever a zip archive
can be beyond that (encrypted, overlapping, repeated names, an unpacked size that the file does not hold) is refused.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from typing import Final

from uqueue_config.errors import IncompleteArtifact, ModelInvalid

SIGNATURE: Final = b"PK\x03\x04"
MAX_ENTRIES: Final = 4096
MAX_TEXT_BYTES: Final = 1024 * 1024  # of one entry that may be compressed
_END = b"PK\x05\x06"
_END_BYTES = 22
_MAX_COMMENT_BYTES = 0xFFFF
_LOCAL_HEADER = struct.Struct("<4sHHHHHIIIHH")
_ENTRY_BYTES = 46  # of the central directory, at least


class TorchArchive:
    """The entries of an archive by their path below its folder."""

    def __init__(self, data: bytes, *, file: str) -> None:
        """Raises ModelInvalid for what is not such an archive, IncompleteArtifact where its end is missing."""
        self.file = file
        self._data = memoryview(data)
        self._check_end(data)
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                entries = archive.infolist()
        except (zipfile.BadZipFile, ValueError, struct.error, NotImplementedError, OSError) as error:
            raise self.invalid(f"the zip archive is damaged ({error!s:.80})") from error
        self._entries = self._checked(entries)

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    @property
    def names(self) -> list[str]:
        return list(self._entries)

    def invalid(self, reason: str) -> ModelInvalid:
        return ModelInvalid(file=self.file, reason=reason)

    def stored(self, name: str) -> memoryview:
        """Return an entry that is not compressed, as a view of the file; its checksum holds."""
        entry = self._entry(name)
        if entry.compress_type != zipfile.ZIP_STORED:
            raise self.invalid(f"{name} is compressed, which torch does not do with weights")
        return self._verified(entry, self._content(entry))

    def text(self, name: str) -> str:
        """Return an entry of at most MAX_TEXT_BYTES as text; this one may be compressed."""
        entry = self._entry(name)
        raw = self._content(entry)
        if entry.file_size > MAX_TEXT_BYTES:
            raise self.invalid(f"{name} has {entry.file_size} bytes; at most {MAX_TEXT_BYTES} are read")
        if entry.compress_type == zipfile.ZIP_DEFLATED:
            try:
                raw = memoryview(zlib.decompressobj(-zlib.MAX_WBITS).decompress(raw, MAX_TEXT_BYTES + 1))
            except zlib.error as error:
                raise self.invalid(f"{name} cannot be unpacked") from error
        try:
            return str(self._verified(entry, raw), "utf-8")
        except UnicodeDecodeError as error:
            raise self.invalid(f"{name} is not text") from error

    def _check_end(self, data: bytes) -> None:
        """Look at the count of entries before anything reads them all."""
        at = data.rfind(_END, max(0, len(data) - _END_BYTES - _MAX_COMMENT_BYTES))
        if at < 0 or len(data) - at < _END_BYTES:
            raise IncompleteArtifact(file=self.file, reason="the zip archive has no end")
        count, directory_bytes = struct.unpack_from("<HI", data, at + 10)
        if count > MAX_ENTRIES or (directory_bytes != 0xFFFFFFFF and directory_bytes > at):
            raise self.invalid(f"the zip archive claims {count} entries in {directory_bytes} bytes")

    def _checked(self, entries: list[zipfile.ZipInfo]) -> dict[str, zipfile.ZipInfo]:
        if not 0 < len(entries) <= MAX_ENTRIES:
            raise self.invalid(f"a zip archive of {len(entries)} entries; 1 to {MAX_ENTRIES} are read")
        roots = {entry.filename.partition("/")[0] for entry in entries}
        if len(roots) != 1 or f"{roots.copy().pop()}/data.pkl" not in {entry.filename for entry in entries}:
            raise self.invalid(_not_torch({entry.filename for entry in entries}))
        found: dict[str, zipfile.ZipInfo] = {}
        end = 0
        for entry in sorted(entries, key=lambda entry: entry.header_offset):
            name = entry.filename.partition("/")[2]
            if entry.flag_bits & 1 or entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise self.invalid(f"{name:.80} is encrypted or packed in an unknown way")
            if name in found:
                raise self.invalid(f"{name:.80} is there twice")
            if entry.header_offset < end:
                raise self.invalid(f"{name:.80} overlaps another entry")
            if entry.compress_type == zipfile.ZIP_STORED and entry.file_size != entry.compress_size:
                raise self.invalid(f"{name:.80} claims {entry.file_size} bytes and holds {entry.compress_size}")
            found[name] = entry
            end = self._begin(entry) + entry.compress_size
            if end > len(self._data):
                raise IncompleteArtifact(file=self.file, reason=f"{name:.80} is cut off")
        return found

    def _begin(self, entry: zipfile.ZipInfo) -> int:
        """Return where the content begins, by the header in front of it."""
        at = entry.header_offset
        header = bytes(self._data[at : at + _LOCAL_HEADER.size])
        if len(header) < _LOCAL_HEADER.size or not header.startswith(SIGNATURE):
            raise self.invalid(f"{entry.filename:.80} is not where the directory says")
        name_bytes, extra_bytes = _LOCAL_HEADER.unpack(header)[-2:]
        return int(at + _LOCAL_HEADER.size + name_bytes + extra_bytes)

    def _entry(self, name: str) -> zipfile.ZipInfo:
        if name not in self._entries:
            raise self.invalid(f"the entry {name:.80} is missing")
        return self._entries[name]

    def _content(self, entry: zipfile.ZipInfo) -> memoryview:
        begin = self._begin(entry)
        return self._data[begin : begin + entry.compress_size]

    def _verified(self, entry: zipfile.ZipInfo, content: memoryview) -> memoryview:
        if len(content) != entry.file_size or zlib.crc32(content) != entry.CRC:
            raise self.invalid(f"the content of {entry.filename:.80} does not have its size or checksum")
        return content


def _not_torch(names: set[str]) -> str:
    if {"config.json", "metadata.json"} <= names:
        return "it is a .keras file; save the model as .h5"
    return "a zip archive that neither torch.save nor torch.jit.save wrote"
