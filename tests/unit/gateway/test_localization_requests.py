"""What a localization request may hold, and with which status it is refused otherwise."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest

from uqueue.gateway.localization.requests import Item, read_batch, read_single, unpacked
from uqueue.gateway.problems import Problem

ONE: dict[str, Any] = {"iq_base64": "AAAA", "shape": [2048]}
LISTS: dict[str, Any] = {"iq_data": [[0.0, 1.0]]}


def data(value: Any) -> bytes:
    return json.dumps(value).encode()


def refused(read: Any, value: Any, status: int) -> Problem:
    with pytest.raises(Problem) as caught:
        read(value if isinstance(value, bytes) else data(value))
    assert caught.value.status == status, caught.value.detail
    return caught.value


def test_what_a_request_says_is_what_is_read() -> None:
    item = read_single(
        data({**ONE, "session_id": "van-7", "sample_rate_hz": 192000, "frequency_mhz": 145.5, "new": [1]})
    )
    assert item == Item(None, "AAAA", [2048], "van-7", True, 192000.0, 145.5)
    item = read_single(data({**LISTS, "iq_base64": None, "cache_enabled": False, "session_id": None}))
    assert item == Item([[0.0, 1.0]], None, None, None, False, None, None)
    assert read_single(data({**ONE, "session_id": ""})).session_id is None


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"\xff\xfe", b'{"iq_data": [[NaN, 1]]}', b'{"iq_data": [[Infinity, 1]]}', b"[" * 5000, b"9" * 9999],
)
def test_what_is_no_json(text: bytes) -> None:
    assert refused(read_single, text, 400).error == "InvalidJson"
    assert refused(read_batch, text, 400).error == "InvalidJson"


@pytest.mark.parametrize(
    "value",
    [
        [],
        "text",
        {},
        {"shape": [2048]},
        {"iq_base64": "AAAA"},
        {**ONE, **LISTS},
        {**ONE, "iq_base64": 5},
        {**ONE, "shape": "2048"},
        {**ONE, "shape": []},
        {**ONE, "shape": [1, 2, 3]},
        {**ONE, "shape": [-1]},
        {**ONE, "shape": [2048.5]},
        {**ONE, "session_id": 7},
        {**ONE, "session_id": "x" * 257},
        {**ONE, "cache_enabled": "yes"},
        {**ONE, "cache_enabled": 1},
        {**ONE, "sample_rate_hz": 0},
        {**ONE, "sample_rate_hz": -1},
        {**ONE, "sample_rate_hz": True},
        {**ONE, "sample_rate_hz": "192000"},
        {**ONE, "frequency_mhz": 0},
    ],
)
def test_what_has_not_the_form_of_a_request(value: Any) -> None:
    problem = refused(read_single, value, 422)
    assert problem.error == "InvalidRequest"
    assert problem.detail.endswith(".")


def test_a_list_of_what_is_wrong_is_there_for_programs() -> None:
    problem = refused(read_single, {**ONE, "shape": [-1], "session_id": 7}, 422)
    assert {one["pointer"] for one in problem.members["errors"]} == {"/shape/0", "/session_id"}


def test_both_forms_of_a_batch() -> None:
    batch = read_batch(data({"iq_samples": [[[0.0, 1.0]]] * 3, "cache_enabled": False, "session_id": "van-7"}))
    assert [one.iq_data for one in batch.items if isinstance(one, Item)] == [[[0.0, 1.0]]] * 3
    assert batch.session_id == "van-7"
    assert not batch.continue_on_error
    own = {**ONE, "cache_enabled": True, "frequency_mhz": 144.0}
    batch = read_batch(data({"predictions": [own, ONE], "cache_enabled": False, "frequency_mhz": 146.0}))
    shown = [(one.cache_enabled, one.frequency_mhz) for one in batch.items if isinstance(one, Item)]
    assert shown == [(True, 144.0), (False, 146.0)]


@pytest.mark.parametrize(
    ("sessions", "batch", "chooses"),
    [
        (["a", "a"], None, "a"),
        (["a", "b"], None, None),
        (["a", None], None, None),
        (["a", "b"], "c", "c"),
        (["a", None], "c", "c"),
        ([None, None], None, None),
    ],
)
def test_whose_session_chooses_the_version(sessions: list[str | None], batch: str | None, chooses: str | None) -> None:
    items = [{**ONE, "session_id": session} for session in sessions]
    assert read_batch(data({"predictions": items, "session_id": batch})).session_id == chooses


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"iq_samples": [], "predictions": []},
        {"iq_samples": []},
        {"predictions": []},
        {"predictions": [ONE] * 101},
        {"predictions": [ONE], "iq_samples": [[[0, 1]]]},
        {"predictions": ONE},
        {"predictions": [ONE], "continue_on_error": "yes"},
    ],
)
def test_what_has_not_the_form_of_a_batch(value: Any) -> None:
    assert refused(read_batch, value, 422).error == "InvalidRequest"


def test_an_item_that_is_wrong_is_named_or_left_out() -> None:
    items = [ONE, {"shape": [1]}, 5]
    assert refused(read_batch, {"predictions": items}, 422).members["index"] == 1
    batch = read_batch(data({"predictions": items, "continue_on_error": True}))
    assert [isinstance(one, Problem) for one in batch.items] == [False, True, True]


def test_gzip_is_unpacked_within_bounds() -> None:
    packed = gzip.compress(b"x" * 100_000)
    assert unpacked(packed, 100_000) == b"x" * 100_000
    for wrong, limit, status in [
        (packed, 99_999, 413),
        (b"no gzip", 10, 400),
        (packed[:-9], 100_000, 400),
        (b"", 10, 400),
    ]:
        with pytest.raises(Problem) as caught:
            unpacked(wrong, limit)
        assert caught.value.status == status
    with pytest.raises(Problem):
        unpacked(packed + packed, 10**6)
