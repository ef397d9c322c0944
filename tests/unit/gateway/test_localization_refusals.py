"""Which problem every error is that a localization can end with, and what the gateway refuses by itself."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from uqueue.gateway.app import create_app
from uqueue.gateway.localization.refusals import refusal
from uqueue_config import errors
from uqueue_config.settings import Settings

#: The closed set: what the member `error` of a localization's problem may be.
KNOWN = {
    *("InvalidJson", "InvalidBody", "InvalidSamples", "InvalidRequest", "BodyTooLarge", "UnsupportedMediaType"),
    *("ModelOutputInvalid", "InternalError", "ModelNotLoaded", "InferenceFailed", "QueueFull", "Draining", "StoreFull"),
    *("Overloaded", "Unreachable", "ResultTimeout", "ReloadFailed", "ReloadRunning", "VersionConflict"),
}


@pytest.mark.parametrize(
    ("error", "status", "name"),
    [
        (errors.MalformedSamples(reason="r"), 422, "InvalidRequest"),
        (errors.InvalidSamples(reason="r"), 400, "InvalidSamples"),
        (errors.JobNotFinished(job_id="j", state="queued", timeout_seconds="8"), 504, "ResultTimeout"),
        (errors.JobExpired(job_id="j"), 504, "ResultTimeout"),
        (errors.JobTimeLimit(job_id="j", limit_seconds=5), 504, "ResultTimeout"),
        (errors.ModelOutputInvalid(job_id="j", model="m", version="3", reason="NaN"), 500, "ModelOutputInvalid"),
        (errors.InferenceFailed(job_id="j", model="m", version="3", reason="r"), 503, "InferenceFailed"),
        (errors.JobAbandoned(job_id="j", attempts=3), 503, "InferenceFailed"),
        (errors.JobCancelled(job_id="j"), 503, "InferenceFailed"),
        (errors.InternalError(reference="abc"), 500, "InternalError"),
        (errors.ModelNotAvailable(model="m", missing="model.onnx"), 503, "ModelNotLoaded"),
        (errors.VersionNotServed(model="m", version="3", reason="r"), 503, "ModelNotLoaded"),
        (errors.UnknownModel(model="m", served="n"), 503, "ModelNotLoaded"),
        (errors.ServiceUnreachable(service="Redis", url="redis://secret", reason="r"), 503, "Unreachable"),
        (errors.StoreFull(service="Redis", url="redis://secret"), 503, "StoreFull"),
        (
            errors.QueueFull(queue="q", limit=1, accepted=0, asked=1, retry_after_seconds=20),
            503,
            "QueueFull",
        ),
    ],
)
def test_every_error_has_its_status(error: errors.UqueueError, status: int, name: str) -> None:
    problem = refusal(error)
    assert (problem.status, problem.error) == (status, name)
    assert ("Retry-After" in problem.headers) == (status == 503)
    assert "secret" not in problem.detail
    named = refusal(error, 7)
    assert (named.status, named.error, named.members["index"]) == (status, name, 7)


@pytest.mark.parametrize("error", list(errors.all_errors()), ids=lambda error: error.code)
def test_no_error_is_without_one(error: type[errors.UqueueError]) -> None:
    problem = refusal(error("It went wrong."))
    assert 400 <= problem.status <= 504
    if issubclass(error, errors.JobError | errors.ModelError | errors.InputError):
        assert problem.error in KNOWN


def test_what_nobody_foresaw_is_handed_on() -> None:
    with pytest.raises(ZeroDivisionError):
        refusal(ZeroDivisionError())


def ask(app: FastAPI, path: str, **options: Any) -> httpx.Response:
    async def asked() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as http:
            return await http.post(path, **options)

    return asyncio.run(asked())


@pytest.mark.parametrize("path", ["/predict", "/api/v1/inference/predict/batch"])
def test_a_gateway_that_is_about_to_end_takes_nothing_in(path: str) -> None:
    app = create_app(Settings())
    app.state.gateway.stopping = True
    answer = ask(app, path, json={})
    assert (answer.status_code, answer.json()["error"]) == (503, "Draining")
    assert answer.headers["retry-after"]


@pytest.mark.parametrize(
    "headers", [{}, {"Content-Type": "text/plain"}, {"Content-Type": "application/json", "Content-Encoding": "br"}]
)
def test_what_is_no_json_by_its_headers(headers: dict[str, str]) -> None:
    answer = ask(create_app(Settings()), "/predict", content=b"{}", headers=headers)
    assert (answer.status_code, answer.json()["error"]) == (415, "UnsupportedMediaType")


def test_without_a_model_nothing_is_looked_up() -> None:
    body = {"iq_base64": "AAAA", "shape": [2048]}
    answer = ask(create_app(Settings(broker_url="redis://127.0.0.1:1/0")), "/predict", json=body)  # type: ignore[arg-type]
    assert (answer.status_code, answer.json()["error"]) == (503, "ModelNotLoaded")


def test_every_path_is_in_the_document_with_all_its_statuses() -> None:
    paths = create_app(Settings()).openapi()["paths"]
    for prefix in ("", "/api/v1/inference", "/v1/inference"):
        for path in ("/predict", "/predict/batch"):
            operation = paths[prefix + path]["post"]
            assert operation["tags"] == ["localization"]
            found = set(operation["responses"])
            assert {"200", "400", "401", "403", "408", "413", "415", "422", "429", "500", "503", "504"} <= found
    names = [one["operationId"] for path in paths.values() for one in path.values()]
    assert len(set(names)) == len(names)
