"""Parts of the REST interface without a server: addresses, what answers must be, what failures come to."""

from __future__ import annotations

import inspect
import ssl
from itertools import pairwise
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from uqueue_worker.learning.errors import EndpointContract, EndpointTimeout, EndpointUnavailable
from uqueue_worker.learning.interfaces import ModelInterface
from uqueue_worker.learning.models.predictions import Predictions
from uqueue_worker.learning.models.rest import ApiBasedModelInterface
from uqueue_worker.learning.models.rest.answers import Answer, Question, Unfit, answer_of, numbers, text_of
from uqueue_worker.learning.models.rest.checks import SeveralVersions, checked, one_version, predictions_of
from uqueue_worker.learning.models.rest.dialects.mlflow_scoring import MlflowScoring
from uqueue_worker.learning.models.rest.dialects.oip_v2 import OpenInference
from uqueue_worker.learning.models.rest.endpoint import Endpoint
from uqueue_worker.learning.models.rest.failures import of_exception, of_status, retry_after_seconds, said_by, scrubbed

CLASSES = ("A", "B")
ROWS = np.zeros((3, 2), dtype=np.float32)
QUESTION = Question(ROWS, ("x", "y"), CLASSES, "7", "id")


@pytest.mark.parametrize(
    "url",
    [
        "https://models.example",
        "https://models.example:8443/base/",
        "http://127.0.0.1:80",
        "http://[::1]:1/x",
        "http://localhost:8000",
    ],
)
def test_addresses_that_are_fine(url: str) -> None:
    assert Endpoint(base_url=url, model="m").base_url == url.rstrip("/")


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("http://models.example", "expected https"),
        ("http://10.0.0.1", "expected https"),
        ("http://127.0.0.1.evil.example", "expected https"),
        ("http://localhost.evil.example", "expected https"),
        ("http://0.0.0.0", "expected https"),
        ("http://2130706433", "expected https"),
        ("http://[::ffff:10.0.0.1]", "expected https"),
        ("ftp://models.example", "expected an address"),
        ("models.example", "expected an address"),
        ("https://", "expected an address"),
        ("https://models.example:99999", "expected an address"),
        ("https://a b", "expected an address"),
        ("https://models.example\n", "expected an address"),
        ("https://user:s3cret@models.example", "no user or password"),
        ("https://s3cret@models.example", "no user or password"),
        ("https://models.example?key=s3cret", r"without \? and #"),
        ("https://models.example#x", r"without \? and #"),
    ],
)
def test_addresses_that_are_refused(url: str, complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint) as raised:
        Endpoint(base_url=url, model="m")
    assert "s3cret" not in str(raised.value)


def test_plain_http_elsewhere_has_to_be_allowed() -> None:
    assert (
        Endpoint(base_url="http://models.internal", model="m", allow_insecure=True).target == "endpoint:models.internal"
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {"model": "../m"},
        {"version": "a/b"},
        {"batch_rows": 257},
        {"batch_bytes": 5 << 20},
        {"dialect": "grpc"},
        {"x": 1},
    ],
)
def test_settings_that_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Endpoint(**{"base_url": "https://models.example", "model": "m", **wrong})


def test_a_key_needs_its_certificate() -> None:
    with pytest.raises(ValidationError, match="client_certificate"):
        Endpoint(base_url="https://models.example", model="m", client_key="x.pem")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        ("12", 12.0),
        (" 0 ", 0.0),
        ("-1", None),
        ("soon", None),
        ("1e3", None),
        ("9" * 30, None),
        ("", None),
    ],
)
def test_retry_after(value: str | None, expected: float | None) -> None:
    assert retry_after_seconds(value) == expected


