"""The OpenAPI document against the running gateway: whatever it allows or forbids is answered as documented."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from builders.artifacts import write_workspace
from builders.gateway import running_gateway
from builders.service import running_service

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    unsupported_method,
]
#: Requests for each operation, good ones, and as many bad ones.
EXAMPLES = 20
#: These say 503 where a version is not served, which is their answer and no fault; they wait for a worker otherwise.
MAY_BE_UNREADY = ("/v2/models/{model}/ready", "/v2/models/{model}/versions/{version}/ready")


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("openapi")
    write_workspace(folder / "workspace")
    with (
        running_service(folder / "service", workspace=folder / "workspace", concurrency=1) as service,
        running_gateway(service.environment, folder / "gateway", gateway_wait_seconds="2") as gateway,
    ):
        yield schemathesis.openapi.from_url(f"{gateway.url}/openapi.json")
        assert gateway.service.returncode is None
        assert [line for line in gateway.lines if line["event"] == "unforeseen"] == []


def test_requests_are_answered_as_documented(api: Any) -> None:
    sent: dict[str, int] = {}
    for found in api.exclude(path_regex="/(events|reload)$").get_all_operations():
        operation = found.ok()
        for mode in GenerationMode:
            with contextlib.suppress(Unsatisfiable):  # an operation without parameters cannot be asked wrongly
                try_out(operation, mode, sent)
    assert sent["POST /v1/jobs"] >= 2 * EXAMPLES
    assert sum(sent.values()) >= 300, sent


def try_out(operation: Any, mode: GenerationMode, sent: dict[str, int]) -> None:
    checks = CHECKS[1:] if operation.path in MAY_BE_UNREADY else CHECKS

    @settings(max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(operation.as_strategy(generation_mode=mode))
    def answered(case: schemathesis.Case) -> None:
        sent[operation.label] = sent.get(operation.label, 0) + 1
        case.call_and_validate(checks=checks)

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
    for name in ("JobRequest", "JobOut", "ProblemOut", "InferRequest"):
        assert document["components"]["schemas"][name]["examples"]
