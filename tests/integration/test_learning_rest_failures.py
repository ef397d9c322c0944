"""Endpoints that are slow, broken, down or hostile: the stated error, the stated number of requests, nothing else."""

from __future__ import annotations

import gzip
import ssl
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
import trustme

from builders.classifier_samples import ensemble, samples
from builders.fake_time import FakeTime
from builders.model_endpoint import ModelEndpoint, Twist, model_endpoint
from uqueue_worker.learning.errors import (
    ActiveLearningError,
    CircuitOpen,
    EndpointAuth,
    EndpointContract,
    EndpointTimeout,
    EndpointUnavailable,
    FeatureMismatch,
)
from uqueue_worker.learning.models.local import LocalModelInterface
from uqueue_worker.learning.models.rest import ApiBasedModelInterface, Endpoint
from uqueue_worker.learning.observability.metrics import metrics

LOCAL = LocalModelInterface.of(ensemble())
MANIFEST = LOCAL.model().manifest
DATA = samples(40)


@pytest.fixture(scope="module")
def running() -> Iterator[ModelEndpoint]:
    with model_endpoint(LOCAL, "native") as server:
        yield server


@pytest.fixture
def server(running: ModelEndpoint) -> ModelEndpoint:
    running.asked.clear()
    running.twists.clear()
    return running


@pytest.fixture
def time() -> FakeTime:
    return FakeTime()


def api(server: ModelEndpoint, time: FakeTime, **about: Any) -> ApiBasedModelInterface:
    endpoint = Endpoint(base_url=server.url, model="airguard", dialect=server.dialect, **about)
    return ApiBasedModelInterface(endpoint, manifest=MANIFEST, timing=time.timing)


def changed(**members: Any) -> Callable[[Any], Any]:
    return lambda answer: {**answer, **members}


def row(*shares: float) -> Callable[[Any], Any]:
    """Put these probabilities into the first row."""
    return lambda answer: {**answer, "probabilities": [list(shares), *answer["probabilities"][1:]]}


def shortened(name: str) -> Callable[[Any], Any]:
    return lambda answer: {**answer, name: answer[name][:-1]}


@pytest.mark.parametrize(
    ("twist", "error", "complaint"),
    [
        (Twist(body=b"{not json"), EndpointContract, "no JSON"),
        (Twist(body=b""), EndpointContract, "expected an object"),
        (Twist(body=b"\xff\xfe"), EndpointContract, "no JSON"),
        (Twist(body=b"[" * 100_000), EndpointContract, "no JSON"),
        (Twist(body=b'{"probabilities": [[NaN]]}'), EndpointContract, "NaN"),
        (Twist(body=b"[]"), EndpointContract, "expected an object"),
        (Twist(body=b" " * 400_000), EndpointContract, "more than the 300000 bytes"),
        (Twist(headers={"Content-Encoding": "gzip"}, body=gzip.compress(b"{}")), EndpointContract, "compressed"),
        (Twist(change=row(float("inf"), 0, 0, 0)), EndpointContract, "no JSON, or JSON with NaN"),
        (Twist(body=b'{"predictions": 1e999}'), EndpointContract, "another request"),
        (Twist(change=shortened("probabilities")), EndpointContract, "expected probabilities"),
        (Twist(change=shortened("predictions")), EndpointContract, "expected 40 labels"),
        (Twist(change=row(0.5, 0.5)), EndpointContract, "unequal lengths"),
        (Twist(change=row(True, False, "0", None)), EndpointContract, "finite numbers only"),  # type: ignore[arg-type]
        (Twist(change=row(1.5, -0.5, 0, 0)), EndpointContract, "beyond"),
        (Twist(change=row(0.5, 0.4, 0.05, 0)), EndpointContract, "sum to 0.95"),
        (Twist(change=changed(classes=["A", "A", "B", "C"])), EndpointContract, "each once"),
        (Twist(change=changed(classes=["A", "B", "C", "D"])), EndpointContract, "none of its classes"),
        (Twist(change=changed(classes=[])), EndpointContract, "classes"),
        (Twist(change=changed(model_version=None)), EndpointContract, "model_version"),
        (Twist(change=changed(model_version=True)), EndpointContract, "model_version"),
        (Twist(change=changed(model_name="other")), EndpointContract, "of another model"),
        (Twist(change=changed(request_id="other")), EndpointContract, "another request"),
        (Twist(change=changed(uncertainty={"total": [2.0] * 40})), EndpointContract, "within"),
        (Twist(change=changed(uncertainty={"total": [0.1]})), EndpointContract, "expected 40 values"),
        (Twist(change=changed(uncertainty=[1])), EndpointContract, "uncertainty: expected an object"),
        (Twist(status=302, headers={"Location": "/elsewhere"}), EndpointContract, "redirects are not followed"),
        (Twist(status=400), EndpointContract, "status 400"),
        (Twist(status=422, body=b'{"error": {"code": "x", "message": "a\\u0007\\nb"}}'), EndpointContract, "x: a b"),
        (Twist(status=401), EndpointAuth, "status 401"),
        (Twist(status=403), EndpointAuth, "status 403"),
        (Twist(status=500), EndpointUnavailable, "status 500"),
        (Twist(status=204, body=b""), EndpointContract, "status 204"),
    ],
)
def test_it_is_asked_once(server: ModelEndpoint, time: FakeTime, twist: Twist, error: type, complaint: str) -> None:
    server.twists = [twist]
    with pytest.raises(error, match=complaint) as raised:
        api(server, time, response_bytes=300_000).get_model_performance_feedback(DATA, None)
    assert (len(server.asked), time.slept) == (1, [])
    assert raised.value.url.startswith(server.url)