def test_retry_after_as_a_date() -> None:
    assert retry_after_seconds("Thu, 01 Jan 1970 00:01:40 GMT", now=40.0) == 60
    assert retry_after_seconds("Thu, 01 Jan 1970 00:01:40 GMT", now=400.0) == 0


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"error": {"code": "c", "message": "m", "retryable": true}}', "c: m"),
        (b'{"error": "text"}', "text"),
        (b'{"error_code": "BAD_REQUEST", "message": "m"}', "BAD_REQUEST: m"),
        (b'{"detail": "d", "error": "e"}', "e"),
        (b"<html>", ""),
        (b"[1]", ""),
        (b'{"error": {"message": ["x"]}}', ""),
        (b"[" * 100_000, ""),
    ],
)
def test_what_errors_say(body: bytes, expected: str) -> None:
    assert said_by(body) == expected


def test_what_is_told_is_one_short_line_without_secrets() -> None:
    assert scrubbed("a\x1b[31m\nb s3cret s3", ["s3", "s3cret", ""]) == "a [31m b ********** **********"
    assert len(scrubbed("x" * 1000, [])) == 201


@pytest.mark.parametrize(
    ("error", "kind", "again"),
    [
        (httpx.ConnectTimeout("x"), EndpointUnavailable, "connect"),
        (httpx.ConnectError("x"), EndpointUnavailable, "connect"),
        (httpx.ReadTimeout("x"), EndpointTimeout, "timeout"),
        (httpx.PoolTimeout("x"), EndpointTimeout, "timeout"),
        (TimeoutError(), EndpointTimeout, "timeout"),
        (httpx.ReadError("x"), EndpointUnavailable, "connect"),
        (httpx.RemoteProtocolError("x"), EndpointUnavailable, "connect"),
        (httpx.LocalProtocolError("s3cret"), EndpointContract, None),
        (httpx.InvalidURL("s3cret"), EndpointContract, None),
    ],
)
def test_what_exceptions_come_to(error: Exception, kind: type, again: str | None) -> None:
    found = of_exception(error, "https://models.example", 30.0)
    assert (type(found.error), found.again) == (kind, again)
    assert "s3cret" not in found.error.message


def test_a_certificate_that_is_not_accepted_is_not_asked_again() -> None:
    error = httpx.ConnectError("x")
    error.__cause__ = ssl.SSLCertVerificationError()
    error.__cause__.verify_message = "self-signed"
    found = of_exception(error, "https://models.example", 30.0)
    assert (found.again, "self-signed" in found.error.message) == (None, True)


def test_which_statuses_are_asked_again() -> None:
    found = {status: of_status(status, {}, b"", "https://models.example", []) for status in range(201, 600)}
    assert {status for status, failure in found.items() if failure.again is not None} == {429, 502, 503, 504}


@pytest.mark.parametrize(
    "value", [None, "x", [None], ["1"], [[1], [1, 2]], [True], float("nan"), [float("inf")], {}, [{}]]
)
def test_what_are_no_numbers(value: Any) -> None:
    with pytest.raises(Unfit):
        numbers(value, "x")


def deep(levels: int) -> Any:
    value: Any = 1.0
    for _ in range(levels):
        value = [value]
    return value


def test_nesting_has_an_end() -> None:
    for levels in (33, 100, 500):
        with pytest.raises(Unfit):
            answer_of(deep(levels), QUESTION, None)


def test_forms_of_predictions() -> None:
    assert answer_of([[0.5, 0.5]] * 3, QUESTION, None).shares is not None
    members = answer_of([[[0.5, 0.5]] * 4] * 3, QUESTION, "7").shares
    assert members is not None
    assert members.shape == (3, 4, 2)
    assert answer_of(["A", "B", "A"], QUESTION, None).labels == ("A", "B", "A")
    assert answer_of([0, 1, 0], QUESTION, None).labels == ("A", "B", "A")
    named = answer_of([{"B": 0.25, "A": 0.75}] * 3, QUESTION, None).shares
    assert named is not None
    assert named[0].tolist() == [0.75, 0.25]


@pytest.mark.parametrize(
    "value",
    [
        *(
            [],
            [[0.5, 0.5]],
            [[0.5, 0.5]] * 4,
            [[1.0]] * 3,
            ["A", "B"],
            ["A", "B", "C"],
            [0, 1, 2],
            [0, -1, 0],
            [0.5] * 3,
        ),
        *([{"A": 1.0}] * 3, [{"A": 1.0, "B": None}] * 3, deep(4), "AAA", {"A": 1}),
    ],
)
def test_what_are_no_predictions(value: Any) -> None:
    with pytest.raises(Unfit):
        answer_of(value, QUESTION, None)


