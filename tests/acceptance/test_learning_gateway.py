"""/learning over HTTP: a real gateway and a real Redis; the answers come from memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest

from builders.gateway import running_gateway
from builders.learning_answerer import answering
from builders.learning_models import samples
from builders.learning_services import (
    CREATE,
    IN_THE_TEST_SET,
    MAPS,
    MODIFY,
    OVER,
    SCENARIO,
    UNMAPPED,
    WAITS,
    services,
)
from uqueue.embedded import start_redis
from uqueue.gateway.keys import NewKey, append_key
from uqueue.local import child_environment
from uqueue_config.settings import Settings
from uqueue_worker.learning.answering import Services, answer

LARGE = "run-large"
PAGE = "<!doctype html><p>“ä”</p>\n" * 80_000


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, dict[str, str], Services]]:
    folder = tmp_path_factory.mktemp("learning")
    (folder / "home").mkdir()
    kept = services(folder)

    def report(run_id: str, format: Any) -> str:
        return PAGE if run_id == LARGE else kept.report(run_id, format)

    keys = {}
    for name, scopes in {"reader": ["read"], "sender": ["submit"], "admin": ["admin"]}.items():
        made = NewKey.make(name, scopes)  # type: ignore[arg-type]
        append_key(folder / "keys.toml", made.entry)
        keys[name] = made.secret
    with start_redis(folder / "redis") as redis:
        settings = Settings(broker_url=redis.url)  # type: ignore[arg-type]
        environment = child_environment(settings, {"HOME": str(folder / "home"), "PATH": "/usr/bin:/bin"})
        more = {"api_keys_file": str(folder / "keys.toml"), "gateway_wait_seconds": "9"}
        with running_gateway(environment, folder / "gateway", **more) as gateway:
            with answering(settings, lambda request: answer(request, replace(kept, report=report))):
                yield gateway.url, keys, kept
            found = httpx.get(f"{gateway.url}/learning/runs", headers=bearer(keys["reader"]), timeout=20)
            assert (found.status_code, found.json()["code"]) == (503, "no_learning_worker")
            assert int(found.headers["retry-after"]) > 0
            assert "celery -A uqueue_worker.learning.tasks worker" in found.json()["detail"]
            assert [line for line in gateway.lines if line["event"] == "unforeseen"] == []


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture
def admin(house: tuple[str, dict[str, str], Services]) -> Iterator[httpx.Client]:
    url, keys, _ = house
    with httpx.Client(base_url=f"{url}/learning", headers=bearer(keys["admin"]), timeout=20) as client:
        yield client


def problem(found: httpx.Response) -> tuple[int, str]:
    assert found.headers["content-type"] == "application/problem+json"
    return found.status_code, found.json()["code"]


def test_a_run_is_started_once_for_a_key(admin: httpx.Client) -> None:
    asked = {"configuration": {"max_cycles": 2, "target_value": None}}
    first = admin.post("/runs", json=asked, headers={"Idempotency-Key": "nightly"})
    assert first.status_code == 202
    run_id = first.json()["run"]["run_id"]
    assert first.headers["location"] == f"/learning/runs/{run_id}"
    assert (first.json()["created"], first.json()["run"]["idempotency_key"]) == (True, "nightly")
    again = admin.post("/runs", json=asked, headers={"Idempotency-Key": "nightly"})
    assert (again.json()["created"], again.json()["run"]["run_id"]) == (False, run_id)
    other = admin.post("/runs", json={"configuration": {"max_cycles": 3}}, headers={"Idempotency-Key": "nightly"})
    assert problem(other) == (409, "run_conflict")
    assert admin.get(f"/runs/{run_id}").json()["run"]["config"]["max_cycles"] == 2
    assert admin.post(f"/runs/{run_id}/cancel").json()["run"]["status"] == "cancelling"


def test_another_callers_key_is_another_run(house: tuple[str, dict[str, str], Services], admin: httpx.Client) -> None:
    url, keys, _ = house
    header = {"Idempotency-Key": "shared"}
    mine = admin.post("/runs", json={}, headers=header).json()
    yours = httpx.post(f"{url}/learning/runs", json={}, headers={**header, **bearer(keys["sender"])}, timeout=20).json()
    assert mine["run"]["run_id"] != yours["run"]["run_id"]


@pytest.mark.parametrize(
    ("body", "headers", "expected"),
    [
        ({"configuration": {"max_cycles": 0, "strategie": 1}}, {}, (422, "run_config_invalid")),
        ({"configuration": {"settings": {}, "self": 1}}, {}, (422, "run_config_invalid")),
        ({"configuration": [1]}, {}, (422, "invalid_request")),
        ({"config": {}}, {}, (422, "invalid_request")),
        ({}, {"Idempotency-Key": "x" * 300}, (400, "invalid_header")),
    ],
)
def test_a_run_that_cannot_be_is_refused(
    body: dict[str, Any], headers: dict[str, str], expected: tuple[int, str], admin: httpx.Client
) -> None:
    found = admin.post("/runs", json=body, headers=headers)
    assert problem(found) == expected
    if "strategie" in str(body):
        assert "max_cycles" in found.json()["detail"]
        assert "strategie" in found.json()["detail"]


def test_runs_are_listed_and_shown(admin: httpx.Client) -> None:
    listed = admin.get("/runs", params={"status": "completed"}).json()["runs"]
    assert [(one["run_id"], one["stop_reason"]) for one in listed] == [(OVER, "cycles_spent")]
    shown = admin.get(f"/runs/{OVER}").json()
    assert [cycle["cycle"] for cycle in shown["cycles"]] == [0, 1]
    spots = admin.get(f"/runs/{OVER}/weak-spots").json()
    assert (spots["cycle"], [spot["weakness_id"] for spot in spots["spots"]]) == (1, [f"rg_misc_{OVER}_1"])
    assert admin.get(f"/runs/{OVER}/weak-spots", params={"cycle": 0}).json()["cycle"] == 0
    page = admin.get("/runs", params={"limit": 1}).json()
    rest = admin.get("/runs", params={"cursor": page["next_cursor"]}).json()
    assert [*page["runs"], *rest["runs"]] == admin.get("/runs").json()["runs"]
    assert rest["next_cursor"] is None
    assert problem(admin.get("/runs", params={"cursor": "evil"})) == (422, "input")
    assert problem(admin.get("/runs", params={"status": "gone"})) == (422, "invalid_request")
    assert problem(admin.post(f"/runs/{OVER}/cancel")) == (409, "run_conflict")
    assert problem(admin.post(f"/runs/{OVER}/resume")) == (409, "run_conflict")


def test_reports_run_nothing_and_load_nothing(admin: httpx.Client) -> None:
    page = admin.get(f"/runs/{OVER}/report")
    assert page.headers["content-type"].startswith("text/html")
    assert page.text.startswith("<!doctype html>")
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:;")
    assert "script-src" not in policy
    assert "sandbox" in policy
    assert page.headers["x-content-type-options"] == "nosniff"
    data = admin.get(f"/runs/{OVER}/report", params={"format": "json"})
    assert data.headers["content-type"] == "application/json"
    assert json.loads(data.text)["run"]["run_id"] == OVER
    table = admin.get(f"/runs/{OVER}/report", params={"format": "csv"})
    assert table.headers["content-type"].startswith("text/csv")
    assert table.headers["content-disposition"] == f'attachment; filename="learning-{OVER}.csv"'
    assert problem(admin.get("/runs/none/report")) == (404, "run_not_found")


def test_a_page_of_two_megabytes_comes_whole(admin: httpx.Client) -> None:
    page = admin.get(f"/runs/{LARGE}/report")
    assert len(page.content) > 2_000_000
    assert page.text == PAGE


def test_suggestions_are_decided_once(admin: httpx.Client) -> None:
    proposed = admin.get(f"/runs/{WAITS}/suggestions", params={"state": "proposed"}).json()["suggestions"]
    assert [one["suggestion"]["suggestion_id"] for one in proposed] == [MODIFY, CREATE]
    first = admin.post(f"/suggestions/{MODIFY}/approve").json()
    assert (first["run_status"], first["suggestion"]["state"]) == ("waiting", "approved")
    last = admin.post(f"/suggestions/{CREATE}/reject").json()
    assert (last["run_status"], last["suggestion"]["state"]) == ("running", "rejected")
    assert problem(admin.post(f"/suggestions/{CREATE}/approve")) == (409, "run_conflict")
    assert problem(admin.post("/suggestions/sugg_000000000000/approve")) == (404, "suggestion_not_found")


def test_features_are_mapped_before_a_suggestion_is_approved(admin: httpx.Client) -> None:
    features = ("sensor_readings_map.readings.U30_BMI270.accel_z_g", "sample_metadata.U30_BMI270__tilt_degrees")
    where = f"/suggestions/{UNMAPPED}"
    assert problem(admin.post(f"{where}/approve")) == (409, "run_conflict")
    wrong = admin.post(f"{where}/map", json={"mapping": {features[0]: "environment.machines"}})
    assert problem(wrong) == (422, "mapping_invalid")
    assert "nearest are environment.machinery" in wrong.json()["detail"]
    for body in ({}, {"mapping": {}}, {"mapping": {"a": 1}}, {"mapping": {"a": "b"}, "more": 1}):
        assert problem(admin.post(f"{where}/map", json=body)) == (422, "invalid_request")
    mapping = dict(zip(features, ("environment.machinery", "environment.traffic"), strict=True))
    mapped = admin.post(f"{where}/map", json={"mapping": mapping}).json()
    assert (mapped["run_status"], mapped["suggestion"]["state"]) == ("waiting", "proposed")
    shown = admin.get(f"/runs/{MAPS}/suggestions").json()["suggestions"][0]["suggestion"]
    assert shown == mapped["suggestion"]
    assert admin.post(f"{where}/approve").json()["suggestion"]["state"] == "approved"
    assert problem(admin.post(f"{where}/map", json={"mapping": mapping})) == (409, "run_conflict")
    unknown = admin.post("/suggestions/sugg_000000000000/map", json={"mapping": mapping})
    assert problem(unknown) == (404, "suggestion_not_found")


def test_a_run_that_cannot_be_continued_is_refused(admin: httpx.Client) -> None:
    def started(**configuration: Any) -> tuple[int, str]:
        return problem(admin.post("/runs", json={"configuration": configuration}))

    assert started(continues="nothing") == (404, "run_not_found")
    assert started(continues=OVER) == (409, "run_conflict")
    assert started(continues=OVER, test_samples=5) == (422, "run_config_invalid")


def test_a_model_is_evaluated_on_samples_that_come_along(admin: httpx.Client) -> None:
    sent = json.loads(json.dumps(samples(30, seed=5), default=lambda moment: moment.isoformat()))
    found = admin.post("/feedback", json={"samples": sent})
    assert found.status_code == 200, found.text
    assert found.json()["n_samples"] == 30
    assert 0.5 < found.json()["overall_metrics"]["accuracy"] <= 1
    assert set(found.json()["per_class_metrics"]) == {"NORMAL", "SMOKE", "ARC"}


def in_the_field(*names: str) -> list[dict[str, Any]]:
    labelled = {"extracted_class_label": "ARC", "sensor_readings_map": {"readings": {}}}
    return [{**labelled, "sample_id": name, "generation_timestamp_utc": "2026-03-02T09:00:00Z"} for name in names]


def test_a_run_takes_samples_from_the_field_once(admin: httpx.Client) -> None:
    first = admin.post(f"/runs/{MAPS}/feedback", json={"samples": in_the_field("gate-1", "gate-2")})
    assert (first.status_code, first.json()) == (200, {"run_id": MAPS, "taken": 2, "known": 0, "cycle": 1})
    again = admin.post(f"/runs/{MAPS}/feedback", json={"samples": in_the_field("gate-2", "gate-3")})
    assert (again.json()["taken"], again.json()["known"]) == (1, 1)


@pytest.mark.parametrize(
    ("run_id", "body", "expected"),
    [
        (OVER, {"samples": in_the_field("a")}, (409, "run_conflict")),
        ("none", {"samples": in_the_field("a")}, (404, "run_not_found")),
        (MAPS, {"samples": in_the_field("a", IN_THE_TEST_SET)}, (422, "dataset_format")),
        (MAPS, {"samples": [{"sample_id": "a"}]}, (422, "dataset_format")),
        (MAPS, {"samples": []}, (422, "invalid_request")),
        (MAPS, {"dataset": "/etc/passwd"}, (422, "dataset_not_found")),
        (MAPS, {}, (422, "input")),
        (MAPS, {"dataset": "x", "model_version": "3"}, (422, "invalid_request")),
    ],
)
def test_samples_from_the_field_are_refused_with_a_reason(
    run_id: str, body: dict[str, Any], expected: tuple[int, str], admin: httpx.Client
) -> None:
    assert problem(admin.post(f"/runs/{run_id}/feedback", json=body)) == expected


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"dataset": "/etc/passwd"}, "dataset_not_found"),
        ({"dataset": "../../etc/passwd"}, "dataset_not_found"),
        ({"samples": [{}]}, "feature_mismatch"),
        ({"samples": [{"sample_id": "a"}], "model_version": "../../x"}, "model_version_not_found"),
        ({}, "input"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(body: dict[str, Any], code: str, admin: httpx.Client) -> None:
    status, found = problem(admin.post("/feedback", json=body))
    assert status == 422
    assert found == code or found in ("dataset_format", "empty_dataset")


def test_scenarios_are_found_and_brought_back(admin: httpx.Client) -> None:
    found = admin.get("/scenarios", params={"query": "humid"}).json()
    assert [one["scenario_definition_id"] for one in found["scenarios"]] == [SCENARIO]
    page = admin.get("/scenarios", params={"limit": 1}).json()
    rest = admin.get("/scenarios", params={"limit": 1, "cursor": page["next_cursor"]}).json()
    assert page["scenarios"] != rest["scenarios"]
    wanted = {"parameters": [{"path": "environment.relative_humidity_percent", "op": "gt", "value": 90}]}
    searched = admin.post("/scenarios/search", json={"filters": wanted}).json()["scenarios"]
    assert [one["scenario_definition_id"] for one in searched] == [SCENARIO]
    history = admin.get(f"/scenarios/{SCENARIO}/history").json()["versions"]
    assert [(one["version"], one["operation"]) for one in history] == [(2, "update"), (1, "insert")]
    restored = admin.post(f"/scenarios/{SCENARIO}/restore", json={"version": 1}).json()
    assert restored["version"] == 3
    assert admin.get(f"/scenarios/{SCENARIO}", params={"version": 2}).json()["description"].startswith("Corona in very")
    assert admin.post("/scenarios/corona-dry/archive").json() == {"done": True}
    assert "corona-dry" not in admin.get("/scenarios").text


@pytest.mark.parametrize(
    ("method", "path", "options", "expected"),
    [
        ("GET", "/scenarios/none", {}, (404, "scenario_not_found")),
        ("GET", "/scenarios/none/history", {}, (404, "scenario_not_found")),
        ("POST", "/scenarios/none/archive", {}, (404, "scenario_not_found")),
        ("POST", "/scenarios/none/restore", {"json": {"version": 1}}, (404, "scenario_not_found")),
        ("POST", f"/scenarios/{SCENARIO}/restore", {"json": {"version": 99}}, (404, "scenario_not_found")),
        ("POST", f"/scenarios/{SCENARIO}/restore", {"json": {"version": "1"}}, (422, "invalid_request")),
        ("GET", "/scenarios", {"params": {"cursor": "evil"}}, (422, "scenario_invalid")),
        ("POST", "/scenarios/search", {"json": {"filters": {"1=1; --": 1}}}, (422, "scenario_invalid")),
        ("POST", "/scenarios/search", {"json": {"query": "a\x00"}}, (422, "invalid_request")),
        ("GET", "/scenarios/%27%3B%20DROP%20TABLE%20x", {}, (404, "scenario_not_found")),
        ("GET", "/runs/a%00b", {}, (422, "input")),
        ("GET", f"/runs/{'x' * 201}", {}, (422, "invalid_request")),
        ("GET", "/runs/..%2F..%2Fetc", {}, (404, "not_found")),
        ("GET", "/runs/none", {}, (404, "run_not_found")),
        ("DELETE", f"/runs/{OVER}", {}, (405, "method_not_allowed")),
    ],
)
def test_hostile_and_wrong_requests_are_told_apart(
    method: str, path: str, options: dict[str, Any], expected: tuple[int, str], admin: httpx.Client
) -> None:
    assert problem(admin.request(method, path, **options)) == expected


@pytest.mark.parametrize(
    ("key", "method", "path", "allowed"),
    [
        ("reader", "GET", "/runs", True),
        ("reader", "GET", f"/runs/{OVER}/report", True),
        ("reader", "POST", "/runs", False),
        ("reader", "POST", f"/suggestions/{MODIFY}/approve", False),
        ("sender", "GET", "/runs", False),
        ("sender", "POST", f"/suggestions/{MODIFY}/approve", False),
        ("sender", "POST", f"/suggestions/{UNMAPPED}/map", False),
        ("sender", "POST", f"/scenarios/{SCENARIO}/archive", False),
        ("sender", "POST", f"/runs/{OVER}/resume", True),
        ("reader", "POST", f"/runs/{OVER}/feedback", False),
        ("sender", "POST", f"/runs/{OVER}/feedback", True),
    ],
)
def test_keys_open_what_their_scopes_say(
    key: str, method: str, path: str, allowed: bool, house: tuple[str, dict[str, str], Services]
) -> None:
    url, keys, _ = house
    found = httpx.request(method, f"{url}/learning{path}", headers=bearer(keys[key]), timeout=20)
    assert (found.status_code != 403) == allowed
    assert httpx.request(method, f"{url}/learning{path}").status_code == 401
