"""What an ONNX file is made of, read as the protobuf messages that it consists of and by no ONNX library.

Of the schema (onnx.proto) only what can lead outside of the file is known here: tensors whose data lies in other files,
and operators of other domains. Everything that may hold either is walked; what a tensor holds is skipped.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from uqueue_config.errors import ModelInvalid, UnsafeArtifact

#: The domains whose operators ONNX Runtime itself defines.
STANDARD_DOMAINS: Final = frozenset({"", "ai.onnx", "ai.onnx.ml"})
MAX_DEPTH: Final = 16
MAX_MESSAGES: Final = 1_000_000
#: By message and field, which message is in it.
_HOLDS: Final = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "function": {7: "node", 11: "attribute"},
    "tensor": {},
}
_DOMAIN: Final = {"node": 7, "function": 10}
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14


class _Field(NamedTuple):
    number: int
    value: int | memoryview


def check_onnx_structure(data: bytes, *, file: str) -> None:
    """Raise UnsafeArtifact for a model that names other files or custom operators, ModelInvalid for no model at all."""
    walk = _Walk(file)
    try:
        walk.message("model", memoryview(data), 0)
    except (IndexError, UnicodeDecodeError, _Damaged) as error:
        raise ModelInvalid(file=file, reason="it is no ONNX model, or a damaged one") from error
    if not walk.has_graph:
        raise ModelInvalid(file=file, reason="it holds no ONNX graph")
    custom = sorted(walk.domains - STANDARD_DOMAINS - walk.own_domains)
    if custom:
        hint = "; only operators of ONNX itself are allowed"
        raise UnsafeArtifact(file=file, name=f"operators of the domain {custom[0][:80]!r}", hint=hint)


class _Damaged(Exception):
    """The bytes are no protobuf message, or far too many."""


class _Walk:
    """Goes through a model; notes the domains of its operators, and those that it defines itself as functions."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._messages = 0
        self.domains: set[str] = set()
        self.own_domains: set[str] = set()
        self.has_graph = False

    def message(self, kind: str, data: memoryview, depth: int) -> None:
        self._messages += 1
        if depth > MAX_DEPTH or self._messages > MAX_MESSAGES:
            raise _Damaged
        holds = _HOLDS[kind]
        for number, value in _fields(data):
            inner = holds.get(number)
            if inner is not None:
                if isinstance(value, int):
                    raise _Damaged
                self.has_graph |= inner == "graph"
                self.message(inner, value, depth + 1)
            elif kind == "tensor" and (number == _EXTERNAL_DATA or (number == _DATA_LOCATION and value != 0)):
                hint = "; save it with all its weights inside (mlflow.onnx: save_as_external_data=False)"
                raise UnsafeArtifact(file=self._file, name="another file for its weights", hint=hint)
            elif kind in _DOMAIN and number == _DOMAIN[kind]:
                self._note_domain(kind, value)

    def _note_domain(self, kind: str, value: int | memoryview) -> None:
        if isinstance(value, int):
            raise _Damaged
        domains = self.domains if kind == "node" else self.own_domains
        domains.add(bytes(value).decode())


def _fields(data: memoryview) -> Iterator[_Field]:
    """Yield the fields of one message; fixed-size numbers, which are of no interest, as 0."""
    at, end = 0, len(data)
    while at < end:
        tag, at = _varint(data, at)
        wire = tag & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield _Field(tag >> 3, value)
            continue
        if wire == 2:
            size, at = _varint(data, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise _Damaged
        if at + size > end:
            raise _Damaged
        yield _Field(tag >> 3, data[at : at + size] if wire == 2 else 0)
        at += size


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise _Damaged
