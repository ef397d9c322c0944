"""The hand-written reading of POST /v1/jobs against FastAPI's own, which documents it."""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from uqueue.gateway import direct, jobs
from uqueue.gateway.app import create_app
from uqueue.gateway.keys import NewKey, append_key
from uqueue_config.settings import Settings

JSON = "application/json"
GOOD = {"features": [[1.0, 2.0]]}
OF_EACH_ANSWER = {"timestamp", "request_id", "errors", "detail", "message"}


@dataclass
class Caller:
    """Asks an application without a server."""

    app: ASGIApp
    key: str

    def post(self, path: str, content: bytes, headers: dict[str, str]) -> httpx.Response:
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
                keyed = {"Authorization": f"Bearer {self.key}", **headers}
                return await client.post(path, content=content, headers=keyed)

        return asyncio.run(ask())


@pytest.fixture(scope="module")
def clients(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Caller]]:
    """The application with either way of reading; its answer is what was read."""

    @functools.wraps(jobs.submit)
    async def echo(
        body: Any, request: Request, gateway: Any, caller: Any, prefer: Any = None, idempotency_key: Any = None,
        encoding: Any = "lists",
    ) -> Response:  # fmt: skip
        read = body.model_dump(mode="json")
        return JSONResponse({"body": read, "caller": caller.name, "read": [prefer, idempotency_key, encoding]})

    keys = tmp_path_factory.mktemp("keys") / "keys.toml"
    made: dict[str, Caller] = {}
    settings = Settings.load({"UQUEUE_BROKER_URL": "redis://127.0.0.1:1/0", "UQUEUE_API_KEYS_FILE": str(keys)})
    secrets = {scope: NewKey.make(scope, [scope]) for scope in ("submit", "read")}
    for key in secrets.values():
        append_key(keys, key.entry)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jobs, "submit", echo)
        for name, route in (("direct", direct.SubmitRoute), ("fastapi", APIRoute)):
            patch.setattr(direct, "SubmitRoute", route)
            made[name] = Caller(create_app(settings), secrets["submit"].secret)
        made["reader"] = Caller(made["direct"].app, secrets["read"].secret)
        yield made


@pytest.mark.parametrize(
    ("data", "content_type"),
    [
        (GOOD, JSON),
        (GOOD, "application/json; charset=utf-8"),
        (GOOD, "application/vnd.robtrack+json"),
        (GOOD, "text/plain"),
        (GOOD, "application/x-www-form-urlencoded"),
        (GOOD, None),
        (b"", JSON),
        (b"", None),
        (b"{", JSON),
        (b"null", JSON),
        (b"[]", JSON),
        (b'{"features": [[NaN]]}', JSON),
        (
            {**GOOD, "model": "a", "seed": 7, "target_dim": 2, "expires": 60, "version": "@prod", "sticky_key": "k"},
            JSON,
        ),
        ({**GOOD, "expires": "2030-01-01T00:00:00Z"}, JSON),
        ({**GOOD, "expires": "2030-01-01T00:00:00"}, JSON),
        ({**GOOD, "expires": True}, JSON),
        ({**GOOD, "seed": "7"}, JSON),
        ({**GOOD, "seed": 1.0}, JSON),
        ({**GOOD, "seed": 2**64}, JSON),
        ({**GOOD, "model": "../x"}, JSON),
        ({**GOOD, "more": 1}, JSON),
        ({"model": "a"}, JSON),
        ({"features": {"dtype": "<f4", "shape": [1, 1], "data": "AACAPw=="}}, JSON),
    ],
)
def test_both_read_the_same_body(
    clients: dict[str, Caller], data: bytes | dict[str, Any], content_type: str | None
) -> None:
    assert_same(clients, "/v1/jobs", data, content_type)


@pytest.mark.parametrize("more", ["encoding=base64", "encoding=lists", "encoding=xml", "encoding=", "other=1"])
def test_both_read_the_same_query(clients: dict[str, Caller], more: str) -> None:
    assert_same(clients, f"/v1/jobs?{more}", GOOD, JSON)


def assert_same(clients: dict[str, Caller], path: str, data: bytes | dict[str, Any], content_type: str | None) -> None:
    content = data if isinstance(data, bytes) else json.dumps(data).encode()
    headers = {"Prefer": "wait=3", "Idempotency-Key": "k"} | ({"Content-Type": content_type} if content_type else {})
    found = []
    for name in ("direct", "fastapi"):
        answer = clients[name].post(path, content, headers)
        body = answer.json()
        pointers = {error["pointer"].split("/")[1] for error in body.get("errors", [])}
        plain = {member: value for member, value in body.items() if member not in OF_EACH_ANSWER}
        found.append((answer.status_code, plain, pointers if "body" not in pointers else {"body"}))
    assert found[0] == found[1]
    assert found[0][0] in (200, 202, 400, 422)


def test_a_key_that_may_only_read_is_refused(clients: dict[str, Caller]) -> None:
    answer = clients["reader"].post("/v1/jobs", json.dumps(GOOD).encode(), {"Content-Type": JSON})
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
