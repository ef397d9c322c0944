"""/learning/scenarios: look for scenarios, see their history, go back in it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from uqueue.gateway.documents import BODY, responses
from uqueue.gateway.learning.asking import ask, shown
from uqueue.gateway.learning.schemas import SCENARIO_ID, RestoreRequest, SearchRequest
from uqueue.gateway.state import GatewayState, needs
from uqueue.learning.calls import made
from uqueue_config.learning.answers import Done, ScenarioPage, ScenarioVersions
from uqueue_config.learning.requests import (
    ArchiveScenario,
    RestoreScenario,
    ScenarioHistory,
    SearchScenarios,
    ShowScenario,
)
from uqueue_config.learning.scenario import ScenarioDefinition

router = APIRouter(prefix="/learning/scenarios", tags=["learning"])
ScenarioId = Annotated[str, Path(min_length=1, max_length=200, description="Its id.", examples=[SCENARIO_ID])]


@router.get("", dependencies=[needs("read")], responses=responses(502, 504, s200={"model": ScenarioPage}))
async def list_scenarios(
    gateway: GatewayState,
    query: Annotated[str | None, Query(max_length=1000, description="Words to look for.")] = None,
    limit: Annotated[int, Query(ge=1, le=500, description="At most so many.")] = 50,
    cursor: Annotated[str | None, Query(max_length=500, description="`next_cursor` of the page before.")] = None,
) -> Response:
    """Return scenarios, those that words match if any are given; a page at a time."""
    return shown(await ask(gateway, made(SearchScenarios, query=query, limit=limit, cursor=cursor)))


@router.post(
    "/search", dependencies=[needs("read")], responses=responses(502, 504, *BODY, s200={"model": ScenarioPage})
)
async def search_scenarios(body: SearchRequest, gateway: GatewayState) -> Response:
    """Return scenarios that words and filters match; a page at a time."""
    return shown(await ask(gateway, made(SearchScenarios, **body.model_dump())))


@router.get(
    "/{scenario_id}",
    dependencies=[needs("read")],
    responses=responses(404, 502, 504, s200={"model": ScenarioDefinition}),
)
async def show_scenario(
    scenario_id: ScenarioId,
    gateway: GatewayState,
    version: Annotated[int | None, Query(ge=1, le=2**31 - 1, description="As it was at this version.")] = None,
) -> Response:
    """Return a scenario."""
    return shown(await ask(gateway, made(ShowScenario, scenario_id=scenario_id, version=version)))


@router.get(
    "/{scenario_id}/history",
    dependencies=[needs("read")],
    responses=responses(404, 502, 504, s200={"model": ScenarioVersions}),
)
async def scenario_history(scenario_id: ScenarioId, gateway: GatewayState) -> Response:
    """Return every version of a scenario, the latest first."""
    return shown(await ask(gateway, made(ScenarioHistory, scenario_id=scenario_id)))


@router.post(
    "/{scenario_id}/restore",
    dependencies=[needs("admin")],
    responses=responses(404, 409, 502, 504, *BODY, s200={"model": ScenarioDefinition}),
)
async def restore_scenario(scenario_id: ScenarioId, body: RestoreRequest, gateway: GatewayState) -> Response:
    """Make a new version of a scenario with the content of an old one."""
    return shown(await ask(gateway, made(RestoreScenario, scenario_id=scenario_id, version=body.version)))


@router.post(
    "/{scenario_id}/archive",
    dependencies=[needs("admin")],
    responses=responses(404, 409, 502, 504, s200={"model": Done}),
)
async def archive_scenario(scenario_id: ScenarioId, gateway: GatewayState) -> Response:
    """Take a scenario out of use; its history stays."""
    return shown(await ask(gateway, made(ArchiveScenario, scenario_id=scenario_id)))
