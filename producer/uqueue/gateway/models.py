"""/v1/models: who serves what, and a look for new artifacts now."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response
from pydantic_core import to_json
from redis.exceptions import NoPermissionError

from uqueue.gateway.documents import responses
from uqueue.gateway.jobs import JSON
from uqueue.gateway.problems import Problem
from uqueue.gateway.schemas import ModelsOut, ReloadOut
from uqueue.gateway.state import GatewayState, needs
from uqueue.status import ModelStatus
from uqueue_config.errors import ServiceUnreachable
from uqueue_config.names import DEFAULT_MODEL

router = APIRouter(tags=["models"])
ModelName = Annotated[str, Path(alias="model", max_length=80, description="The model.", examples=[DEFAULT_MODEL])]
_PROCESS = ("state", "version", "engine", "forward_mode", "jobs_done", "loaded_at", "reason")


@router.get("/v1/models", dependencies=[needs("read")], responses=responses(s200={"model": ModelsOut}))
async def models(gateway: GatewayState) -> Response:
    """Return every model, the version wanted, and who serves which."""
    found = [model_message(one) for one in await gateway.client.models()]
    return Response(to_json({"models": found}), media_type=JSON)


@router.post(
    "/v1/models/{model}/reload",
    dependencies=[needs("admin")],
    responses=responses(404, 502, 504, s200={"model": ReloadOut}),
)
async def reload(
    model: ModelName,
    gateway: GatewayState,
    timeout: Annotated[float, Query(gt=0, le=300, description="Wait at most this many seconds.")] = 30.0,
) -> Response:
    """Look for new artifacts now, and wait until every process serves them. A refused version keeps the old one."""
    try:
        report = await gateway.reload(model, gateway.wait_seconds(timeout))
    except ServiceUnreachable as error:
        if isinstance(error.__cause__, NoPermissionError):
            raise Problem(403, "not_permitted", "The gateway's Redis user may not reload models.") from error
        raise
    return Response(to_json({"poll": report.poll.model_dump(), "model": model_message(report.model)}), media_type=JSON)


def model_message(model: ModelStatus) -> dict[str, Any]:
    """Return the JSON form of a model; hosts and process numbers are left to `uqueue models`."""
    names = ("name", "wanted_version", "converged", "rejected_version", "rejected_reason")
    processes = [{name: getattr(process, name) for name in _PROCESS} for process in model.processes]
    return {**{name: getattr(model, name) for name in names}, "processes": processes}
