"""POST /predict and /predict/batch, and the same under the paths that the web client knows."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, TypeVar

from fastapi import APIRouter, Request, Response
from pydantic_core import to_json

from uqueue.gateway.documents import BODY, responses
from uqueue.gateway.localization.features import SMALL
from uqueue.gateway.localization.refusals import RETRY, refusal
from uqueue.gateway.localization.requests import read_batch, read_single, unpacked
from uqueue.gateway.localization.schemas import (
    BATCH,
    BATCH_EXAMPLE,
    PREDICT,
    PREDICT_EXAMPLE,
    BatchOut,
    PredictionOut,
    body,
)
from uqueue.gateway.localization.service import Localizer, Outcome
from uqueue.gateway.localization.state import LocalizerState
from uqueue.gateway.problems import Problem
from uqueue.gateway.state import needs

PREFIXES = ("", "/api/v1/inference", "/v1/inference")
JSON = "application/json"
#: What is logged for a client that went away before its answer was there.
GONE = 499
router = APIRouter(tags=["localization"])
T = TypeVar("T")


async def predict(request: Request, localizer: LocalizerState) -> Response:
    """Locate an emitter: IQ samples in, position and uncertainty out."""

    async def answered(data: bytes, started: float) -> bytes:
        item = await localizer.threads.run(partial(read_single, data), is_small=len(data) <= SMALL)
        return to_json(await localizer.answer(item, started))

    return await _measured("predict", request, localizer, answered)


async def predict_batch(request: Request, localizer: LocalizerState) -> Response:
    """Locate up to 100 emitters by one version of the model, in one run of it where that is possible."""

    async def answered(data: bytes, started: float) -> bytes:
        batch = await localizer.threads.run(partial(read_batch, data))
        outcome = await localizer.answer_batch(batch, started)
        return await localizer.threads.run(partial(_batch, outcome, len(batch.items), batch.continue_on_error))

    return await _measured("predict/batch", request, localizer, answered)


def _add(prefix: str, path: str, endpoint: Callable[..., Any], model: Any, schema: Any, example: Any) -> None:
    shown: dict[str, Any] = body(schema)
    if not prefix:  # once is enough, it is long
        shown["requestBody"]["content"][JSON]["example"] = example
    router.add_api_route(
        prefix + path,
        endpoint,
        methods=["POST"],
        dependencies=[needs("submit")],
        responses=responses(*BODY, 415, 504, s200={"model": model}),
        openapi_extra=shown,
        name=f"{endpoint.__name__}{prefix.replace('/', '_')}",
    )


for _prefix in PREFIXES:
    _add(_prefix, "/predict", predict, PredictionOut, PREDICT, PREDICT_EXAMPLE)
    _add(_prefix, "/predict/batch", predict_batch, BatchOut, BATCH, BATCH_EXAMPLE)


async def _measured(
    endpoint: str, request: Request, localizer: Localizer, answered: Callable[[bytes, float], Awaitable[bytes]]
) -> Response:
    """Return the answer, counted with its status and the type of its error. Raises Problem."""
    started = time.perf_counter()
    status = 500
    error_type: str | None = "InternalError"
    localizer.in_work += 1
    try:
        data = await _data(request, localizer)
        found = await _while_connected(request, _coroutine(answered(data, started)))
        status, error_type = (200, None) if found is not None else (GONE, None)
        return Response(found, status, media_type=JSON)
    except Exception as error:
        problem = refusal(error)
        status, error_type = problem.status, problem.error
        raise problem from error
    finally:
        localizer.in_work -= 1
        if status != GONE:
            localizer.recorder.request(endpoint, status, time.perf_counter() - started, error_type)


async def _data(request: Request, localizer: Localizer) -> bytes:
    """Return the JSON that came, unpacked. Raises Problem."""
    if localizer.gateway.stopping:
        raise Problem(503, "draining", "The gateway is about to end. Try again.", RETRY)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != JSON and not kind.endswith("+json"):  # a web page of anybody could send other types without asking
        raise Problem(415, "unsupported_media_type", f"Expected Content-Type: {JSON}.")
    data, encoding = await request.body(), request.headers.get("content-encoding", "identity").strip().lower()
    if encoding == "identity":
        return data
    if encoding not in ("gzip", "x-gzip"):
        raise Problem(415, "unsupported_media_type", "Expected Content-Encoding: gzip, or none.")
    return await localizer.threads.run(partial(unpacked, data, localizer.settings.gateway_max_body_bytes))


async def _coroutine(work: Awaitable[T]) -> T:
    return await work


async def _while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T | None:
    """Return what work gives, None where the client went away before: the work is cancelled then, its jobs too."""
    doing, gone = asyncio.ensure_future(work), asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait((doing, gone), return_when=asyncio.FIRST_COMPLETED)
        return doing.result() if doing.done() else None
    finally:
        gone.cancel()
        if not doing.done():
            doing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await doing


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _batch(outcome: Outcome, size: int, goes_on: bool) -> bytes:
    seconds = max(outcome.total_ms / 1000, 1e-9)
    answer: dict[str, Any] = {
        "predictions": [work.answer for work in outcome.works],
        "total_time_ms": outcome.total_ms,
        "samples_per_second": size / seconds,
        "batch_size": size,
        "batch_id": str(uuid.uuid4()),
    }
    if goes_on:
        answer["indices"] = [work.index for work in outcome.works]
        answer["errors"] = [
            {"index": index, "error": problem.error, "message": problem.detail}
            for index, problem in sorted(outcome.problems.items())
        ]
    return to_json(answer)
