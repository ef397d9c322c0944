"""OpenAPI: the problems that operations answer with, and the document itself."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from uqueue.gateway.problems import MEDIA_TYPE
from uqueue.gateway.schemas import ProblemOut

#: What every operation may answer; 401 and 403 only where keys are wanted.
ALWAYS = (401, 403, 421, 422, 429, 500, 503)
BODY = (400, 408, 413)
_RETRY = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}


def responses(*statuses: int, **described: dict[str, Any]) -> dict[int | str, dict[str, Any]]:
    """Return what an operation documents: these problems and those that every one has. `described` are more, `s202`."""
    found: dict[int | str, dict[str, Any]] = {
        status: _problem(status) for status in sorted({*statuses, *ALWAYS}) if f"s{status}" not in described
    }
    return found | {int(name[1:]): value for name, value in described.items()}


def _problem(status: int) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "description": HTTPStatus(status).phrase,
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemOut"}}},
    }
    return shown | ({"headers": _RETRY} if status in (429, 503) else {})


def document(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document, made once."""
    if app.openapi_schema is None:
        made = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes, tags=app.openapi_tags
        )
        schemas = made.setdefault("components", {}).setdefault("schemas", {})
        schemas["ProblemOut"] = ProblemOut.model_json_schema()
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        app.openapi_schema = made
    return app.openapi_schema
