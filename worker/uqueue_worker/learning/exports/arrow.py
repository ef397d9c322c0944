"""Tables as CSV and Parquet files, by pyarrow.

CSV: UTF-8, a header, LF; texts and names in quotes, numbers and true/false without; null is an empty cell, the empty
text `""`. A text that begins with `=`, `+`, `-`, `@`, tab or carriage return, after any apostrophes, gets an apostrophe
in front, because a spreadsheet would run it; numbers are as they are. `<file>-metadata.json` (CSV on the Web) has the
types of the columns.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from uqueue_worker.learning.exports.layout import Column, ColumnType, Layout
from uqueue_worker.learning.exports.table import Values, cells, iso, layout_facts

_RUNS = re.compile(r"'*[=+\-@\t\r]")
_CSVW: dict[ColumnType, str] = {
    "text": "string",
    "bool": "boolean",
    "int64": "long",
    "float32": "float",
    "float64": "double",
    "time": "dateTimeStamp",
    "json": "json",
}
_TEXT_NOTE = "One leading apostrophe is no part of a text that goes on with apostrophes and then =, +, -, @, tab or CR."


def write_parquet(path: Path, layout: Layout, rows: Iterable[list[Values]], facts: dict[str, Any]) -> None:
    """Write a Parquet file (Zstandard); its metadata has what `facts` and the layout say under the key `uqueue`."""
    import pyarrow.parquet as parquet

    schema = _schema(layout)
    schema = schema.with_metadata({"uqueue": json.dumps({**facts, **layout_facts(layout)}, sort_keys=True)})
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        for table in _tables(layout, rows, schema):
            writer.write_table(table)


def write_csv(path: Path, layout: Layout, rows: Iterable[list[Values]]) -> None:
    """Write a CSV file as the module says."""
    import pyarrow.csv as csv

    schema = _schema(layout, moments_as_text=True)
    with csv.CSVWriter(str(path), schema, write_options=csv.WriteOptions(quoting_style="needed")) as writer:
        for table in _tables(layout, rows, schema, safe_texts=True):
            writer.write_table(table)


def csv_metadata(url: str, layout: Layout, facts: dict[str, Any]) -> bytes:
    """Return what CSV on the Web has beside a file."""
    columns = [{"titles": one.name, "datatype": _CSVW[one.type], "null": ""} for one in layout.columns]
    told = {
        "@context": "http://www.w3.org/ns/csvw",
        "url": url,
        "tableSchema": {"columns": columns},
        "notes": [{**facts, "left_out": layout.left_out, "texts": _TEXT_NOTE}],
    }
    return (json.dumps(told, ensure_ascii=False, indent=1) + "\n").encode()


def defused(text: str) -> str:
    """Return a text as a CSV cell has it: with an apostrophe in front where a spreadsheet would run it."""
    return f"'{text}" if _RUNS.match(text) else text


def _schema(layout: Layout, *, moments_as_text: bool = False) -> Any:
    import pyarrow as pa

    types = {
        "text": pa.string(),
        "json": pa.string(),
        "bool": pa.bool_(),
        "int64": pa.int64(),
        "float32": pa.float32(),
        "float64": pa.float64(),
        "time": pa.string() if moments_as_text else pa.timestamp("ms", tz="UTC"),
    }
    return pa.schema([(column.name, types[column.type]) for column in layout.columns])


def _tables(layout: Layout, rows: Iterable[list[Values]], schema: Any, *, safe_texts: bool = False) -> Iterator[Any]:
    import pyarrow as pa

    for held in rows:
        found = [_texts(held, column) if safe_texts else cells(held, column) for column in layout.columns]
        arrays = [pa.array(values, type=field.type) for values, field in zip(found, schema, strict=True)]
        yield pa.Table.from_arrays(arrays, schema=schema)


def _texts(rows: list[Values], column: Column) -> list[Any]:
    values = cells(rows, column)
    if column.type in ("text", "json"):
        return [None if one is None else defused(one) for one in values]
    return [None if one is None else iso(one) for one in values] if column.type == "time" else values
