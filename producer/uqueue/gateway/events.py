"""/v1/jobs/{id}/events: a job's progress as server-sent events.

An event's id says which state of the job it tells of. So a client that comes back with `Last-Event-ID` hears nothing
twice, whichever gateway it reaches, and one that has heard the end is told to stay away (204).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header, Request, Response
from fastapi.responses import StreamingResponse
from pydantic_core import to_json

from uqueue.aio import AsyncJob
from uqueue.gateway.documents import responses
from uqueue.gateway.jobs import JobId, job_message
from uqueue.gateway.state import Gateway, GatewayState, needs
from uqueue_config.errors import JobNotFound, ServiceUnreachable
from uqueue_config.ledger import JobStatus
from uqueue_config.names import JobState

router = APIRouter(tags=["jobs"])
MEDIA_TYPE = "text/event-stream"
LOOK_SECONDS = 0.25
#: A comment is sent this often where there is nothing to tell, so that nothing in between takes the stream for dead.
BEAT_SECONDS = 15.0
#: A stream ends after this time; browsers come back by themselves, with the last id they heard.
STREAM_SECONDS = 600.0
_EVENT = {
    "type": "object",
    "description": "One event of the stream.",
    "required": ["id", "event", "data"],
    "properties": {
        "id": {"type": "string"},
        "event": {"type": "string", "enum": ["status", "end"]},
        "data": {
            "type": "string",
            "contentMediaType": "application/json",
            "contentSchema": {"$ref": "#/components/schemas/JobOut"},
        },
    },
}
_STREAM = {
    "description": "Events `status`, and `end` when the job has ended; data as of `/v1/jobs/{id}`.",
    "content": {MEDIA_TYPE: {"schema": _EVENT}},
}
_ORDER = {state: number for number, state in enumerate(JobState)}


@router.get(
    "/v1/jobs/{id}/events",
    dependencies=[needs("read")],
    response_class=StreamingResponse,
    responses=responses(404, s200=_STREAM, s204={"description": "The client has heard the end."}),
)
async def events(
    job_id: JobId,
    request: Request,
    gateway: GatewayState,
    last_event_id: Annotated[
        str | None, Header(description="The id of the last event that was heard.", examples=["1-1-500"])
    ] = None,
) -> Response:
    """Stream a job's progress until it ends."""
    job = gateway.client.job(job_id)
    status = await job.status()
    if status.state.terminal and event_id(status) == last_event_id:
        return Response(status_code=204)
    headers = {"X-Accel-Buffering": "no"}
    return StreamingResponse(_stream(gateway, job, status, last_event_id, request), 200, headers, MEDIA_TYPE)


def event_id(status: JobStatus) -> str:
    """Return what tells one state of a job from another: state, attempts, rows done, whether it was cancelled."""
    asked = "-c" if status.cancel_requested else ""
    return f"{_ORDER[status.state]}-{status.attempts}-{status.rows_done or 0}{asked}"


async def _stream(
    gateway: Gateway, job: AsyncJob, status: JobStatus, heard: str | None, request: Request
) -> AsyncIterator[bytes]:
    yield b"retry: 1000\n\n"
    until, spoke = time.monotonic() + STREAM_SECONDS, time.monotonic()
    while True:
        if event_id(status) != heard:
            heard, spoke = event_id(status), time.monotonic()
            yield _event(status, heard, request)
        elif time.monotonic() - spoke > BEAT_SECONDS:
            spoke = time.monotonic()
            yield b": still here\n\n"
        if status.state.terminal or gateway.stopping or time.monotonic() > until:
            return
        await asyncio.sleep(LOOK_SECONDS)
        with contextlib.suppress(ServiceUnreachable):  # the stream outlives a restart of Redis
            try:
                status = await job.status()
            except JobNotFound:
                return


def _event(status: JobStatus, id: str, request: Request) -> bytes:
    name = b"end" if status.state.terminal else b"status"
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (id.encode(), name, to_json(job_message(status, request)))