def test_probabilities_that_nearly_sum_to_one_are_scaled(server: ModelEndpoint, time: FakeTime) -> None:
    server.twists = [Twist(change=row(0.505, 0.5, 0, 0))]
    found = api(server, time).get_model_performance_feedback(DATA, None)
    assert any(warning.startswith("the probabilities of 1 rows did not sum to 1") for warning in found.warnings)


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_what_may_pass_is_asked_again(server: ModelEndpoint, time: FakeTime, status: int) -> None:
    counter = metrics().retries.labels(api(server, time).breaker.target, f"status_{status}")
    before = counter._value.get()
    server.twists = [Twist(status=status)] * 3
    assert len(api(server, time).predict(DATA, None)) == 40
    assert counter._value.get() == before + 3
    assert len(server.asked) == 4
    assert len({one.headers["idempotency-key"] for one in server.asked}) == 1
    for seconds, longest in zip(time.slept, (0.5, 1.0, 2.0), strict=True):
        assert 0 <= seconds <= longest


def test_connections_that_break_are_made_again(server: ModelEndpoint, time: FakeTime) -> None:
    server.twists = [Twist(drop=True)] * 2
    assert len(api(server, time).predict(DATA, None)) == 40
    assert (len(server.asked), len(time.slept)) == (3, 2)


def test_after_three_more_tries_it_is_given_up(server: ModelEndpoint, time: FakeTime) -> None:
    server.twists = [Twist(status=503, body=b'{"error": {"message": "loading"}}')] * 9
    with pytest.raises(EndpointUnavailable, match="status 503: loading"):
        api(server, time).predict(DATA, None)
    assert (len(server.asked), len(time.slept)) == (4, 3)


def test_no_delay_is_longer_than_the_cap(server: ModelEndpoint, time: FakeTime) -> None:
    server.twists = [Twist(status=503)] * 9
    api(server, time, retries=9, backoff_seconds=0.5, longest_backoff_seconds=0.8).predict(DATA, None)
    assert max(time.slept) <= 0.8
    assert max(time.slept[1:]) > 0.5


def test_retry_after_is_obeyed(server: ModelEndpoint, time: FakeTime) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    server.twists = [Twist(status=429, headers={"Retry-After": after}) for after in ("20", date, "soon")]
    api(server, time).predict(DATA, None)
    assert time.slept[0] == 20
    assert 60 < time.slept[1] <= 90
    assert time.slept[2] <= 2


def test_waiting_longer_than_the_deadline_makes_no_sense(server: ModelEndpoint, time: FakeTime) -> None:
    server.twists = [Twist(status=503, headers={"Retry-After": "601"})]
    with pytest.raises(EndpointUnavailable, match="503"):
        api(server, time).predict(DATA, None)
    assert time.slept == []


@pytest.mark.parametrize("twist", [Twist(wait_seconds=0.5), Twist(drip_seconds=0.01)])
def test_an_answer_that_takes_too_long(server: ModelEndpoint, time: FakeTime, twist: Twist) -> None:
    server.twists = [twist, twist]
    with pytest.raises(EndpointTimeout, match=r"within 0.2 s"):
        api(server, time, read_seconds=0.2, connect_seconds=0.1, retries=1).predict(DATA, None)
    assert len(server.asked) == 2


