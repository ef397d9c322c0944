"""Who asks: every way of saying so, tokens that lapse, and secrets that stay secret."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from builders.classifier_samples import ensemble, samples
from builders.fake_time import FakeTime
from builders.model_endpoint import ModelEndpoint, Twist, model_endpoint
from uqueue_worker.learning.credentials import required
from uqueue_worker.learning.errors import ActiveLearningError, EndpointAuth, EndpointContract, EndpointUnavailable
from uqueue_worker.learning.models.local import LocalModelInterface
from uqueue_worker.learning.models.rest import (
    ApiBasedModelInterface,
    ApiKey,
    Auth,
    Basic,
    Bearer,
    ClientCredentials,
    Endpoint,
)

LOCAL = LocalModelInterface.of(ensemble())
DATA = samples(40)


@pytest.fixture(scope="module")
def running() -> Iterator[ModelEndpoint]:
    with model_endpoint(LOCAL, "native") as server:
        yield server


@pytest.fixture
def server(running: ModelEndpoint) -> ModelEndpoint:
    running.secured, running.token, running.token_lives_seconds = "oauth2", "token-1", 3600
    for one in (running.asked, running.tokens, running.twists):
        one.clear()
    return running


def api(server: ModelEndpoint, auth: Auth, **about: Any) -> ApiBasedModelInterface:
    endpoint = Endpoint(base_url=server.url, model="airguard", **about)
    return ApiBasedModelInterface(endpoint, manifest=LOCAL.model().manifest, auth=auth, timing=FakeTime().timing)


def oauth2(server: ModelEndpoint, secret: str = "s3cret-id", **more: Any) -> ClientCredentials:
    return ClientCredentials(f"{server.url}/oauth/token", "client-1", secret, scope="predict", **more)


@pytest.mark.parametrize(
    ("secured", "good", "bad"),
    [
        ("bearer", Bearer("s3cret-token"), Bearer("wr0ng-token")),
        ("api_key", ApiKey("s3cret-key"), ApiKey("wr0ng-key")),
        ("basic", Basic("user", "s3cret-pass"), Basic("user", "wr0ng-pass")),
    ],
)
def test_fixed_credentials(server: ModelEndpoint, secured: str, good: Auth, bad: Auth) -> None:
    server.secured = secured
    assert len(api(server, good).predict(DATA, None)) == 40
    asked = len(server.asked)
    with pytest.raises(EndpointAuth, match=r"status 401: unauthenticated: not with .*\*{10}") as raised:
        api(server, bad).predict(DATA, None)  # the server echoes what it was told
    assert "wr0ng" not in str(raised.value)
    assert len(server.asked) == asked + 1


def test_a_secret_is_read_when_it_is_used(server: ModelEndpoint, tmp_path: Path) -> None:
    server.secured = "bearer"
    file = tmp_path / "token"
    file.write_text("old\n")
    there = api(server, Bearer(required("MODEL_TOKEN", file=file)))
    with pytest.raises(EndpointAuth):
        there.predict(DATA, None)
    file.write_text("s3cret-token\n")
    assert len(there.predict(DATA, None)) == 40
    file.unlink()
    with pytest.raises(EndpointAuth, match="MODEL_TOKEN cannot be read"):
        there.predict(DATA, None)


def test_a_token_is_fetched_once_for_all_batches(server: ModelEndpoint) -> None:
    auth = oauth2(server)
    there = api(server, auth, batch_rows=5)
    there.predict(DATA, None)
    there.predict(DATA, None)
    assert (len(server.tokens), len(server.asked)) == (1, 16)


def test_a_token_is_fetched_anew_60_seconds_before_it_lapses(server: ModelEndpoint) -> None:
    time = FakeTime()
    there = api(server, oauth2(server, clock=time.clock))
    server.token_lives_seconds = 300
    for passed, fetched in ((0, 1), (239, 1), (1, 2), (239, 2), (1, 3)):
        time.now += passed
        there.predict(DATA, None)
        assert len(server.tokens) == fetched


def test_a_token_that_is_refused_is_fetched_anew_once(server: ModelEndpoint) -> None:
    there = api(server, oauth2(server), batch_rows=5)
    there.predict(DATA, None)
    server.token = "token-2"  # the server forgot the first one
    there.predict(DATA, None)
    assert len(server.tokens) == 2
    server.secured = "bearer"  # … and now it wants something else
    n_asked, n_tokens = len(server.asked), len(server.tokens)
    with pytest.raises(EndpointAuth, match="status 401"):
        api(server, oauth2(server)).predict(DATA, None)
    assert (len(server.asked), len(server.tokens)) == (n_asked + 2, n_tokens + 2)


def test_a_token_endpoint_that_refuses(server: ModelEndpoint) -> None:
    with pytest.raises(EndpointAuth, match="oauth/token"):
        api(server, oauth2(server, "wr0ng-id")).predict(DATA, None)
    assert server.asked == []


def test_a_token_endpoint_that_answers_nonsense(server: ModelEndpoint) -> None:
    auth = oauth2(server)
    server.token = ""
    with pytest.raises(EndpointContract, match="access_token"):
        api(server, auth).predict(DATA, None)


@pytest.mark.parametrize("url", ["http://10.0.0.1/token", "http://login.example/token", "https://a:b@login.example"])
def test_tokens_are_not_fetched_over_plain_http(url: str) -> None:
    with pytest.raises(ValueError, match=r"expected https|no user or password"):
        ClientCredentials(url, "client-1", "s3cret-id")


@pytest.mark.parametrize("secret", ["two\r\nlines", "naïve", "tab\t"])
def test_a_secret_that_no_header_can_carry(server: ModelEndpoint, secret: str) -> None:
    for auth in (Bearer(secret), ApiKey(secret)):
        with pytest.raises(EndpointAuth, match="characters that a header cannot carry") as raised:
            api(server, auth).predict(DATA, None)
        assert secret not in everything(raised.value)
    assert server.asked == []


@pytest.mark.parametrize("status", [0, 302, 400, 401, 403, 500, 503])
@pytest.mark.parametrize("kind", ["bearer", "api_key", "basic", "oauth2"])
def test_secrets_are_in_no_error_and_no_line(
    server: ModelEndpoint, kind: str, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    made: dict[str, Auth] = {
        "bearer": Bearer("s3cret-token"),
        "api_key": ApiKey("s3cret-key"),
        "basic": Basic("user", "s3cret-pass"),
        "oauth2": oauth2(server),
    }
    server.secured, auth = kind, made[kind]
    echo = b'{"error": {"message": "Bearer s3cret-token, s3cret-key, dXNlcjpzM2NyZXQtcGFzcw==, s3cret-pass, token-1"}}'
    server.twists = [Twist(drop=True) if status == 0 else Twist(status=status, body=echo)] * 9
    with structlog.testing.capture_logs() as lines, pytest.raises(ActiveLearningError) as raised:
        api(server, auth, retries=1).get_model_performance_feedback(DATA, None)
    told = everything(raised.value) + repr(lines) + capsys.readouterr().out + repr(auth)
    hidden = {"bearer": ["s3cret-token"], "api_key": ["s3cret-key"], "oauth2": ["token-1", "s3cret-id"]}
    for secret in hidden.get(kind, ["s3cret-pass", "dXNlcjpzM2NyZXQtcGFzcw=="]):
        assert secret not in told
    assert "endpoint_failed" in repr(lines)
    if status == 0:
        assert isinstance(raised.value, EndpointUnavailable)


def everything(error: BaseException) -> str:
    """Return all that the error says: message, facts, causes, traceback."""
    facts = repr(getattr(error, "facts", "")) + repr(error)
    return facts + "".join(traceback.format_exception(error))