def test_versions_are_texts() -> None:
    assert (text_of("a", "x"), text_of(7, "x"), text_of(None, "x")) == ("a", "7", None)
    for wrong in (True, "", 1.5, ["a"]):
        with pytest.raises(Unfit, match="x: expected a text"):
            text_of(wrong, "x")


def test_sums_up_to_a_hundredth_off_are_scaled() -> None:
    fine, told = checked(np.array([[0.5005, 0.5]]))
    assert (told, fine.tolist()) == ([], [[0.5005, 0.5]])
    scaled, told = checked(np.array([[0.505, 0.5], [0.5, 0.5]]))
    assert scaled.sum(axis=1) == pytest.approx([1, 1])
    assert told == ["the probabilities of 1 rows did not sum to 1 within 0.001 and were scaled"]
    with pytest.raises(Unfit, match=r"sum to 1\.02"):
        checked(np.array([[0.52, 0.5]]))
    rounded, told = checked(np.array([[1.0000005, -0.0000005]]))
    assert (rounded.tolist(), told) == ([[1.0, 0.0]], [])


def answers(*versions: str | None) -> list[Answer]:
    return [Answer(CLASSES, one, shares=np.array([[0.5, 0.5]])) for one in versions]


def test_one_version_over_all_batches() -> None:
    assert one_version(answers("7", "7")) == "7"
    assert one_version(answers(None)) is None
    for mixed in (("7", "8"), ("7", None)):
        with pytest.raises(SeveralVersions):
            one_version(answers(*mixed))


def test_answers_of_several_kinds_do_not_go_together() -> None:
    labels = Answer(CLASSES, "7", labels=("A",))
    with pytest.raises(Unfit, match="several kinds"):
        predictions_of([*answers("7"), labels], CLASSES, version="m@7", declared_method="ensemble:5")


def test_labels_that_contradict_the_probabilities_are_told_of() -> None:
    answer = Answer(CLASSES, "7", labels=("B",), shares=np.array([[0.9, 0.1]]))
    found, told = predictions_of([answer], CLASSES, version="m@7", declared_method="single_model")
    assert found.labels == ["A"]
    assert "the probabilities count" in told[0]


@given(st.integers(1, 6), st.integers(1, 4), st.integers(2, 5), st.integers(0, 1000), st.data())
def test_batches_put_together_are_the_whole(n: int, m: int, k: int, seed: int, data: st.DataObject) -> None:
    members = np.random.default_rng(seed).dirichlet(np.ones(k), size=(n, m))
    names = tuple(f"c{number}" for number in range(k))
    order = tuple(data.draw(st.permutations(names)))
    turned = members[..., [names.index(name) for name in order]]
    cuts = sorted({0, n, *data.draw(st.lists(st.integers(0, n), max_size=3))})
    parts = [Answer(order, "7", shares=turned[a:b]) for a, b in pairwise(cuts)]
    found, told = predictions_of(parts, names, version="m@7", declared_method=f"ensemble:{m}")
    method = "single_model" if m == 1 else f"ensemble:{m}"
    expected = Predictions.from_members(members, names, model_version="m@7", uncertainty_method=method)
    assert told == []
    assert (found.uncertainty_method, found.labels) == (method, expected.labels)
    for name in ("probabilities", "total", "epistemic", "disagreement"):
        one, other = getattr(found, name), getattr(expected, name)
        assert (one is None) == (other is None)
        assert one is None or np.allclose(one, other, atol=1e-12)


def dialect(cls: Any, **about: Any) -> Any:
    return cls(Endpoint(base_url="https://models.example", model="m", **about))


TENSOR = {"name": "probabilities", "shape": [3, 2], "datatype": "FP32", "data": [0.5] * 6}


