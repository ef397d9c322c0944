"""Whether the gateway lives, whether it is of use, and its figures."""

from __future__ import annotations

from fastapi import APIRouter, Response

from uqueue.gateway.documents import responses
from uqueue.gateway.metrics import CONTENT_TYPE
from uqueue.gateway.problems import Problem
from uqueue.gateway.state import Gateway, GatewayState, needs
from uqueue_config.errors import ServiceUnreachable

router = APIRouter(tags=["health"])
#: These answer without a key.
public = APIRouter(tags=["health"])
#: Worker processes in these states answer jobs.
SERVING = frozenset({"ready", "stale", "unloaded"})
_OK = {"description": "Yes.", "content": {"application/json": {"example": {"status": "ok"}}}}
_TEXT = {"description": "Prometheus' text format.", "content": {"text/plain": {"schema": {"type": "string"}}}}


@public.get("/health", responses=responses(s200=_OK))
async def health() -> dict[str, str]:
    """Say that this process answers; nothing else is looked at."""
    return {"status": "ok"}


@public.get("/ready", responses=responses(s200=_OK))
async def ready(gateway: GatewayState) -> dict[str, str]:
    """Say whether jobs are taken and answered: Redis is there, and some process serves some model."""
    reason = await not_ready(gateway)
    if reason:
        raise Problem(503, "not_ready", reason, {"Retry-After": "5"})
    return {"status": "ok"}


@router.get("/metrics", dependencies=[needs("read")], responses=responses(s200=_TEXT))
async def metrics(gateway: GatewayState) -> Response:
    """Return the gateway's figures, the queue's depth and who serves what."""
    try:
        gateway.metrics.show(await gateway.jobs_waiting(), await gateway.client.models())
    except ServiceUnreachable:
        gateway.metrics.show_nothing()
    return Response(gateway.metrics.text(), media_type=CONTENT_TYPE)


async def not_ready(gateway: Gateway) -> str | None:
    """Return why the service is not ready, None where it is."""
    if gateway.stopping:
        return "The gateway is about to end."
    try:
        await gateway.ping()
        models = await gateway.client.models()
    except ServiceUnreachable:
        return "Redis does not answer."
    if not any(process.state in SERVING for model in models for process in model.processes):
        return "No worker process serves a model."
    return None
