"""The columns of a table of samples: which there are, of which types, and what is left out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Literal, cast, get_args

from uqueue_config.learning.feature_path import Reducer
from uqueue_worker.learning.errors import GenerationFailed
from uqueue_worker.learning.exports.leaves import Anatomy, Kind, Leaf

#: `time` is a moment in UTC in whole milliseconds, `json` is JSON text.
ColumnType = Literal["text", "bool", "int64", "float32", "float64", "time", "json"]
NumberType = Literal["int64", "float32", "float64"]
REDUCERS: tuple[Reducer, ...] = get_args(Reducer)
MAX_COLUMNS = 10_000
_NUMBERS = frozenset(get_args(NumberType))
_EXACT_INTEGERS = 2**53
_SILENT = "no sample has a reading of it"
_RECORDS = "a list of records; only hdf5 keeps it"


@dataclass(frozen=True)
class Column:
    """One number or text of a sample; `name` is its feature path, without the reducer it is `source`."""

    name: str
    type: ColumnType
    source: str
    reducer: Reducer | None = None


@dataclass(frozen=True)
class Array:
    """Numbers that a sample has many of: a list, an image, or one field of a list of records."""

    name: str
    type: NumberType
    source: str
    field: str | None = None


@dataclass(frozen=True)
class Layout:
    """`left_out` says by path what no column holds, and why."""

    columns: tuple[Column, ...]
    arrays: tuple[Array, ...]
    left_out: dict[str, str]


@dataclass
class _Seen:
    """What all samples together show of one path; `exact` is whether float64 holds its integers."""

    leaf: Leaf
    kinds: set[Kind] = field(default_factory=set)
    exact: bool = True

    def note(self, leaf: Leaf) -> None:
        if leaf.kind != "scalar":
            self.kinds.add(leaf.kind)
        elif leaf.value is not None:
            self.kinds.add(kind_of(leaf.value))
        if isinstance(leaf.value, int):
            self.exact = self.exact and abs(leaf.value) <= _EXACT_INTEGERS

    @property
    def kind(self) -> Kind:
        """What holds all values: float64 for numbers of several types, unless it would change one, else JSON."""
        kinds = self.kinds - {"nothing"} or self.kinds
        if len(kinds) == 1:
            return next(iter(kinds))
        if not kinds:
            return "text"
        return "float64" if kinds <= _NUMBERS and self.exact else "json"


def layout_of(samples: Iterable[Mapping[str, Any]], anatomy: Anatomy) -> Layout:
    """Return the layout that fits all samples. Raises GenerationFailed for more than 10,000 columns."""
    seen: dict[str, _Seen] = {}
    for leaves in chain([anatomy.leaves(None)], map(anatomy.leaves, samples)):
        for leaf in leaves:
            seen.setdefault(leaf.path, _Seen(leaf)).note(leaf)
        if len(seen) > MAX_COLUMNS:
            reason = f"a table of them has more than {MAX_COLUMNS} columns; avro has no such limit"
            raise GenerationFailed(reason=reason)
    ordered = sorted(seen.values(), key=lambda one: one.leaf.order)
    paths = [one.leaf.path for one in ordered if one.kind != "nothing"]
    columns: list[Column] = []
    arrays: list[Array] = []
    left_out: dict[str, str] = {}
    for one in ordered:
        path, kind = one.leaf.path, one.kind
        if kind == "nothing":
            if not any(other.startswith(f"{path}.") for other in paths):
                left_out[path] = _SILENT
        elif kind == "records":
            left_out[path] = _RECORDS
            fields = {name: type_ for name, type_ in one.leaf.items.items() if type_ in _NUMBERS}
            arrays += [Array(f"{path}[].{name}", type_, path, name) for name, type_ in fields.items()]
        elif kind == "numbers":
            arrays.append(Array(path, one.leaf.items, path))
            columns += [Column(f"{path}|{reducer}", "float64", path, reducer) for reducer in REDUCERS]
        else:
            columns.append(Column(path, cast(ColumnType, kind), path))
    return Layout(tuple(columns), tuple(arrays), left_out)


def kind_of(value: Any) -> Kind:
    """Return the kind of a value of a map of simple values."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int64"
    return "float64" if isinstance(value, float) else "text"