def test_the_whole_has_a_deadline(server: ModelEndpoint, time: FakeTime) -> None:
    server.twists = [Twist(wait_seconds=0.4)] * 40
    there = api(server, time, deadline_seconds=0.3, batch_rows=1)
    with pytest.raises(EndpointTimeout, match=r"within 0.3 s"):
        there.get_model_performance_feedback(DATA, None)
    assert len(server.asked) <= 4


def test_nobody_listens(time: FakeTime) -> None:
    with model_endpoint(LOCAL, "native") as gone:
        pass
    with pytest.raises(EndpointUnavailable, match="no connection"):
        api(gone, time).predict(DATA, None)
    assert len(time.slept) == 3


def test_the_breaker_spares_an_endpoint_that_is_down(server: ModelEndpoint, time: FakeTime) -> None:
    there = api(server, time, retries=0, batch_rows=10, concurrency=1)
    server.twists = [Twist(status=503)] * 5
    for _ in range(5):
        with pytest.raises(EndpointUnavailable):
            there.predict(DATA, None)
    with pytest.raises(CircuitOpen, match=r"not asked for another 30\.0 s"):
        there.predict(DATA, None)
    assert (len(server.asked), there.breaker.state) == (5, "open")
    assert there.health() == {
        "status": "failing",
        "error_code": "circuit_open",
        "reason": f"{there.breaker.target} failed too often and is not asked for another 30.0 s.",
        "model": "airguard",
        "url": server.url,
        "breaker": "open",
    }
    time.now += 31
    server.asked.clear()
    together = api(server, time, batch_rows=10)
    together.breaker = there.breaker
    assert len(together.predict(DATA, None)) == 40  # batches go one by one until the breaker has closed
    assert (len(server.asked), there.breaker.state) == (4, "closed")


def test_answers_that_break_the_contract_do_not_open_the_breaker(server: ModelEndpoint, time: FakeTime) -> None:
    there = api(server, time)
    server.twists = [Twist(status=400), Twist(body=b"{")] * 4
    for _ in range(8):
        with pytest.raises(EndpointContract):
            there.predict(DATA, None)
    assert there.breaker.state == "closed"


def test_deadlines_that_pass_open_the_breaker(server: ModelEndpoint, time: FakeTime) -> None:
    there = api(server, time, deadline_seconds=0.05)
    server.twists = [Twist(wait_seconds=0.2)] * 5
    for _ in range(5):
        with pytest.raises(EndpointTimeout):
            there.predict(DATA, None)
    assert there.breaker.state == "open"


def test_values_that_cannot_be_sent(server: ModelEndpoint, time: FakeTime) -> None:
    there = api(server, time)
    features = tuple(one.model_copy(update={"impute": float("nan")}) for one in MANIFEST.feature_spec)
    there._manifest = MANIFEST.model_copy(update={"feature_spec": features})
    with pytest.raises(FeatureMismatch, match="NaN"):
        there.predict(DATA, None)
    assert server.asked == []


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def test_certificates(authority: trustme.CA, time: FakeTime, tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    own = authority.issue_cert("client@example.org")
    own.cert_chain_pems[0].write_to_path(tmp_path / "client.pem")
    own.private_key_pem.write_to_path(tmp_path / "client.key")
    paths = {"client_certificate": tmp_path / "client.pem", "client_key": tmp_path / "client.key"}
    with model_endpoint(LOCAL, "native", context=context) as server:
        assert server.url.startswith("https://")
        assert len(api(server, time, ca_file=tmp_path / "ca.pem", **paths).predict(DATA, None)) == 40
        with pytest.raises(EndpointContract, match="certificate is not accepted"):
            api(server, time, **paths).predict(DATA, None)
        assert time.slept == []
        with pytest.raises(EndpointUnavailable):  # the server ends the connection of whoever shows no certificate
            api(server, time, ca_file=tmp_path / "ca.pem").predict(DATA, None)
        with pytest.raises(EndpointContract, match="certificate files cannot be used"):
            api(server, time, ca_file=tmp_path / "absent.pem").predict(DATA, None)
        assert len(server.asked) == 1


def test_all_errors_are_of_the_tree(server: ModelEndpoint, time: FakeTime) -> None:
    server.twists = [Twist(status=code) for code in (400, 401, 404, 500)]
    for expected in ("endpoint_contract", "endpoint_auth", "model_not_found", "endpoint_unavailable"):
        with pytest.raises(ActiveLearningError) as raised:
            api(server, time).predict(DATA, None)
        assert raised.value.code == expected
