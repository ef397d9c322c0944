"""Errors become problem+json, whatever they are, and tell strangers nothing."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator

import httpx
import pytest
from fastapi import FastAPI

from uqueue.gateway import logs, problems
from uqueue.gateway.app import create_app
from uqueue_config.errors import (
    InternalError,
    QueueFull,
    ServiceUnreachable,
    UnknownModel,
    UqueueError,
    all_errors,
)
from uqueue_config.settings import Settings


@pytest.fixture
def app() -> FastAPI:
    return create_app(Settings())


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.INFO, logs.NAME):
        yield caplog


def ask(app: FastAPI, method: str, path: str, **options: object) -> httpx.Response:
    async def asked() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
            return await http.request(method, path, **options)  # type: ignore[arg-type]

    return asyncio.run(asked())


@pytest.mark.parametrize("error", list(all_errors()), ids=lambda error: error.code)
def test_every_error_has_a_status(error: type[UqueueError]) -> None:
    answer = problems.of_error(error("It went wrong."), "/v1/jobs")
    assert 400 <= answer.status_code <= 504
    assert json.loads(bytes(answer.body))["code"] == error.code
    assert ("retry-after" in answer.headers) == (answer.status_code == 503)


def test_where_the_store_is_stays_in_the_house() -> None:
    error = ServiceUnreachable(service="Redis", url="redis://secret.example:6379/0", reason="connection refused")
    answer = problems.of_error(error, "/v1/jobs")
    assert answer.status_code == 503
    assert b"secret.example" not in bytes(answer.body)


def test_a_full_queue_says_when_to_come_back() -> None:
    error = QueueFull(queue="predictions", limit=5, accepted=0, asked=1, retry_after_seconds=20)
    assert problems.of_error(error, "").headers["retry-after"] == "20"


def test_an_unknown_model_is_not_an_unknown_job() -> None:
    error = UnknownModel(model="x", served="y")
    assert problems.status_of(error) == 404
    assert problems.status_of(error, of_job=True) == 422


def test_a_workers_reference_is_handed_on() -> None:
    answer = problems.of_error(InternalError(reference="abc123"), "", of_job=True)
    assert (answer.status_code, json.loads(bytes(answer.body))["reference"]) == (502, "abc123")


def test_errors_below_v2_are_as_its_clients_read_them() -> None:
    body = json.loads(bytes(problems.of_error(UnknownModel(model="x", served="y"), "/v2/models/x").body))
    assert body["error"] == body["detail"]


@pytest.mark.parametrize(
    ("method", "path", "content", "status"),
    [
        ("GET", "/nowhere", b"", 404),
        ("GET", "/v1/jobs/", b"", 404),
        ("PATCH", "/v1/jobs", b"", 405),
        ("POST", "/v1/jobs", b"", 422),
        ("POST", "/v1/jobs", b"{", 422),
        ("POST", "/v1/jobs", b"[]", 422),
        ("POST", "/v1/jobs", b"\xff\xfe", 422),
        ("POST", "/v1/jobs", b"[" * 100_000, 422),
        ("POST", "/v1/jobs", b'{"features": ' + b"9" * 5000 + b"}", 422),
        ("POST", "/v1/jobs", b'{"features": [[NaN]]}', 422),
        ("POST", "/v1/jobs", b'{"features": [[1]], "sticky_key": "\\ud800"}', 422),
        ("POST", "/v1/jobs", b'{"features": [[1]], "seed": "1"}', 422),
        ("POST", "/v1/jobs", b'{"features": [[1]], "expires": -1}', 422),
        ("POST", "/v1/jobs", b'{"features": {"dtype": "<f4", "shape": [9, 9], "data": ""}}', 422),
        ("GET", "/v1/jobs/" + "x" * 300, b"", 422),
    ],
)
def test_frameworks_own_errors_are_problems(app: FastAPI, method: str, path: str, content: bytes, status: int) -> None:
    answer = ask(app, method, path, content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == status
    assert answer.json()["detail"].endswith(".")


def test_what_nobody_foresaw_is_a_problem_with_a_reference(app: FastAPI, log: pytest.LogCaptureFixture) -> None:
    @app.get("/broken")
    async def broken() -> None:
        raise RuntimeError("the secret of the house")

    answer = ask(app, "GET", "/broken", headers={"X-Request-Id": "seven"})
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.json()["code"], answer.json()["reference"]) == ("internal", "seven")
    assert "secret" not in answer.text
    (record,) = [one for one in log.records if one.getMessage() == "unforeseen"]
    line = json.loads(logs.JsonLines().format(record))
    assert line["request_id"] == "seven"
    assert "the secret of the house" in line["exception"]


def test_more_requests_than_allowed_are_sent_away_and_health_is_not(app: FastAPI) -> None:
    app.state.gateway.active = app.state.gateway.settings.gateway_max_requests
    answer = ask(app, "GET", "/v1/models")
    assert (answer.status_code, answer.json()["code"], answer.headers["retry-after"]) == (503, "overloaded", "1")
    assert ask(app, "GET", "/health").status_code == 200


def test_plain_lines_are_for_people() -> None:
    record = logging.LogRecord(logs.NAME, logging.INFO, "", 0, "request", (), None)
    record.facts = {"status": 200, "path": "/health"}
    assert logs.PlainLines().format(record) == "info    request status=200 path=/health"
