"""Rows of features from a file or stdin: CSV, NPY or JSON. Every refusal says where, what was expected, what to do."""

from __future__ import annotations

import csv
import io
import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uqueue_config.arrays import decode_array
from uqueue_config.errors import InvalidFeatures

#: More than this is no job that could be accepted anyway.
MAX_FILE_BYTES = 256 * 1024 * 1024
_NPY_MAGIC = b"\x93NUMPY"


class Format(StrEnum):
    """How rows are written down."""

    CSV = "csv"
    NPY = "npy"
    JSON = "json"


def read_rows(source: str, format: Format | None = None) -> Any:
    """Return the rows in a file, or in stdin for `-`: an array, or nested lists as JSON had them, not checked yet.

    The format is the one given, else told from the content. Raises InvalidFeatures.
    """
    name = "stdin" if source == "-" else source
    data = _content(source, name)
    if not data.strip():
        raise InvalidFeatures(reason=f"{name} is empty; expected rows of numbers")
    readers = {Format.CSV: _from_csv, Format.NPY: _from_npy, Format.JSON: _from_json}
    return readers[format or _sniffed(data)](data, name)


def _content(source: str, name: str) -> bytes:
    try:
        if source == "-":
            data = sys.stdin.buffer.read(MAX_FILE_BYTES + 1)
        else:
            with Path(source).open("rb") as file:
                data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InvalidFeatures(
            reason=f"{name} cannot be read ({reason}); expected a file with rows, or - for stdin"
        ) from error
    if len(data) > MAX_FILE_BYTES:
        raise InvalidFeatures(reason=f"{name} is larger than {MAX_FILE_BYTES >> 20} MB; split it into several jobs")
    return data


def _sniffed(data: bytes) -> Format:
    if data.startswith(_NPY_MAGIC):
        return Format.NPY
    return Format.JSON if data.lstrip()[:1] in (b"[", b"{") else Format.CSV


def _from_npy(data: bytes, name: str) -> NDArray[Any]:
    try:
        array = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError, OSError):
        array = None
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiub":
        raise InvalidFeatures(reason=f"{name} is not an NPY file of numbers; write one with numpy.save")
    return array


def _from_json(data: bytes, name: str) -> Any:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        where = f"line {error.lineno}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else "UTF-8"
        raise InvalidFeatures(reason=f"{name} is not JSON ({where}); expected [[1.0, 2.0], …]") from None
    if isinstance(value, dict):
        if set(value) != {"features"}:
            found = ", ".join(sorted(value)[:6]) or "nothing"
            raise InvalidFeatures(reason=f'{name}: expected {{"features": [[…], …]}}, the object holds {found}')
        value = value["features"]
    if isinstance(value, dict):
        try:
            return decode_array(value, "<f4")
        except ValueError as error:
            raise InvalidFeatures(reason=f"{name}: {error}") from None
    if not isinstance(value, list):
        raise InvalidFeatures(reason=f"{name}: expected a list of rows, each a list of numbers")
    return value


def _from_csv(data: bytes, name: str) -> NDArray[np.float64]:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InvalidFeatures(reason=f"{name} is neither text, NPY nor JSON; expected one of these") from None
    delimiter = _delimiter(text)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        lines = [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except csv.Error as error:
        raise InvalidFeatures(reason=f"{name}, line {reader.line_num}: not CSV ({error})") from None
    if not any(_is_number(cell) for cell in lines[0][1]):
        lines = lines[1:]
    if not lines:
        raise InvalidFeatures(reason=f"{name} holds a header and no rows")
    columns = len(lines[0][1])
    return np.array([_numbers(cells, columns, f"{name}, line {line}") for line, cells in lines])


def _delimiter(text: str) -> str:
    first = next(line for line in text.splitlines() if line.strip())
    return next((mark for mark in (";", "\t") if mark in first), ",")


def _numbers(cells: list[str], columns: int, where: str) -> list[float]:
    if len(cells) != columns:
        raise InvalidFeatures(reason=f"{where}: expected {columns} columns as in the first row, got {len(cells)}")
    for column, cell in enumerate(cells, start=1):
        if not _is_number(cell):
            shown = repr(cell[:40]) if cell.strip() else "an empty cell"
            raise InvalidFeatures(
                reason=f"{where}, column {column}: expected a number such as 0.5, got {shown}; correct or drop the row"
            )
    return [float(cell) for cell in cells]


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell  # which Python reads as a number
