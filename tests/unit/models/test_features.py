from __future__ import annotations

import datetime
import time
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from uqueue_config.errors import InvalidFeatures
from uqueue_config.features import validate_features

GOOD = [
    [[1, 2.5], [3, 4]],
    ((1, 2.5), (3, 4)),
    np.array([[1, 2.5], [3, 4]]),
    np.array([[1, 2.5], [3, 4]], np.float16),
    np.array([[1, 2.5], [3, 4]], order="F"),
    np.array([[1, 2.5], [3, 4]], object),
    np.array([[1, 9, 2.5, 9], [3, 9, 4, 9]])[:, ::2],
    [np.array([1, 2.5]), np.array([3, 4])],
    [[np.float32(1), Fraction(5, 2)], [np.int8(3), np.uint64(4)]],
]


@pytest.mark.parametrize("features", GOOD)
def test_tables_of_numbers_become_float32(features: Any) -> None:
    table = validate_features(features, columns=2, max_rows=2)
    assert table.dtype == np.float32
    assert table.flags.c_contiguous
    np.testing.assert_array_equal(table, [[1, 2.5], [3, 4]])


def test_the_table_is_a_copy() -> None:
    mine = np.ones((2, 2), np.float32)
    validate_features(mine, columns=2, max_rows=9)[:] = 5
    assert (mine == 1).all()


CELLS = [
    (None, "row 1, column 0, got None"),
    ("2", "row 1, column 0, got '2'"),
    ("x" * 500, "row 1, column 0, got 'xxx"),
    (True, "row 1, column 0, got True"),
    (np.bool_(True), "row 1, column 0, got "),
    (1j, "row 1, column 0, got 1j"),
    (Decimal(1), "an object of type Decimal"),
    (datetime.date(2024, 1, 1), "an object of type date"),
    (np.datetime64(1, "s"), "an object of type datetime64"),
    ([1], "an object of type list"),
    (float("nan"), "a finite number at row 1, column 0, got nan"),
    (float("-inf"), "a finite number at row 1, column 0, got -inf"),
    (1e39, "row 1, column 0, which float32 cannot hold: got 1e+39"),
    (10**400, "row 1, column 0, got inf"),
]


@pytest.mark.parametrize(("cell", "message"), CELLS, ids=lambda value: repr(value)[:12])
def test_the_first_bad_cell_is_named(cell: Any, message: str) -> None:
    with pytest.raises(InvalidFeatures) as refused:
        validate_features([[1.0, 2.0], [cell, float("nan")]], columns=2, max_rows=9)
    assert message in str(refused.value)
    assert len(str(refused.value)) < 200


TABLES = [
    (None, "got None"),
    ("abc", "got 'abc'"),
    ({"a": [1]}, "an object of type dict"),
    (5, "an object of type int"),
    (np.float64(5), "an object of type float64"),
    (range(3), "an object of type range"),
    ([1, 2], "row 0 is an object of type int"),
    ([[1, 2], None], "row 1 is None"),
    ([[1, 2], "ab"], "row 1 is 'ab'"),
    ([[1, 2], [3]], "2 columns in every row, row 1 has 1"),
    ([], "expected 1 to 9 rows, got none"),
    (np.zeros((0, 2)), "expected 1 to 9 rows, got none"),
    (np.zeros((10, 2)), "expected 1 to 9 rows, got 10"),
    ([[None]] * 10, "expected 1 to 9 rows, got 10"),
    ([[]], "expected 2 columns, got 0"),
    (np.zeros((3, 4)), "expected 2 columns, got 4"),
    (np.zeros(4), "an array of shape (4,)"),
    (np.array(4.0), "an array of shape ()"),
    (np.zeros((1, 2, 2)), "an array of shape (1, 2, 2)"),
    (np.zeros((2, 2), bool), "an array of bool"),
    (np.zeros((2, 2), complex), "an array of complex128"),
    (np.array([["1", "2"]]), "an array of <U1"),
    (np.zeros((2, 2), "M8[s]"), "an array of datetime64"),
    (np.zeros((2, 2), [("a", float)]), "an array of "),
    (np.array([[1, None]], object), "row 0, column 1, got None"),
    (np.ma.array([[1.0, 2.0]], mask=[[False, True]]), "row 0, column 1, got nan"),
]


@pytest.mark.parametrize(("features", "message"), TABLES, ids=lambda value: repr(value)[:24])
def test_what_is_no_table_is_refused(features: Any, message: str) -> None:
    with pytest.raises(InvalidFeatures) as refused:
        validate_features(features, columns=2, max_rows=9)
    assert message in str(refused.value)


def test_no_columns_at_all_are_refused_even_where_the_width_is_not_known() -> None:
    with pytest.raises(InvalidFeatures, match="at least 1 column"):
        validate_features([[]], columns=None, max_rows=9)


@given(st.lists(st.lists(st.floats(width=32), min_size=3, max_size=3), min_size=1, max_size=5))
def test_lists_and_arrays_are_judged_alike(rows: list[list[float]]) -> None:
    def judge(features: Any) -> Any:
        try:
            return validate_features(features, columns=3, max_rows=5).tolist()
        except InvalidFeatures as error:
            return str(error)

    assert judge(rows) == judge(np.array(rows))


def test_ten_thousand_rows_take_no_time() -> None:
    rows = np.random.default_rng(0).normal(size=(10_000, 8)).tolist()
    began = time.perf_counter()
    validate_features(rows, columns=8, max_rows=10_000)
    assert time.perf_counter() - began < 0.5
