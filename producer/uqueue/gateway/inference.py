"""/v2: the Open Inference Protocol, version 2, as KServe and Triton clients speak it over HTTP."""

from __future__ import annotations

import importlib.metadata
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response
from pydantic import BaseModel

from uqueue.gateway import problems
from uqueue.gateway.binary import HEADER, MEDIA_TYPE, BinaryRoute, packed
from uqueue.gateway.documents import BODY, responses
from uqueue.gateway.health import not_ready
from uqueue.gateway.localization.shared_metrics import SERVING
from uqueue.gateway.models import ModelName
from uqueue.gateway.problems import Problem
from uqueue.gateway.state import Gateway, GatewayState, needs
from uqueue.gateway.tensors import (
    INPUT,
    OUTPUTS_OF_KIND,
    InferAnswer,
    InferRequest,
    Kind,
    TensorMetadata,
    features_of,
    kind_of,
    metadata,
    outputs_of,
)
from uqueue.status import ModelStatus
from uqueue_config.answers import AnyAnswer
from uqueue_config.errors import JobNotFinished, JobNotFound, UqueueError
from uqueue_config.messages import VERSION
from uqueue_config.names import canary_of

router = APIRouter(tags=["inference"], route_class=BinaryRoute)
health_router = APIRouter(tags=["inference"])
VersionName = Annotated[str, Path(alias="version", pattern=VERSION, description="The version.", examples=["stable"])]
EXTENSIONS = ["binary_tensor_data"]
_READ = [needs("read")]
_SUBMIT = [needs("submit")]


class Live(BaseModel):
    """Whether the process answers."""

    live: bool


class Ready(BaseModel):
    """Whether the service, or a model, answers jobs."""

    ready: bool


class ServerMetadata(BaseModel):
    """What answers here."""

    name: str
    version: str
    extensions: list[str]


