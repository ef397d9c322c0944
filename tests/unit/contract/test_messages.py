"""Messages: golden files keep parsing, hostile ones are refused with a sentence, arrays keep every bit."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from uqueue_config.arrays import Encoding, decode_array, encode_array
from uqueue_config.envelope import celery_message
from uqueue_config.errors import InvalidFeatures, InvalidMessage
from uqueue_config.messages import MAX_LIST_ROWS, PredictRequest
from uqueue_config.prediction import FileFingerprint, IntervalPrediction, ModelIdentity
from uqueue_config.template import template

GOLDEN = Path(__file__).parents[2] / "data" / "golden"


def make_prediction(failed_row: int | None = None) -> IntervalPrediction:
    lower = np.array([[1.5, -2.0], [0.1, 3.0], [7.0, 1.0]])
    upper = lower + np.array([[1.0, 0.5], [-0.3, 0.25], [2.0, 1.0]])
    failed = np.zeros(3, bool)
    if failed_row is not None:
        failed[failed_row] = True
        lower[failed_row] = upper[failed_row] = np.nan
    print_of_file = FileFingerprint("ab" * 32, 1234, 1_700_000_000_000_000_000)
    return IntervalPrediction(
        lower=lower,
        upper=upper,
        passes_used=np.array([3, 50, 17], np.int32),
        converged=np.array([True, False, True]),
        failed=failed,
        pass_std=np.arange(12, dtype=np.float32).reshape(3, 2, 2) / 7,
        q_hat=np.array([0.25, -0.125]),
        seed=2**62 + 1,
        stochastic=True,
        forward_mode="dropout",
        nominal_coverage=0.9,
        model=ModelIdentity(
            "mccp-uq", "0123456789abcdef", "ab" * 32, "cd" * 32, print_of_file, print_of_file, "3.15.1", "numpy"
        ),
        warnings=("one",),
    )


@pytest.mark.parametrize("name", ["request_lists", "request_base64", "request_minimal"])
def test_golden_requests_still_parse(name: str) -> None:
    request = PredictRequest.read(json.loads((GOLDEN / f"{name}.json").read_text()))
    assert request.model == "mccp-uq"
    assert np.asarray(request.raw_features(), dtype=np.float32).tolist() == [[1.0, 2.5], [-3.0, 0.0]]


@pytest.mark.parametrize("name", ["result_lists", "result_base64"])
def test_golden_results_still_parse(name: str) -> None:
    read = IntervalPrediction.from_message(json.loads((GOLDEN / f"{name}.json").read_text()))
    expected = make_prediction(failed_row=1)
    np.testing.assert_array_equal(read.lower, expected.lower)
    np.testing.assert_array_equal(read.pass_std[[0, 2]], expected.pass_std[[0, 2]])
    assert read.model == expected.model
    assert read.seed == expected.seed


@pytest.mark.parametrize("encoding", ["lists", "base64"])
def test_results_round_trip_without_nan(encoding: Encoding) -> None:
    prediction = make_prediction(failed_row=1)
    text = json.dumps(prediction.to_message(encoding), allow_nan=False)
    read = IntervalPrediction.from_message(json.loads(text))
    for name in ("lower", "upper", "width", "midpoint", "passes_used", "converged", "crossed", "failed", "q_hat"):
        np.testing.assert_array_equal(getattr(read, name), getattr(prediction, name))
    np.testing.assert_array_equal(read.intervals, prediction.intervals)
    assert np.isfinite(read.intervals).all()


def test_derived_fields() -> None:
    prediction = make_prediction()
    assert prediction.crossed.tolist() == [False, True, False]
    np.testing.assert_allclose(prediction.intervals, prediction.width.mean(axis=0))
    np.testing.assert_allclose(prediction.midpoint - prediction.width / 2, prediction.lower)


def test_all_rows_failed_is_still_json() -> None:
    from dataclasses import replace

    prediction = make_prediction()
    empty = np.full_like(prediction.lower, np.nan)
    broken = replace(prediction, lower=empty, upper=empty, failed=np.ones(3, bool))
    assert json.loads(json.dumps(broken.to_message(), allow_nan=False))["lower"] == [[None, None]] * 3


@given(hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=5), elements=st.floats(width=32)))
def test_base64_keeps_every_bit(array: np.ndarray[Any, Any]) -> None:
    back = decode_array(json.loads(json.dumps(encode_array(array, "base64"))), "<f4")
    assert back.tobytes() == array.tobytes()


def test_many_rows_travel_as_base64_and_few_as_lists() -> None:
    few = PredictRequest.of(np.ones((MAX_LIST_ROWS, 2), np.float32), "m", None, None)
    many = PredictRequest.of(np.ones((MAX_LIST_ROWS + 1, 2), np.float32), "m", None, None)
    assert (few.encoding, many.encoding) == ("lists", "base64")
    assert np.asarray(many.raw_features()).shape == (MAX_LIST_ROWS + 1, 2)


@pytest.mark.parametrize(
    "features",
    [
        {"dtype": "<f8", "shape": [1, 1], "data": "AAAAAAAAAAA="},
        {"dtype": "<f4", "shape": [10**9, 10**9], "data": ""},
        {"dtype": "<f4", "shape": [-1, 1], "data": ""},
        {"dtype": "<f4", "shape": [1, 1, 1, 1, 1], "data": "AAAAAA=="},
        {"dtype": "<f4", "shape": [True, 1], "data": "AAAAAA=="},
        {"dtype": "<f4", "shape": [1, 1], "data": "AAAA\nAA=="},
        {"dtype": "<f4", "shape": [1, 1], "data": 7},
        {"dtype": "|O", "shape": [1, 1], "data": "AAAAAA=="},
        {"dtype": "<f4", "shape": [1, 1], "data": "AAAAAA==", "more": 1},
        {},
    ],
    ids=lambda value: str(value)[:50],
)
def test_hostile_base64_is_refused(features: dict[str, Any]) -> None:
    with pytest.raises(InvalidFeatures, match=r"expected|needs"):
        PredictRequest.read({"features": features}).raw_features()


@pytest.mark.parametrize(
    ("kwargs", "member"),
    [
        ({}, "features"),
        ({"features": "text"}, "features"),
        ({"features": [[1]], "schema": 2}, "schema"),
        ({"features": [[1]], "model": "../x"}, "model"),
        ({"features": [[1]], "model": 3}, "model"),
        ({"features": [[1]], "seed": -1}, "seed"),
        ({"features": [[1]], "seed": 2**63}, "seed"),
        ({"features": [[1]], "seed": True}, "seed"),
        ({"features": [[1]], "seed": 1.5}, "seed"),
        ({"features": [[1]], "target_dim": 0}, "target_dim"),
        ({"features": [[1]], "surprise": 1}, "surprise"),
    ],
)
def test_a_wrong_request_names_its_member(kwargs: dict[str, Any], member: str) -> None:
    with pytest.raises(InvalidMessage, match=member):
        PredictRequest.read(kwargs)


VALUES = st.recursive(st.none() | st.integers() | st.text(), st.lists, max_leaves=5)


@given(st.dictionaries(st.text(max_size=8), VALUES))
def test_no_request_escapes_as_another_error(kwargs: dict[str, Any]) -> None:
    with contextlib.suppress(InvalidMessage, InvalidFeatures):
        PredictRequest.read(kwargs).raw_features()


@pytest.mark.parametrize(
    "spoil", [{"schema": 9}, {"lower": [[1], [2, 3]]}, {"failed": None}, {"model": {}}, {"seed": "x"}]
)
def test_an_unreadable_result_is_refused(spoil: dict[str, Any]) -> None:
    with pytest.raises(InvalidMessage):
        IntervalPrediction.from_message({**make_prediction().to_message(), **spoil})


def test_digest_tells_requests_apart() -> None:
    features = np.ones((1, 2), np.float32)
    request = PredictRequest.of(features, "m", None, None)
    assert PredictRequest.read(json.loads(request.to_json())).digest() == request.digest()
    others = [PredictRequest.of(features, "m", 1, None), PredictRequest.of(features * 2, "m", None, None)]
    assert len({request.digest(), *(other.digest() for other in others)}) == 3


@given(
    st.from_regex(r"\A[a-z0-9-]{1,40}\Z"),
    st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=9),
)
def test_a_template_writes_what_celery_message_writes(job_id: str, row: list[float]) -> None:
    kwargs = {"features": [row], "seed": None}
    shown = "{'model': \"m\", 'features': '1 x 1 numbers'}"
    written = template("uqueue.predict", "predictions", shown).message(job_id, json.dumps(kwargs))
    expected = celery_message(
        job_id, "uqueue.predict", kwargs, queue="predictions", argsrepr=shown, delivery_tag=job_id
    )
    found, wanted = json.loads(written), json.loads(expected)
    assert json.loads(found.pop("body")) == json.loads(wanted.pop("body"))
    assert found == wanted


def test_the_envelope_is_what_celery_reads() -> None:
    text = celery_message("id-1", "uqueue.predict", {"features": [[1.0]]}, queue="predictions", argsrepr="hidden")
    envelope = json.loads(text)
    golden = json.loads((GOLDEN / "envelope.json").read_text())
    body = json.loads(envelope["body"])
    assert body[:2] == [[], {"features": [[1.0]]}]
    assert set(envelope) == set(golden)
    for part in ("headers", "properties"):
        assert set(envelope[part]) == set(golden[part])
    assert envelope["headers"]["kwargsrepr"] == "hidden"
