"""/v1/jobs: submit, look, read, cancel."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any, Literal
from urllib.parse import quote

from fastapi import APIRouter, Header, Path, Query, Request, Response
from pydantic_core import to_json

from uqueue.aio import AsyncJob
from uqueue.gateway import problems
from uqueue.gateway.documents import BODY, responses
from uqueue.gateway.headers import Preference, idempotency_key
from uqueue.gateway.problems import Problem
from uqueue.gateway.schemas import Accepted, JobOut, JobRequest, Prediction
from uqueue.gateway.state import Caller, Gateway, GatewayState, needs
from uqueue.gateway.webhooks_target import Target, TargetRefused
from uqueue.submission import keyed_job_id
from uqueue_config.answers import read_answer
from uqueue_config.arrays import decode_array
from uqueue_config.errors import (
    IdempotencyConflict,
    InvalidFeatures,
    JobNotFinished,
    JobNotFound,
    ServiceUnreachable,
    UqueueError,
)
from uqueue_config.ledger import JobStatus

#: When a client may ask again.
RETRY_SECONDS = 1
JSON = "application/json"
router = APIRouter(tags=["jobs"])

JobId = Annotated[str, Path(alias="id", max_length=200, description="The job's id.", examples=["3f0e8a52-8a53-4f0a"])]
Prefer = Annotated[
    str | None,
    Header(
        description="`wait=n` waits up to n seconds for the end of the job; `respond-async` does not wait.",
        examples=["respond-async, wait=5"],
    ),
]
Encoding = Annotated[Literal["lists", "base64"], Query(description="How arrays of the result are written.")]
_ACCEPTED = {
    "model": Accepted,
    "description": "The job goes on; ask again after `Retry-After` seconds.",
    "headers": {
        "Location": {"description": "The job.", "schema": {"type": "string"}},
        "Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}},
    },
}
_PREDICTION = {"model": Prediction, "description": "The job's intervals."}
_ENDED = (404, 410, 502, 504)
SUBMIT_RESPONSES = responses(404, 409, *BODY, *_ENDED, s200=_PREDICTION, s202=_ACCEPTED)


async def submit(
    body: JobRequest,
    request: Request,
    gateway: GatewayState,
    caller: Caller,
    prefer: Prefer = None,
    idempotency_key: Annotated[
        str | None, Header(description="The same key and request are the same job.", examples=["order-17"])
    ] = None,
    encoding: Encoding = "lists",
) -> Response:
    """Submit a job. Answers 202 at once, or with `Prefer: wait=n` the result where it is there in time."""
    preference = Preference.parse(prefer)
    key = _own_key(idempotency_key, caller.id if caller else None)
    if body.webhook is not None:
        key = await _with_webhook(gateway, body.webhook.url, key, request.scope.get("root_path", ""))
    job = await _submitted(gateway, body, key)
    if body.webhook is not None and gateway.webhooks is not None:
        gateway.webhooks.watch(job.id)
    request.state.job_id = job.id
    return await answer(gateway, job, preference, encoding, request, accepted=True)


@router.get("/v1/jobs/{id}", dependencies=[needs("read")], responses=responses(404, s200={"model": JobOut}))
async def status(job_id: JobId, request: Request, gateway: GatewayState) -> Response:
    """Return where a job stands."""
    found = await gateway.client.job(job_id).status()
    message = job_message(found, request)
    if gateway.webhooks is not None and (told := await gateway.webhooks.state(job_id)) is not None:
        message["webhook"] = asdict(told)
    headers = {} if found.state.terminal else {"Retry-After": str(RETRY_SECONDS)}
    return Response(to_json(message), headers=headers, media_type=JSON)


@router.get(
    "/v1/jobs/{id}/result",
    dependencies=[needs("read")],
    responses=responses(*_ENDED, s200=_PREDICTION, s202=_ACCEPTED),
)
async def result(
    job_id: JobId, request: Request, gateway: GatewayState, prefer: Prefer = None, encoding: Encoding = "lists"
) -> Response:
    """Return a job's intervals; 202 while there are none yet, 410 when they are past their retention."""
    return await answer(gateway, gateway.client.job(job_id), Preference.parse(prefer), encoding, request)


@router.delete(
    "/v1/jobs/{id}",
    dependencies=[needs("submit")],
    responses=responses(404, s200={"model": JobOut}, s202={"model": JobOut, "description": "It was asked to end."}),
)
async def cancel(job_id: JobId, request: Request, gateway: GatewayState) -> Response:
    """Cancel a job: at once while it is queued (200), at its next checkpoint while it runs (202)."""
    found = await gateway.client.job(job_id).cancel()
    return Response(to_json(job_message(found, request)), 200 if found.state.terminal else 202, media_type=JSON)


