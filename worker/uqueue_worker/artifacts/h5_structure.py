"""What a model's H5 file may consist of: groups and plain number arrays that lie in the file itself.

HDF5 can point to other files (external links, external storage, virtual datasets), load filter plugins, and claim
arrays that unpack to far more than the file holds. Keras writes none of that; it is refused before an array is read.
"""

from __future__ import annotations

import math
import zlib
from typing import Any, Final

import h5py
from h5py import h5a, h5d, h5g, h5o, h5s, h5t, h5z

from uqueue_config.errors import IncompleteArtifact, ModelInvalid, UnsafeArtifact

SIGNATURE: Final = b"\x89HDF\r\n\x1a\n"
MAX_OBJECTS: Final = 10_000
MAX_DEPTH: Final = 16
MAX_ATTRIBUTE_BYTES: Final = 4 * 1024 * 1024
MAX_ATTRIBUTE_ITEMS: Final = 65_536
MAX_CHUNK_BYTES: Final = 64 * 1024 * 1024
MAX_UNPACKED_BYTES: Final = 256 * 1024 * 1024
_FILTERS: Final = {h5z.FILTER_DEFLATE, h5z.FILTER_SHUFFLE, h5z.FILTER_FLETCHER32}
_NO_ADDRESS: Final = b"\xff" * 8


def check_superblock(data: bytes, *, file: str) -> None:
    """Check the file's first block. Raises ModelInvalid where it is not HDF5, IncompleteArtifact if it is cut off."""
    if not data:
        raise IncompleteArtifact(file=file, reason="the file is empty")
    if not data.startswith(SIGNATURE):
        if SIGNATURE.startswith(data) or not any(data[:8]):
            raise IncompleteArtifact(file=file, reason="the HDF5 signature is not written yet")
        raise ModelInvalid(file=file, reason=f"not an HDF5 file{_looks_like(data)}")
    version = data[8] if len(data) > 8 else 0
    offset_size = data[13:14] if version < 2 else data[9:10]
    end_at = {0: 40, 1: 44}.get(version, 28)
    if len(data) < end_at + 16:
        raise IncompleteArtifact(file=file, reason=f"only {len(data)} bytes")
    if version > 3 or offset_size != b"\x08":
        raise ModelInvalid(file=file, reason=f"an HDF5 superblock of version {version} that is not read here")
    if version < 2 and data[end_at + 8 : end_at + 16] != _NO_ADDRESS:
        raise UnsafeArtifact(file=file, name="an HDF5 driver block", hint="")
    end = int.from_bytes(data[end_at : end_at + 8], "little")
    if end > len(data):
        raise IncompleteArtifact(file=file, reason=f"it should have {end} bytes and has {len(data)}")


def _looks_like(data: bytes) -> str:
    if data.startswith(b"PK\x03\x04"):
        return "; it is a zip archive, perhaps a .keras file: save the model as .h5"
    return ""


