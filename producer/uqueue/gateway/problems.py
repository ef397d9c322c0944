"""Every error as RFC 9457 problem+json. The one place that knows which status an error has."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic_core import to_json
from starlette.exceptions import HTTPException

from uqueue_config.errors import (
    IdempotencyConflict,
    InferenceFailed,
    InputError,
    InvalidSamples,
    JobCancelled,
    JobExpired,
    JobFailed,
    JobNotFinished,
    JobNotFound,
    JobTimeLimit,
    LetterError,
    MalformedSamples,
    ModelError,
    ModelOutputInvalid,
    PayloadTooLarge,
    QueueFull,
    ResultExpired,
    ServiceUnreachable,
    StoreFull,
    UnknownModel,
    UqueueError,
    VersionNotServed,
)
from uqueue_config.learning import errors as learning

MEDIA_TYPE = "application/problem+json"
RETRY_SECONDS = 5
#: What of active learning is wrong with the request itself, and what is not there at the moment.
REFUSED = (
    learning.AnswerTooLarge,
    learning.DatasetFormat,
    learning.DatasetNotFound,
    learning.EmptyDataset,
    learning.FeatureMismatch,
    learning.MappingInvalid,
    learning.ModelNotFound,
    learning.ModelVersionNotFound,
    learning.RunConfigInvalid,
    learning.ScenarioInvalid,
    learning.ScenarioParameterError,
    learning.UnknownScenarioClass,
)
AWAY = (learning.CircuitOpen, learning.EndpointUnavailable, learning.RepositoryUnavailable)
#: The first that fits counts.
STATUS: tuple[tuple[type[UqueueError], int], ...] = (
    (JobNotFound, 404),
    (UnknownModel, 404),
    (LetterError, 404),
    (IdempotencyConflict, 409),
    (ResultExpired, 410),
    (JobExpired, 410),
    (JobCancelled, 410),
    (PayloadTooLarge, 413),
    (QueueFull, 503),
    (MalformedSamples, 422),
    (InvalidSamples, 400),
    (InputError, 422),
    (VersionNotServed, 422),
    (ServiceUnreachable, 503),
    (StoreFull, 503),
    (JobNotFinished, 504),
    (JobTimeLimit, 504),
    (InferenceFailed, 503),
    (ModelOutputInvalid, 500),
    (JobFailed, 502),
    (ModelError, 503),
    *((kind, 404) for kind in (learning.RunNotFound, learning.ScenarioNotFound, learning.SuggestionNotFound)),
    *((kind, 409) for kind in (learning.RunConflict, learning.ScenarioConflict)),
    *((kind, 422) for kind in REFUSED),
    *((kind, 504) for kind in (learning.AnswerLate, learning.EndpointTimeout, learning.QueueTimeout)),
    *((kind, 503) for kind in (learning.NoLearningWorker, learning.LearningBusy, *AWAY)),
    (UqueueError, 500),
)
#: Facts that say where a server is, or what a file is called, are for operators.
SHOWN_FACTS = frozenset({"job_id", "state", "limit", "retry_after_seconds", "reference", "attempts", "limit_seconds"})
#: The id of the request in work, for its problem.
REQUEST_ID: ContextVar[str | None] = ContextVar("uqueue_request_id", default=None)


class Problem(Exception):
    """A refusal by the gateway itself. `detail` is a sentence for people, `code` a word for programs.

    `members` are shown beside those that every problem has.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        headers: Mapping[str, str] | None = None,
        members: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail = status, code, detail
        self.headers, self.members = dict(headers or {}), dict(members or {})

    @property
    def error(self) -> str:
        return error_name(self.code)


def error_name(code: str) -> str:
    """Return the member `error` for a code: the same in CamelCase."""
    return "InternalError" if code == "internal" else code.title().replace("_", "")


def response(
    status: int,
    code: str,
    detail: str,
    *,
    path: str = "",
    headers: Mapping[str, str] | None = None,
    **members: Any,
) -> Response:
    """Return a problem+json response. `error` is the code in CamelCase, or below /v2 the detail, as that protocol's
    clients read it."""
    body = {"type": f"urn:uqueue:problem:{code}", "title": _title(status), "status": status, "detail": detail}
    body |= {"instance": path} if path else {}
    body |= {"code": code, "error": error_name(code), "message": detail}
    body |= {"timestamp": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")}
    body |= {"request_id": REQUEST_ID.get() or "", **members}
    if path.startswith("/v2"):
        body["error"] = detail
    return Response(to_json(body, inf_nan_mode="null"), status, dict(headers or {}), MEDIA_TYPE)


def of_problem(problem: Problem, path: str) -> Response:
    return response(problem.status, problem.code, problem.detail, path=path, headers=problem.headers, **problem.members)


def of_error(error: UqueueError, path: str, *, of_job: bool = False) -> Response:
    """Return what an error of uqueue's tree is over HTTP; `of_job` where it is how a job ended."""
    status = status_of(error, of_job=of_job)
    members = {name: value for name, value in error.facts.items() if name in SHOWN_FACTS and value is not None}
    headers = retry_of(error) if status == HTTPStatus.SERVICE_UNAVAILABLE else {}
    return response(status, error.code, sentence_of(error), path=path, headers=headers, **members)


def retry_of(error: UqueueError) -> dict[str, str]:
    """Return the header that says when to try again."""
    return {"Retry-After": str(error.facts.get("retry_after_seconds") or RETRY_SECONDS)}


def sentence_of(error: UqueueError) -> str:
    """Return what strangers are told: not where the store is."""
    if isinstance(error, (ServiceUnreachable, StoreFull, *AWAY)):
        return "The service's store does not take requests at the moment. Try again later."
    return error.message


def status_of(error: UqueueError, *, of_job: bool = False) -> int:
    """Return the status of an error; that a job named a model that nobody serves is its own fault: 422, not 404."""
    if of_job and isinstance(error, UnknownModel):
        return HTTPStatus.UNPROCESSABLE_ENTITY
    return next(status for kind, status in STATUS if isinstance(error, kind))


def handlers() -> dict[Any, Any]:
    """Return the exception handlers of the application."""

    async def on_uqueue(request: Request, error: UqueueError) -> Response:
        return of_error(error, request.url.path)

    async def on_problem(request: Request, problem: Problem) -> Response:
        return of_problem(problem, request.url.path)

    async def on_http(request: Request, error: HTTPException) -> Response:
        code = HTTPStatus(error.status_code).name.lower()
        detail = _sentence(error, request)
        return response(error.status_code, code, detail, path=request.url.path, headers=error.headers)

    async def on_invalid(request: Request, error: RequestValidationError) -> Response:
        errors = [
            {"pointer": "/" + "/".join(str(part) for part in item["loc"]), "detail": str(item["msg"])[:200]}
            for item in error.errors()[:20]
        ]
        detail = "; ".join(f"{one['pointer'][1:].replace('/', '.')}: {one['detail']}" for one in errors[:5])
        return response(422, "invalid_request", f"{detail}.", path=request.url.path, errors=errors)

    return {
        UqueueError: on_uqueue,
        Problem: on_problem,
        HTTPException: on_http,
        RequestValidationError: on_invalid,
    }


def _sentence(error: HTTPException, request: Request) -> str:
    match error.status_code:
        case 404:
            return f"There is nothing at {request.url.path}."
        case 405:
            return f"{request.method} is not possible at {request.url.path}."
    return f"{str(error.detail).rstrip('.')}."


def _title(status: int) -> str:
    return HTTPStatus(status).phrase
