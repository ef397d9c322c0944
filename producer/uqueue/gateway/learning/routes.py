"""/learning/runs, /learning/suggestions and /learning/feedback."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from urllib.parse import quote

from fastapi import APIRouter, Header, Path, Query, Request, Response
from pydantic_core import to_json

from uqueue.gateway.documents import BODY, responses
from uqueue.gateway.headers import idempotency_key
from uqueue.gateway.learning.asking import JSON, ask, shown
from uqueue.gateway.learning.schemas import (
    RUN_ID,
    SUGGESTION_ID,
    EvaluationRequest,
    FieldRequest,
    MappingRequest,
    RunRequest,
)
from uqueue.gateway.problems import Problem
from uqueue.gateway.state import Caller, GatewayState, needs
from uqueue.learning.calls import made
from uqueue_config.learning.answers import (
    MEDIA_TYPES,
    FieldSamplesTaken,
    ReportFormat,
    RunDetails,
    RunList,
    RunStarted,
    SpotList,
    SuggestionChanged,
    SuggestionList,
)
from uqueue_config.learning.feedback import ModelPerformanceData
from uqueue_config.learning.requests import (
    AddFieldSamples,
    ApproveSuggestion,
    CancelRun,
    Evaluate,
    ListRuns,
    ListSpots,
    ListSuggestions,
    MakeReport,
    MapSuggestion,
    RejectSuggestion,
    ResumeRun,
    ShowRun,
    StartRun,
)
from uqueue_config.learning.runs import RunStatus
from uqueue_config.learning.suggestions import State

#: A report may style itself and hold pictures; it runs nothing, loads nothing and is shown in no frame.
REPORT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; sandbox"
)
router = APIRouter(prefix="/learning", tags=["learning"])

RunId = Annotated[str, Path(min_length=1, max_length=200, description="The run's id.", examples=[RUN_ID])]
SuggestionId = Annotated[str, Path(min_length=1, max_length=200, description="Its id.", examples=[SUGGESTION_ID])]
Cycle = Annotated[int | None, Query(ge=0, le=1_000_000, description="Of this cycle; the first is 0.")]
_LOCATION = {"Location": {"description": "The run.", "schema": {"type": "string"}}}
_STARTED = {"model": RunStarted, "description": "The run; it goes on by itself.", "headers": _LOCATION}
_REPORT = {
    "description": "One whole file: a page without scripts that needs no network, or its data.",
    "content": {
        "text/html": {"schema": {"type": "string"}},
        "application/json": {"schema": {}},
        "text/csv": {"schema": {"type": "string"}},
    },
}


@router.post(
    "/runs",
    status_code=202,
    dependencies=[needs("submit")],
    responses=responses(404, 409, 502, 504, *BODY, s202=_STARTED),
)
async def start_run(
    body: RunRequest,
    request: Request,
    gateway: GatewayState,
    caller: Caller,
    key: Annotated[
        str | None,
        Header(alias="Idempotency-Key", description="The same key gives the same run.", examples=["nightly-17"]),
    ] = None,
) -> Response:
    """Start a run. The same Idempotency-Key and configuration give the same run, another configuration 409. With
    `continues` in the configuration it goes on where another run ended.
    """
    try:
        plain = idempotency_key(key)
    except ValueError as error:
        raise Problem(400, "invalid_header", str(error)) from None
    own = plain if plain is None or caller is None else f"{caller.id}:{plain}"
    started = await ask(gateway, made(StartRun, configuration=body.configuration, idempotency_key=own))
    message = started.model_dump(mode="json")
    message["run"]["idempotency_key"] = plain  # as the caller gave it
    where = f"{request.scope.get('root_path', '')}/learning/runs/{quote(started.run.run_id, safe='')}"
    return Response(to_json(message), 202, {"Location": where}, JSON)


@router.get("/runs", dependencies=[needs("read")], responses=responses(502, 504, s200={"model": RunList}))
async def list_runs(
    gateway: GatewayState,
    status: Annotated[RunStatus | None, Query(description="Runs with this status only.")] = None,
    limit: Annotated[int, Query(ge=1, le=500, description="At most so many.")] = 50,
    cursor: Annotated[str | None, Query(max_length=500, description="`next_cursor` of the page before.")] = None,
) -> Response:
    """Return runs, the latest first; a page at a time."""
    return shown(await ask(gateway, made(ListRuns, status=status, limit=limit, cursor=cursor)))


@router.get(
    "/runs/{run_id}", dependencies=[needs("read")], responses=responses(404, 502, 504, s200={"model": RunDetails})
)
async def show_run(run_id: RunId, gateway: GatewayState) -> Response:
    """Return where a run stands, and what each cycle did."""
    return shown(await ask(gateway, made(ShowRun, run_id=run_id)))


@router.get(
    "/runs/{run_id}/weak-spots",
    dependencies=[needs("read")],
    responses=responses(404, 502, 504, s200={"model": SpotList}),
)
async def weak_spots(run_id: RunId, gateway: GatewayState, cycle: Cycle = None) -> Response:
    """Return the weak spots of a cycle, by priority; of the latest that has any unless one is named."""
    return shown(await ask(gateway, made(ListSpots, run_id=run_id, cycle=cycle)))


@router.get(
    "/runs/{run_id}/suggestions",
    dependencies=[needs("read")],
    responses=responses(404, 502, 504, s200={"model": SuggestionList}),
)
async def suggestions(
    run_id: RunId,
    gateway: GatewayState,
    cycle: Cycle = None,
    state: Annotated[State | None, Query(description="In this state only.")] = None,
) -> Response:
    """Return what a run suggests to do about its weak spots."""
    return shown(await ask(gateway, made(ListSuggestions, run_id=run_id, cycle=cycle, state=state)))


@router.get("/runs/{run_id}/report", dependencies=[needs("read")], responses=responses(404, 502, 504, s200=_REPORT))
async def report(
    run_id: RunId,
    gateway: GatewayState,
    format: Annotated[Literal["html", "json", "csv"], Query(description="The kind of file.")] = "html",
) -> Response:
    """Return the report of a run as it stands: one HTML page, or its data as JSON or CSV."""
    page = await ask(gateway, made(MakeReport, run_id=run_id, format=format))
    kind: ReportFormat = format
    headers = {"Content-Disposition": f'{"inline" if kind == "html" else "attachment"}; filename="{page.file_name}"'}
    if kind == "html":
        headers["Content-Security-Policy"] = REPORT_POLICY
    return Response(page.content.encode(), 200, headers, MEDIA_TYPES[kind])


@router.post(
    "/runs/{run_id}/cancel",
    dependencies=[needs("submit")],
    responses=responses(404, 409, 502, 504, s200={"model": RunDetails}),
)
async def cancel_run(run_id: RunId, gateway: GatewayState) -> Response:
    """End a run at its next step."""
    return shown(await ask(gateway, made(CancelRun, run_id=run_id)))


@router.post(
    "/runs/{run_id}/resume",
    dependencies=[needs("submit")],
    responses=responses(404, 409, 502, 504, s200={"model": RunDetails}),
)
async def resume_run(run_id: RunId, gateway: GatewayState) -> Response:
    """Let a run go on that failed or was cancelled."""
    return shown(await ask(gateway, made(ResumeRun, run_id=run_id)))


@router.post(
    "/runs/{run_id}/feedback",
    dependencies=[needs("submit")],
    responses=responses(404, 409, 502, 504, *BODY, s200={"model": FieldSamplesTaken}),
)
async def add_field_samples(run_id: RunId, body: FieldRequest, gateway: GatewayState) -> Response:
    """Have a run go after labelled samples from the field that its model gets wrong, from its next cycle on."""
    asked = made(AddFieldSamples, run_id=run_id, dataset=body.dataset, samples=body.samples)
    return shown(await ask(gateway, asked))


_DECIDED: dict[int | str, dict[str, Any]] = responses(404, 409, 502, 504, s200={"model": SuggestionChanged})


@router.post("/suggestions/{suggestion_id}/approve", dependencies=[needs("admin")], responses=_DECIDED)
async def approve(suggestion_id: SuggestionId, gateway: GatewayState) -> Response:
    """Have a suggestion applied; one that names no parameter yet must be mapped first."""
    return shown(await ask(gateway, made(ApproveSuggestion, suggestion_id=suggestion_id)))


@router.post("/suggestions/{suggestion_id}/reject", dependencies=[needs("admin")], responses=_DECIDED)
async def reject(suggestion_id: SuggestionId, gateway: GatewayState) -> Response:
    """Have a suggestion dropped, with what was made for it."""
    return shown(await ask(gateway, made(RejectSuggestion, suggestion_id=suggestion_id)))


@router.post(
    "/suggestions/{suggestion_id}/map",
    dependencies=[needs("admin")],
    responses=responses(404, 409, 502, 504, *BODY, s200={"model": SuggestionChanged}),
)
async def map_suggestion(suggestion_id: SuggestionId, body: MappingRequest, gateway: GatewayState) -> Response:
    """Say which parameter of its scenario moves a feature for which a suggestion knows none."""
    asked = made(MapSuggestion, suggestion_id=suggestion_id, mapping=body.mapping)
    return shown(await ask(gateway, asked))


@router.post(
    "/feedback",
    dependencies=[needs("submit")],
    responses=responses(502, 504, *BODY, s200={"model": ModelPerformanceData}),
)
async def feedback(body: EvaluationRequest, gateway: GatewayState) -> Response:
    """Evaluate a model once, and return its metrics and the samples it is weak on."""
    found = await ask(gateway, made(Evaluate, **body.to_request()))
    return Response(to_json(found.to_message()), media_type=JSON)