class ModelMetadata(BaseModel):
    """A model, its versions that some process serves, its inputs and outputs."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class ModelReady(BaseModel):
    """Whether a model answers jobs."""

    name: str
    ready: bool


@health_router.get("/v2/health/live", responses=responses(s200={"model": Live}))
async def live() -> Live:
    """Say that this process answers."""
    return Live(live=True)


@health_router.get("/v2/health/ready", responses=responses(s200={"model": Ready}))
async def ready(gateway: GatewayState) -> Ready:
    """Say whether jobs are taken and answered."""
    reason = await not_ready(gateway)
    if reason:
        raise Problem(503, "not_ready", reason, {"Retry-After": "5"})
    return Ready(ready=True)


@router.get("/v2", dependencies=_READ, responses=responses(s200={"model": ServerMetadata}))
async def server() -> ServerMetadata:
    """Return the name and version of what answers here."""
    return ServerMetadata(name="uqueue", version=importlib.metadata.version("uqueue"), extensions=EXTENSIONS)


@router.get("/v2/models/{model}", dependencies=_READ, responses=responses(404, s200={"model": ModelMetadata}))
async def model(model: ModelName, gateway: GatewayState) -> ModelMetadata:
    """Return the inputs and outputs of a model."""
    return await _metadata(gateway, model, await gateway.client.model(model))


@router.get(
    "/v2/models/{model}/versions/{version}",
    dependencies=_READ,
    responses=responses(404, s200={"model": ModelMetadata}),
)
async def version(model: ModelName, version: VersionName, gateway: GatewayState) -> ModelMetadata:
    """Return the inputs and outputs of a version that some process serves; 404 where none does."""
    status = await _track(gateway, model, version)
    if not _serves(status, version):
        raise _no_version(model, version)
    return await _metadata(gateway, model, status)


@router.get("/v2/models/{model}/ready", dependencies=_READ, responses=responses(404, s200={"model": ModelReady}))
async def model_ready(model: ModelName, gateway: GatewayState) -> ModelReady:
    """Say whether some process serves the model: 200, or 503."""
    return _ready(await gateway.client.model(model), model, None)


@router.get(
    "/v2/models/{model}/versions/{version}/ready",
    dependencies=_READ,
    responses=responses(404, s200={"model": ModelReady}),
)
async def version_ready(model: ModelName, version: VersionName, gateway: GatewayState) -> ModelReady:
    """Say whether some process serves the version: 200, or 503."""
    return _ready(await _track(gateway, model, version), model, version)


_ANSWER = {
    "model": InferAnswer,
    "description": f"The answer; outputs that are wanted as bytes come after the JSON, whose length {HEADER} says.",
    "content": {MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}},
}
_INFER = responses(404, *BODY, 410, 502, 504, s200=_ANSWER)


@router.post("/v2/models/{model}/infer", dependencies=_SUBMIT, responses=_INFER)
async def infer(model: ModelName, body: InferRequest, request: Request, gateway: GatewayState) -> Response:
    """Make a prediction and wait for it, at most UQUEUE_GATEWAY_WAIT_SECONDS.

    Inputs and outputs may be bytes after the JSON, as the protocol's extension `binary_tensor_data` has it.
    """
    return await _infer(gateway, model, None, body, request)


@router.post("/v2/models/{model}/versions/{version}/infer", dependencies=_SUBMIT, responses=_INFER)
async def version_infer(
    model: ModelName, version: VersionName, body: InferRequest, request: Request, gateway: GatewayState
) -> Response:
    """The same by one version: stable, canary, one that `/v1/models` shows, or a name for one."""
    return await _infer(gateway, model, version, body, request)


async def _infer(gateway: Gateway, model: str, version: str | None, body: InferRequest, request: Request) -> Response:
    tensor, path = body.inputs[0], request.url.path
    if tensor.name != INPUT:
        raise Problem(422, "unknown_tensor", f"inputs: expected one of the name {INPUT}, got {tensor.name!r}.")
    status = await gateway.client.model(model)  # a client of this protocol expects 404, not a job that fails
    _wanted(body, await gateway.kind(status.name))
    parameters = body.parameters
    features = features_of(tensor, getattr(request.state, "binary", b""))
    job = await gateway.client.submit(
        features, status.name, seed=parameters.seed, sticky_key=parameters.sticky_key, version=version
    )
    request.state.job_id = job.id
    try:
        prediction: AnyAnswer = await job.result(timeout=gateway.settings.gateway_wait_seconds.total_seconds())
    except UqueueError as error:
        if isinstance(error, JobNotFinished):
            await job.cancel()  # nobody will read its result
        return problems.of_error(error, path, of_job=not isinstance(error, JobNotFound))
    wanted = _wanted(body, kind_of(prediction))
    outputs, tensors = outputs_of(prediction, wanted)
    answer = {"model_name": model, "model_version": prediction.model.version, "id": body.id or job.id}
    return packed(answer | {"outputs": outputs}, tensors)


def _wanted(body: InferRequest, kind: Kind) -> dict[str, bool]:
    """Return the outputs that are wanted, and which as bytes. Raises Problem for those that such a model has not."""
    there = OUTPUTS_OF_KIND[kind]
    wanted = body.wanted(there)
    unknown = [name for name in wanted if name not in there]
    if unknown:
        raise Problem(422, "unknown_tensor", f"outputs: there is no {unknown[0]!r}, only {', '.join(there)}.")
    return wanted


async def _track(gateway: Gateway, model: str, version: str) -> ModelStatus:
    """Return the canary of a model for that name, the model itself for all others. Raises UnknownModel."""
    return await gateway.client.model(canary_of(model) if version == "canary" else model)


def _serves(status: ModelStatus, version: str | None) -> bool:
    by_name = version in (None, "stable", "canary")
    return any(process.state in SERVING and (by_name or process.version == version) for process in status.processes)


def _ready(status: ModelStatus, model: str, version: str | None) -> ModelReady:
    if not _serves(status, version):
        raise Problem(
            503, "not_ready", f"No worker process serves {version or 'a version'} of {model}.", {"Retry-After": "5"}
        )
    return ModelReady(name=model, ready=True)


async def _metadata(gateway: Gateway, model: str, status: ModelStatus) -> ModelMetadata:
    versions = sorted({process.version for process in status.processes if process.version})
    kind = await gateway.kind(status.name)
    inputs, outputs = metadata(*await gateway.shape(status.name), kind)
    shown: dict[str, Any] = {"inputs": inputs, "outputs": outputs}
    return ModelMetadata(name=model, versions=versions, platform=f"uqueue_{kind}", **shown)


def _no_version(model: str, version: str) -> Problem:
    return Problem(404, "version_not_served", f"No worker process serves version {version} of {model}.")
