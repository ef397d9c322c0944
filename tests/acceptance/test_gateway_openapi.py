"""The OpenAPI document against the running gateway: whatever it allows or forbids is answered as documented."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from builders.artifacts import write_workspace
from builders.gateway import running_gateway
from builders.iq import as_base64, iq
from builders.learning_answerer import answering
from builders.learning_services import CREATE, OVER, SCENARIO, WAITS, services
from builders.onnx_models import write_localizer
from builders.service import running_service
from uqueue.gateway.webhooks_signing import new_secret
from uqueue_worker.learning.answering import answer

CHECKS = [status_code_conformance, content_type_conformance, response_schema_conformance, unsupported_method]
#: Requests for each operation, good ones, and as many bad ones.
EXAMPLES = 5
#: `make fuzz` sets how many requests there are to be; then every round asks other things.
REQUESTS = int(os.environ.get("FUZZ_REQUESTS", "0"))
#: What is an answer and no fault: 503 for a version that is not there, or for a time that was not enough (504 where it
#: was asked for) on a busy machine.
ANSWERS = {
    "/v2/models/{model}/ready": {(503, "not_ready")},
    "/v2/models/{model}/versions/{version}/ready": {(503, "not_ready")},
    "/v1/models/{model}/reload": {(504, "job_not_finished")},
    "/model/versions/{version}": {(503, "model_not_loaded")},
    "/model/reload": {(503, "model_not_loaded"), (503, "reload_failed")},
}
MODEL, LOCALIZER = "mccp-uq", "localization_model"
ROW = [0.98, 514.5, 294.0, 110.25, 7.0, 2, 0.0, 0]
TENSOR = {"name": "features", "shape": [1, 8], "datatype": "FP32", "data": ROW}
#: Bodies that can be answered, of the operations whose path ends so.
GOOD: dict[str, dict[str, Any]] = {
    "/v1/jobs": {"features": [ROW], "seed": 7},
    "/infer": {"inputs": [TENSOR]},
    "/predict": as_base64(iq()),
    "/predict/batch": {"predictions": [as_base64(iq(seed)) for seed in range(2)]},
    "/learning/runs": {"configuration": {"max_cycles": 2}},
    "/learning/scenarios/search": {"query": "humid", "filters": {"tags": ["class_CORONA"]}},
    "/restore": {"version": 1},
}


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("openapi")
    write_workspace(folder / "workspace")
    write_localizer(folder / "workspace", name=LOCALIZER)
    source = f'source = "{folder / "workspace"}"'
    (folder / "models.toml").write_text(
        f'[models.{MODEL}]\n{source}\n[models.{LOCALIZER}]\n{source}\nengine = "onnx"\n'
    )
    env = {"UQUEUE_MODELS": str(folder / "models.toml")}
    own = {"gateway_wait_seconds": "2", "gateway_rate": "100000", "webhook_secrets": new_secret()}
    kept = services(folder)
    with (
        running_service(folder / "service", concurrency=1, env=env) as service,
        answering(service.settings, lambda request: answer(request, kept)),
        running_gateway(service.environment, folder / "gateway", **own) as gateway,
    ):
        yield schemathesis.openapi.from_url(f"{gateway.url}/openapi.json")
        assert gateway.service.returncode is None
        assert [line for line in gateway.lines if line["event"] == "unforeseen"] == []


@pytest.fixture(scope="module")
def known(api: Any) -> dict[str, list[str]]:
    """What is there to be asked for: jobs that have ended in every way, and a model."""
    url = api.location.removesuffix("/openapi.json")
    bodies: list[dict[str, Any]] = [{"features": [ROW]}, {"features": [ROW], "model": "nobody"}]
    bodies += [{"features": [ROW], "expires": 1e-9}, {"features": [ROW] * 200}]
    return {
        "id": [httpx.post(f"{url}/v1/jobs", json=body).json()["id"] for body in bodies],
        "model": [MODEL, LOCALIZER],
        "run_id": [OVER, WAITS],
        "suggestion_id": [CREATE],
        "scenario_id": [SCENARIO],
    }


@pytest.mark.timeout(7200 if REQUESTS else 180)
def test_requests_are_answered_as_documented(api: Any, known: dict[str, list[str]]) -> None:
    sent: Counter[str] = Counter()
    statuses: Counter[int] = Counter()
    for round in itertools.count():
        for found in api.exclude(path_regex="/reload$").get_all_operations():
            for mode in GenerationMode:
                with contextlib.suppress(Unsatisfiable):  # an operation without parameters cannot be asked wrongly
                    try_out(found.ok(), mode, round, EXAMPLES * 5 if REQUESTS else EXAMPLES, known, sent, statuses)
        for found in api.include(path_regex="/reload$").get_all_operations():
            try_out(found.ok(), GenerationMode.POSITIVE, round, 3, known, sent, statuses)
        if sum(sent.values()) >= REQUESTS:
            break
    print(f"{sum(sent.values())} requests: {dict(sent)}, answered {dict(statuses)}")
    assert sent["POST /v1/jobs"] >= 2 * EXAMPLES
    assert sum(sent.values()) >= 300, sent


def try_out(
    operation: Any,
    mode: GenerationMode,
    round: int,
    examples: int,
    known: dict[str, list[str]],
    sent: Counter[str],
    statuses: Counter[int],
) -> None:
    @seed(round)
    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(operation.as_strategy(generation_mode=mode), st.integers(0, 9))
    def answered(case: schemathesis.Case, choice: int) -> None:
        if choice >= 5:  # what is there is asked for as often as what is not, and with a body that makes sense
            there = {name: ids[choice % len(ids)] for name, ids in known.items() if name in case.path_parameters}
            case.path_parameters.update(there)
            if mode is GenerationMode.POSITIVE:
                case.body = next((body for end, body in GOOD.items() if case.path.endswith(end)), case.body)
        sent[operation.label] += 1
        response = case.call()
        statuses[response.status_code] += 1
        if response.status_code >= 500:
            found = response.status_code, response.json()["code"]
            assert found in ANSWERS.get(operation.path, ()), response.text
        case.validate_response(response, checks=CHECKS)

    answered()


def test_the_document_is_openapi_3_1_with_examples(api: Any) -> None:
    document = api.raw_schema
    assert document["openapi"].startswith("3.1")
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert operation["description"], (method, path)
            problems = [status for status in operation["responses"] if status >= "400"]
            assert {"429", "500", "503"} <= set(problems)
            for status in problems:
                content = operation["responses"][status]["content"]
                assert list(content) == ["application/problem+json"], (method, path, status)
    for name in ("JobRequest", "JobOut", "ProblemOut", "InferRequest", "RunRequest", "SearchRequest"):
        assert document["components"]["schemas"][name]["examples"]
