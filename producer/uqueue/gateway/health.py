"""Whether the gateway lives, whether it is of use, and its figures."""

from __future__ import annotations

import importlib.metadata
from datetime import UTC, datetime
from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel
from pydantic_core import to_json
from redis.exceptions import NoPermissionError

from uqueue.gateway.documents import responses
from uqueue.gateway.jobs import JSON
from uqueue.gateway.localization.answers import utc_text
from uqueue.gateway.localization.health import HEALTH_SECONDS, Condition
from uqueue.gateway.localization.shared_metrics import SERVING, Snapshot
from uqueue.gateway.metrics import CONTENT_TYPE
from uqueue.gateway.page import routes as page
from uqueue.gateway.problems import Problem
from uqueue.gateway.state import Gateway, GatewayState, needs
from uqueue_config.errors import ServiceUnreachable

router = APIRouter(tags=["health"])
#: These answer without a key.
public = APIRouter(tags=["health"])
SERVICE = "inference"
HEALTH_PATHS = ("/health", "/api/v1/inference/health", "/v1/inference/health", "/api/api/v1/inference/health")
READY_PATHS = ("/ready", "/startup")
ROOT_PATHS = ("/", "/api/")
#: All of them, for the gate.
PUBLIC_PATHS = frozenset({*HEALTH_PATHS, *READY_PATHS, *ROOT_PATHS, *page.FILE_PATHS, "/health/detailed"})
_PAGE = {"description": "What answers.", "content": {"text/html": {"schema": {"type": "string"}}}}
_TEXT = {"description": "Prometheus' text format.", "content": {"text/plain": {"schema": {"type": "string"}}}}


class Root(BaseModel):
    """What answers here."""

    service: str
    status: Literal["running"]
    timestamp: str


class Health(BaseModel):
    """Whether localizations are answered, or where no localization model is configured, any jobs."""

    status: Literal["healthy", "degraded", "unhealthy"]
    service: str
    version: str
    timestamp: str
    model_ready: bool
    model_loaded: bool
    cache_available: bool
    details: dict[str, Any]


class Dependency(BaseModel):
    """Something that the service needs; `response_time_ms` is a number with 2 decimals, as text."""

    name: str
    status: Literal["up", "down", "degraded", "unknown"]
    response_time_ms: str
    error_message: str | None = None


class DetailedHealth(Health):
    """The same with every dependency."""

    service_name: str
    uptime_seconds: float
    dependencies: list[Dependency]


class ReadyOut(BaseModel):
    """Whether requests are taken and answered."""

    status: str
    ready: bool
    service: str
    dependencies: list[Dependency]


_READY = {"model": ReadyOut, "description": "Yes."}


async def root() -> Root:
    """Say what answers here."""
    return Root(service=SERVICE, status="running", timestamp=_now())


async def root_or_page(request: Request) -> Response:
    """Say what answers here; to a browser, with the page for people."""
    if page.wants_page(request.headers.get("accept")):
        return await page.whole_page(request)
    return Response(to_json(await root()), headers={"Vary": "Accept"}, media_type=JSON)


async def health(gateway: GatewayState) -> Health:
    """Say how the service is, always with 200: an answer means that this process lives."""
    return Health(**_health(await gateway.examiner.look(at_most_seconds_old=HEALTH_SECONDS)))


@public.get("/health/detailed", response_model_exclude_none=True, responses=responses())
async def health_detailed(gateway: GatewayState) -> DetailedHealth:
    """Say how the service and everything that it needs is, always with 200."""
    condition = await gateway.examiner.look(at_most_seconds_old=HEALTH_SECONDS)
    uptime_seconds = round(gateway.recorder.uptime_seconds, 3)
    return DetailedHealth(
        **_health(condition),
        service_name=SERVICE,
        uptime_seconds=uptime_seconds,
        dependencies=_dependencies(condition),
    )


async def ready(gateway: GatewayState) -> Response:
    """Say whether requests are taken and answered: 200, or 503. Redis is there, and some process serves the model."""
    condition = await gateway.examiner.look()
    reason = _not_ready(gateway, condition)
    shown = [one.model_dump(exclude_none=True) for one in _dependencies(condition)]
    if reason:
        members = {"ready": False, "service": SERVICE, "dependencies": shown}
        raise Problem(503, "not_ready", reason, {"Retry-After": "5"}, members)
    body = {"status": "ok", "ready": True, "service": SERVICE, "dependencies": shown}
    return Response(to_json(body), media_type=JSON)


public.add_api_route("/", root_or_page, responses=responses(s200={"model": Root, **_PAGE}))
public.add_api_route("/api/", root, responses=responses())
for _path in HEALTH_PATHS:
    public.add_api_route(_path, health, responses=responses())
for _path in READY_PATHS:
    public.add_api_route(_path, ready, responses=responses(s200=_READY))


@router.get("/metrics", dependencies=[needs("read")], responses=responses(s200=_TEXT))
async def metrics(gateway: GatewayState) -> Response:
    """Return the gateway's figures, those that all processes share, the queue's depth and who serves what."""
    try:
        gateway.metrics.show(await snapshot(gateway))
    except ServiceUnreachable:
        gateway.metrics.show_nothing()
    return Response(gateway.metrics.text(), media_type=CONTENT_TYPE)


async def snapshot(gateway: Gateway) -> Snapshot:
    """Return the shared figures as they are now. Raises ServiceUnreachable."""
    recorder = gateway.recorder
    sums, depths = await recorder.sums(), await gateway.depths()
    card = (await gateway.examiner.look(at_most_seconds_old=HEALTH_SECONDS)).card
    return Snapshot(
        sums=sums,
        active=await recorder.in_work(),
        memory_bytes=await _memory_bytes(gateway),
        depths=depths,
        models=await gateway.client.models(),
        accuracy_meters=card.accuracy_meters if card else None,
    )


async def not_ready(gateway: Gateway) -> str | None:
    """Return why the service is not ready for jobs of any model, None where it is."""
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


def _not_ready(gateway: Gateway, condition: Condition) -> str | None:
    if gateway.stopping:
        return "The gateway is about to end."
    if condition.store.status != "up":
        return "Redis does not answer."
    return None if condition.model_ready else "No worker process serves a model."


def _health(condition: Condition) -> dict[str, Any]:
    card = condition.card
    details = {"model": condition.model, "model_version": card.version if card else None, "reason": condition.reason}
    return {
        "status": condition.status,
        "service": SERVICE,
        "version": importlib.metadata.version("uqueue"),
        "timestamp": _now(),
        "model_ready": condition.model_ready,
        "model_loaded": condition.model_loaded,
        "cache_available": condition.cache.status == "up",
        "details": {name: value for name, value in details.items() if value is not None}
        | {"worker_processes": len(condition.processes)},
    }


def _dependencies(condition: Condition) -> list[Dependency]:
    return [
        Dependency(
            name=check.name,
            status=check.status,
            response_time_ms=f"{1000 * check.seconds:.2f}",
            error_message=check.reason,
        )
        for check in condition.checks
    ]


async def _memory_bytes(gateway: Gateway) -> int | None:
    try:
        return await gateway.memory_bytes()
    except ServiceUnreachable as error:
        if isinstance(error.__cause__, NoPermissionError):
            return None
        raise


def _now() -> str:
    return utc_text(datetime.now(UTC))
