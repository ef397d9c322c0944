"""The one operation that is asked for thousands of times a second reads its request by itself.

FastAPI finds the arguments of an endpoint with dozens of calls, which takes longer than everything else a small job
needs. Its signature still documents the operation, and a test holds both ways of reading against each other.
"""

from __future__ import annotations

import email.message
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, cast

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import ValidationError
from pydantic_core import from_json
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from uqueue.gateway import jobs
from uqueue.gateway.schemas import JobRequest
from uqueue.gateway.state import Gateway, needs, require


def add_submit(app: FastAPI, dependencies: Sequence[Any]) -> None:
    """Add POST /v1/jobs, before all other routes. `dependencies` only document what the middleware checks."""
    app.router.add_api_route(
        "/v1/jobs",
        jobs.submit,
        methods=["POST"],
        status_code=202,
        tags=["jobs"],
        dependencies=[*dependencies, needs("submit")],
        responses=jobs.SUBMIT_RESPONSES,
        route_class_override=SubmitRoute,
    )


class SubmitRoute(APIRoute):
    """POST /v1/jobs."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.app = _submit


async def _submit(scope: Scope, receive: Receive, send: Send) -> None:
    request = Request(scope, receive, send)
    caller = scope["state"]["caller"]
    require("submit", caller)
    headers = request.headers
    response = await jobs.submit(
        await _job_request(request),
        request,
        cast(Gateway, scope["app"].state.gateway),
        caller,
        headers.get("prefer"),
        headers.get("idempotency-key"),
        _encoding(request),
    )
    await response(scope, receive, send)


async def _job_request(request: Request) -> JobRequest:
    """Return the checked body. Raises RequestValidationError as FastAPI does."""
    data: Any = await request.body()
    if _is_json(request.headers.get("content-type", "")) and data:
        try:
            data = from_json(data)
        except ValueError as error:
            problem = {"type": "json_invalid", "loc": ("body",), "msg": f"it is not JSON ({error})"}
            raise RequestValidationError([problem]) from None
    elif not data:
        raise RequestValidationError([{"type": "missing", "loc": ("body",), "msg": "Field required"}])
    try:
        return JobRequest.model_validate(data)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False, include_context=False)
        raise RequestValidationError([{**one, "loc": ("body", *one["loc"])} for one in found]) from None


@lru_cache(maxsize=64)
def _is_json(content_type: str) -> bool:
    """Whether a body says that it is JSON; what a web page can send unasked, as a form or as text, does not."""
    message = email.message.Message()
    message["content-type"] = content_type or "application/octet-stream"
    subtype = message.get_content_subtype()
    return message.get_content_maintype() == "application" and (subtype == "json" or subtype.endswith("+json"))


def _encoding(request: Request) -> Any:
    if not request.scope["query_string"]:
        return "lists"
    asked = request.query_params.get("encoding", "lists")
    if asked not in ("lists", "base64"):
        problem = {"type": "literal_error", "loc": ("query", "encoding"), "msg": "Input should be 'lists' or 'base64'"}
        raise RequestValidationError([problem])
    return asked