@pytest.mark.parametrize(
    ("outputs", "complaint"),
    [
        (None, "a list of tensors"),
        ([], "different names"),
        ([TENSOR, TENSOR], "different names"),
        ([{**TENSOR, "name": "a"}, {**TENSOR, "name": "b"}], "members or probabilities"),
        ([{**TENSOR, "shape": [3, 3]}], "do not fit"),
        ([{**TENSOR, "shape": [-1, 2]}], "a shape"),
        ([{**TENSOR, "shape": "x"}], "a shape"),
        ([{**TENSOR, "datatype": "BOOL"}], "datatype"),
        ([{**TENSOR, "data": "AAAA"}], "finite numbers"),
        ([{**TENSOR, "datatype": "BYTES", "data": ["A"]}], "do not fit"),
        ([TENSOR, {**TENSOR, "name": "total", "shape": [1], "data": [0.1]}], "expected 3 uncertainties"),
    ],
)
def test_tensors_that_are_of_no_use(outputs: Any, complaint: str) -> None:
    with pytest.raises(Unfit, match=complaint):
        dialect(OpenInference, dialect="oip_v2").read({"model_name": "m", "outputs": outputs}, QUESTION)


def test_tensors_flat_nested_and_as_text() -> None:
    there = dialect(OpenInference, dialect="oip_v2")
    for data in ([0.5] * 6, [[0.5, 0.5]] * 3):
        found = there.read({"model_name": "m", "outputs": [{**TENSOR, "data": data}]}, QUESTION)
        assert (found.version, found.shares.shape) == ("7", (3, 2))
    labels = {"name": "label", "shape": [3], "datatype": "BYTES", "data": ["A", "B", "A"]}
    assert there.read({"model_name": "m", "outputs": [labels]}, QUESTION).labels == ("A", "B", "A")
    parts = [TENSOR, {**TENSOR, "name": "epistemic", "shape": [3], "data": [0.1, 0.2, 0.3]}]
    found = there.read({"model_name": "m", "outputs": parts}, QUESTION)
    assert found.uncertainty["epistemic"].tolist() == [0.1, 0.2, 0.3]


def test_outputs_of_mlflow_models() -> None:
    there, named = dialect(MlflowScoring, dialect="mlflow"), dialect(MlflowScoring, dialect="mlflow", output_name="b")
    two = {"predictions": {"a": [[0.5, 0.5]] * 3, "b": [[0.25, 0.75]] * 3}}
    assert named.read(two, QUESTION).shares[0].tolist() == [0.25, 0.75]
    with pytest.raises(Unfit, match="no output members or probabilities among a, b"):
        there.read(two, QUESTION)
    assert there.read({"predictions": {"x": [[0.5, 0.5]] * 3}}, QUESTION).shares is not None
    with pytest.raises(Unfit):
        there.read({"predictions": {}}, QUESTION)


def test_tensors_of_uqueues_own_gateway() -> None:
    names = {"name": "classes", "shape": [2], "datatype": "BYTES", "data": ["B", "A"]}
    absent = {"name": "epistemic", "shape": [3], "datatype": "FP64", "data": [None] * 3}
    said = {"model_name": "m", "outputs": [names, {**TENSOR, "data": [0.25, 0.75] * 3}, absent]}
    found = dialect(OpenInference, dialect="oip_v2").read(said, QUESTION)
    assert (found.classes, dict(found.uncertainty)) == (("B", "A"), {})
    predictions, _ = predictions_of([found], CLASSES, version="m@7", declared_method="ensemble:5")
    assert predictions.probabilities is not None
    assert (predictions.probabilities[0].tolist(), predictions.uncertainty_method) == ([0.75, 0.25], "single_model")


@pytest.mark.parametrize(
    "name", ["get_model_performance_feedback", "predict", "explain", "submit_feedback", "list_versions", "health"]
)
def test_the_interface_is_called_as_the_others(name: str) -> None:
    expected, found = (inspect.signature(getattr(one, name)) for one in (ModelInterface, ApiBasedModelInterface))
    assert [(p.name, p.kind, p.default) for p in found.parameters.values()] == [
        (p.name, p.kind, p.default) for p in expected.parameters.values()
    ]