async def answer(
    gateway: Gateway,
    job: AsyncJob,
    preference: Preference,
    encoding: Literal["lists", "base64"],
    request: Request,
    *,
    accepted: bool = False,
) -> Response:
    """Return the job's intervals (200), that it goes on (202), or why it has none. Waits as long as preferred."""
    seconds = gateway.wait_seconds(preference.wait_seconds)
    applied = {} if preference.wait_seconds is None else {"Preference-Applied": f"wait={preference.wait_seconds}"}
    if accepted and not seconds:
        return _goes_on(
            job.id, "queued", request, {"Preference-Applied": "respond-async"} if preference.respond_async else {}
        )
    try:
        if not seconds and not (found := await job.status()).state.terminal:
            return _goes_on(job.id, found.state.value, request, applied)
        message = await job.message(timeout=seconds)
    except JobNotFinished as error:
        return _goes_on(job.id, error.state, request, {**applied, "Preference-Applied": "respond-async"})
    except ServiceUnreachable:
        if accepted:  # the job is in the queue, and its id must not be lost with the answer
            return _goes_on(job.id, "queued", request, {"Preference-Applied": "respond-async"})
        raise
    except UqueueError as error:
        return problems.of_error(error, request.url.path, of_job=not isinstance(error, JobNotFound))
    gateway.handed_out.take(message)
    return Response(
        to_json(_written(message, encoding)), headers={**_location(job.id, request), **applied}, media_type=JSON
    )


def _written(message: Mapping[str, Any], encoding: Literal["lists", "base64"]) -> Mapping[str, Any]:
    """Return a result with its arrays in this encoding: as the worker wrote it, where it did so."""
    some = message.get("failed", message.get("latitude", message.get("probabilities")))  # one of them in each kind
    if isinstance(some, list) == (encoding == "lists"):
        return message
    return read_answer(message).to_message(encoding)


def job_message(status: JobStatus, request: Request) -> dict[str, Any]:
    """Return the JSON form of a status; see `JobOut`."""
    error = None if status.error is None else {"code": status.error.code, "message": status.error.message}
    plain = ("id", "state", "attempts", "model", "created_at", "started_at", "finished_at", "expires_at")
    message = {name: getattr(status, name) for name in (*plain, "rows_done", "rows_total", "cancel_requested")}
    return {**message, "error": error, "links": links(status.id, request)}


def links(job_id: str, request: Request) -> dict[str, str]:
    """Return where the job, its result and its events are, below the path that a proxy put before."""
    own = f"{request.scope.get('root_path', '')}/v1/jobs/{quote(job_id, safe='')}"
    return {"self": own, "result": f"{own}/result", "events": f"{own}/events"}


def table(value: Any) -> Any:
    """Return features as the client takes them. Raises InvalidFeatures where base64 does not hold what it says."""
    if not isinstance(value, Mapping):
        return value
    try:
        return decode_array(value, "<f4")
    except ValueError as error:
        raise InvalidFeatures(reason=str(error)) from None


async def _submitted(gateway: Gateway, body: JobRequest, key: tuple[str, str] | None) -> AsyncJob:
    options = body.model_dump(exclude={"features", "model", "webhook"})
    try:
        return await gateway.client.submit(
            table(body.features), body.model, idempotency_key=key[1] if key else None, **options
        )
    except IdempotencyConflict as error:  # named as the client named it
        raise IdempotencyConflict(key=key[0] if key else "", job_id=error.job_id) from None


async def _with_webhook(gateway: Gateway, url: str, key: tuple[str, str] | None, prefix: str) -> tuple[str, str]:
    """Keep where the end of a job is to be told that is about to be submitted; returns the key to submit it with."""
    if gateway.webhooks is None:
        detail = "webhook: this gateway has no secret to sign webhooks with (UQUEUE_WEBHOOK_SECRETS)."
        raise Problem(422, "webhooks_not_configured", detail)
    try:
        Target.parse(url, gateway.webhooks.rules)
    except TargetRefused as error:
        raise Problem(422, "invalid_webhook", f"webhook.url: {error}.") from None
    key = key or ("", f"webhook:{secrets.token_hex(16)}")  # so that the id is known before the job is
    job_id = keyed_job_id(key[1])
    if not await gateway.webhooks.accept(job_id, url, prefix):
        raise IdempotencyConflict(key=key[0], job_id=job_id)
    return key


def _own_key(text: str | None, caller: str | None) -> tuple[str, str] | None:
    """Return an idempotency key as it came, and as one that no other API key's jobs can have."""
    try:
        key = idempotency_key(text)
    except ValueError as error:
        raise Problem(400, "invalid_header", str(error)) from None
    return None if key is None else (key, key if caller is None else f"{caller}:{key}")


def _goes_on(job_id: str, state: str, request: Request, headers: Mapping[str, str]) -> Response:
    body = {"id": job_id, "state": state, "links": links(job_id, request)}
    retry = {"Retry-After": str(RETRY_SECONDS)}
    return Response(to_json(body), 202, {**_location(job_id, request), **retry, **headers}, JSON)


def _location(job_id: str, request: Request) -> dict[str, str]:
    return {"Location": links(job_id, request)["self"]}
