"""A sample taken apart along its schema: every value with its path, in the schema's order.

Paths are feature paths. Names that come with the data (sensors, keys of maps) have what would make a path ambiguous as
percent-encoded UTF-8: white space, control characters and `. | [ ] / %`; an empty name is `%`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote

#: `scalar` is a value of any simple type, `numbers` a list or image of numbers, `records` a list of records,
#: `nothing` a reading that is null: what it would hold is not known.
Kind = Literal["text", "bool", "int64", "float32", "float64", "time", "json", "scalar", "numbers", "records", "nothing"]
Order = tuple[tuple[int, str], ...]
_AMBIGUOUS = re.compile(r"[|\[\]/%\s\x00-\x1f\x7f]")
_SIMPLE: dict[str, Kind] = {
    "string": "text",
    "boolean": "bool",
    "int": "int64",
    "long": "int64",
    "float": "float32",
    "double": "float64",
}


@dataclass(frozen=True)
class Leaf:
    """A value and where it is; leaves sorted by `order` stand as in the schema, names of the data by alphabet.

    items  kind of the elements of `numbers`; of `records`, the kinds of their fields by name
    """

    path: str
    order: Order
    kind: Kind
    value: Any
    items: Any = None


class Anatomy:
    """Takes samples apart; `schema` is a parsed and self-contained Avro schema."""

    def __init__(self, schema: Any) -> None:
        self._schema = schema
        self._named: dict[str, Any] = {}
        self._collect(schema)

    def leaves(self, sample: Mapping[str, Any] | None) -> Iterator[Leaf]:
        """Yield the leaves of a sample as fastavro reads it, with the names of records where several may stand; of
        None those that every sample has."""
        return self._walk(self._schema, sample, (), ())

    def _collect(self, schema: Any) -> None:
        if isinstance(schema, list):
            for branch in schema:
                self._collect(branch)
        elif isinstance(schema, Mapping):
            if "name" in schema:
                self._named[schema["name"]] = schema
            for below in ("items", "values"):
                self._collect(schema.get(below))
            for field in schema.get("fields", ()):
                self._collect(field["type"])

    def _walk(self, given: Any, value: Any, names: tuple[str, ...], order: Order) -> Iterator[Leaf]:
        schema = self._resolved(given)
        path = ".".join(names)
        if isinstance(schema, list):
            yield from self._branch(schema, value, names, order)
        elif isinstance(schema, Mapping) and schema["type"] == "record":
            for number, field in enumerate(schema["fields"]):
                name = field["name"]
                below = None if value is None else value[name]
                yield from self._walk(field["type"], below, (*names, name), (*order, (number, name)))
        elif isinstance(schema, Mapping) and schema["type"] == "map":
            for key in value or {}:
                yield from self._walk(schema["values"], value[key], (*names, encoded(key)), (*order, (0, key)))
        elif isinstance(schema, Mapping) and schema["type"] == "array":
            kind, items = self._list_kind(schema["items"])
            yield Leaf(path, order, kind, value, items)
        else:
            yield Leaf(path, order, self._simple(schema), value)

    def _branch(self, union: list[Any], value: Any, names: tuple[str, ...], order: Order) -> Iterator[Leaf]:
        branches = [branch for branch in union if branch != "null"]
        if len(branches) == 1:
            yield from self._walk(branches[0], value, names, order)
        elif all(isinstance(branch, str) and branch in _SIMPLE for branch in branches):
            yield Leaf(".".join(names), order, "scalar", value)
        elif value is None:
            yield Leaf(".".join(names), order, "nothing", None)
        else:
            record, below = value
            yield from self._walk(record, below, names, order)

    def _list_kind(self, items: Any) -> tuple[Kind, Any]:
        inner = self._resolved(items)
        if isinstance(inner, Mapping) and inner["type"] == "array":
            return self._list_kind(inner["items"])
        if isinstance(inner, Mapping) and inner["type"] == "record":
            return "records", {field["name"]: self._simple(field["type"]) for field in inner["fields"]}
        kind = self._simple(inner)
        return ("numbers", kind) if kind in ("int64", "float32", "float64") else ("json", None)

    def _resolved(self, schema: Any) -> Any:
        return self._named.get(schema, schema) if isinstance(schema, str) else schema

    def _simple(self, schema: Any) -> Kind:
        if isinstance(schema, Mapping):
            if schema.get("logicalType") == "timestamp-millis":
                return "time"
            return "text" if schema["type"] == "enum" else _SIMPLE.get(schema["type"], "json")
        return _SIMPLE.get(schema, "json")


def encoded(name: str) -> str:
    """Return a name of the data as one segment of a path; `unquote` of urllib gives it back, `%` stands for none."""
    return _AMBIGUOUS.sub(lambda found: quote(found[0], safe=""), name).replace(".", "%2E") or "%"