class StructureCheck:
    """One walk over everything in a file. `run` raises ModelInvalid or UnsafeArtifact for what must not be there."""

    def __init__(self, root: h5py.File, size_bytes: int, *, file: str) -> None:
        self.root = root
        self.size_bytes = size_bytes
        self.file = file
        self.seen: set[int] = set()
        self.unpacked_bytes = 0

    def run(self) -> None:
        self._group(h5g.open(self.root.id, b"/"), "", 0)

    def _unsafe(self, name: str) -> UnsafeArtifact:
        return UnsafeArtifact(file=self.file, name=name, hint="")

    def _invalid(self, reason: str) -> ModelInvalid:
        return ModelInvalid(file=self.file, reason=reason)

    def _group(self, group: h5g.GroupID, path: str, depth: int) -> None:
        self._visit(group, path)
        if depth > MAX_DEPTH:
            raise self._invalid(f"groups nested more than {MAX_DEPTH} deep")
        if group.get_num_objs() > MAX_OBJECTS:
            raise self._invalid(f"more than {MAX_OBJECTS} objects")
        for name in [group.get_objname_by_idx(index) for index in range(group.get_num_objs())]:
            self._member(group, name, f"{path}/{name.decode('utf-8', 'replace')}", depth)

    def _member(self, group: h5g.GroupID, name: bytes, path: str, depth: int) -> None:
        link = group.links.get_info(name)
        if link.type != h5py.h5l.TYPE_HARD:
            kinds = {h5py.h5l.TYPE_SOFT: "a soft", h5py.h5l.TYPE_EXTERNAL: "an external"}
            raise self._unsafe(f"{kinds.get(link.type, 'a user-defined')} link at {path[:200]}")
        member = h5o.open(group, name)
        if isinstance(member, h5g.GroupID):
            self._group(member, path, depth + 1)
        elif isinstance(member, h5d.DatasetID):
            self._dataset(member, path)
        else:
            raise self._unsafe(f"a named data type at {path[:200]}")

    def _visit(self, member: h5py.h5.ObjectID, path: str) -> None:
        address = h5o.get_info(member).addr
        if address in self.seen:
            raise self._invalid(f"{path[:200] or '/'} is a second name of another object")
        self.seen.add(address)
        if len(self.seen) > MAX_OBJECTS:
            raise self._invalid(f"more than {MAX_OBJECTS} objects")
        for index in range(h5a.get_num_attrs(member)):
            self._attribute(h5a.open(member, index=index), path)

    def _attribute(self, attribute: h5a.AttrID, path: str) -> None:
        name = f"{path[:200]}@{attribute.name.decode('utf-8', 'replace')[:80]}"
        kind = attribute.get_type()
        text = isinstance(kind, h5t.TypeStringID)
        if not text and not _is_number(kind):
            raise self._unsafe(f"a data type other than text and numbers at {name}")
        items = math.prod(attribute.shape) if attribute.get_space().get_simple_extent_type() != h5s.NULL else 0
        if items > MAX_ATTRIBUTE_ITEMS or items * kind.get_size() > MAX_ATTRIBUTE_BYTES:
            raise self._invalid(f"the attribute {name} is larger than {MAX_ATTRIBUTE_BYTES} bytes")

    def _dataset(self, dataset: h5d.DatasetID, path: str) -> None:
        self._visit(dataset, path)
        path = path[:200]
        creation = dataset.get_create_plist()
        if creation.get_layout() == h5d.VIRTUAL:
            raise self._unsafe(f"a virtual dataset at {path}")
        if creation.get_external_count():
            raise self._unsafe(f"external storage at {path}")
        if not _is_number(dataset.get_type()):
            raise self._unsafe(f"a data type other than numbers at {path}")
        filters = [creation.get_filter(index)[0] for index in range(creation.get_nfilters())]
        if set(filters) - _FILTERS or len(set(filters)) != len(filters):
            raise self._unsafe(f"a storage filter other than gzip at {path}")
        self._dataset_size(dataset, path, creation, filters)

    def _dataset_size(self, dataset: h5d.DatasetID, path: str, creation: Any, filters: list[int]) -> None:
        item_bytes = dataset.get_type().get_size()
        size = math.prod(dataset.shape) * item_bytes
        self.unpacked_bytes += size
        if not filters and size > self.size_bytes:
            raise self._invalid(f"{path} claims {size} bytes in a file of {self.size_bytes}")
        if self.unpacked_bytes > max(MAX_UNPACKED_BYTES, 2 * self.size_bytes):
            raise self._invalid(f"the arrays claim more than {MAX_UNPACKED_BYTES} bytes")
        if creation.get_layout() != h5d.CHUNKED:
            return
        chunk_bytes = math.prod(creation.get_chunk()) * item_bytes
        if chunk_bytes > MAX_CHUNK_BYTES:
            raise self._invalid(f"{path} has chunks of {chunk_bytes} bytes; at most {MAX_CHUNK_BYTES} are read")
        if h5z.FILTER_DEFLATE in filters:
            self._chunks(dataset, path, chunk_bytes)

    def _chunks(self, dataset: h5d.DatasetID, path: str, chunk_bytes: int) -> None:
        """Unpack every chunk as far as it may go: HDF5 itself would follow a gzip stream to its end, however long."""
        if dataset.get_num_chunks() > MAX_OBJECTS:
            raise self._invalid(f"{path} has more than {MAX_OBJECTS} chunks")
        for index in range(dataset.get_num_chunks()):
            info = dataset.get_chunk_info(index)
            if info.size > self.size_bytes:
                raise self._invalid(f"{path} claims a chunk of {info.size} bytes in a file of {self.size_bytes}")
            mask, packed = dataset.read_direct_chunk(info.chunk_offset)
            try:
                unpacked = zlib.decompressobj().decompress(packed, chunk_bytes + 5)
            except zlib.error as error:
                raise self._invalid(f"{path} holds a broken gzip stream") from error
            if mask or len(unpacked) > chunk_bytes + 4:  # a checksum of four bytes may be packed along
                raise self._invalid(f"{path} unpacks to more than the {chunk_bytes} bytes that it claims")


def _is_number(kind: h5t.TypeID) -> bool:
    if isinstance(kind, h5t.TypeEnumID):  # how h5py writes bool
        return bool(kind.get_size() == 1)
    return isinstance(kind, h5t.TypeIntegerID | h5t.TypeFloatID) and kind.get_size() <= 8
