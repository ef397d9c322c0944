"""Rows from files and stdin: what is read, and what each refusal says."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from uqueue.cli.rows import Format, read_rows
from uqueue_config.arrays import encode_array
from uqueue_config.errors import InvalidFeatures

ROWS = [[1.0, 2.5], [-3.0, 4e-3]]


def _npy(value: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, value, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"1,2.5\n-3,4e-3\n",
        b"a,b\n1,2.5\n-3,4e-3",
        b"\xef\xbb\xbfa,b\r\n 1 , 2.5\r\n\r\n-3,.004\r\n",
        b"a;b\n1;2.5\n-3;0.004\n",
        b"1\t2.5\n-3\t0.004\n",
        b'"1","2.5"\n"-3","0.004"\n',
        b"[[1, 2.5], [-3, 0.004]]",
        b' {"features": [[1, 2.5], [-3, 0.004]]}',
        json.dumps({"features": encode_array(np.array(ROWS, dtype=np.float32), "base64")}).encode(),
        _npy(np.array(ROWS)),
        _npy(np.array(ROWS, dtype=np.float32)),
    ],
    ids=["csv", "header", "bom", "semicolons", "tabs", "quoted", "list", "object", "base64", "npy", "npy32"],
)
def test_reads_rows_in_every_format(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "rows"
    path.write_bytes(content)
    np.testing.assert_allclose(np.asarray(read_rows(str(path)), dtype=float), ROWS, rtol=1e-6)


@pytest.mark.parametrize("content", [b"1,2\n", b"[[1, 2]]", _npy(np.array([[1.0, 2.0]]))])
def test_reads_stdin(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    assert np.asarray(read_rows("-")).tolist() == [[1.0, 2.0]]


def test_the_format_given_wins() -> None:
    with pytest.raises(InvalidFeatures, match="is not JSON"):
        read_rows(__file__, Format.JSON)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", r"is empty; expected rows of numbers"),
        (b" \n\n", r"is empty"),
        (b"a,b\n", r"a header and no rows"),
        (b"1,2\n3,x\n", r"line 2, column 2: expected a number such as 0\.5, got 'x'; correct or drop the row"),
        (b"1,2\n\n3,\n", r"line 3, column 2: .* got an empty cell"),
        (b"a,b\n1,2\n3\n", r"line 3: expected 2 columns as in the first row, got 1"),
        (b"1,2\n1_0,2\n", r"got '1_0'"),
        (b"1,5;2,5\n", r"no rows|column 1: expected a number"),
        (b'1,"2\n', r"line 1: not CSV"),
        (b"\xff\xfe\x00", r"neither text, NPY nor JSON"),
        (b"[[1, 2]", r"is not JSON \(line 1, column 8\)"),
        (b"[" * 100_000, r"is not JSON"),
        (b'{"rows": [[1]]}', r"the object holds rows"),
        (b'{"features": 3}', r"expected a list of rows"),
        (b'{"features": {"dtype": "<f8", "shape": [1, 1], "data": ""}}', r"expected dtype '<f4'"),
        (_npy(np.array([[1.0]]))[:-3], r"is not an NPY file of numbers"),
        (_npy(np.array([["a"]])), r"is not an NPY file of numbers"),
        (_npy(np.array([[object()]]), allow_pickle=True), r"is not an NPY file of numbers"),
    ],
)
def test_refuses_in_a_sentence(content: bytes, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "rows"
    path.write_bytes(content)
    with pytest.raises(InvalidFeatures, match=sentence) as refusal:
        read_rows(str(path))
    assert str(path) in refusal.value.message


@pytest.mark.parametrize("name", ["missing.csv", "."])
def test_an_unreadable_file_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidFeatures, match="cannot be read"):
        read_rows(str(tmp_path / name))


def test_a_huge_file_is_refused_before_it_is_parsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("uqueue.cli.rows.MAX_FILE_BYTES", 1 << 20)
    path = tmp_path / "rows"
    path.write_bytes(b"1\n" * (1 << 20))
    with pytest.raises(InvalidFeatures, match="larger than 1 MB"):
        read_rows(str(path))
