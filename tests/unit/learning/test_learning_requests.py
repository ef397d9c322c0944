"""What clients and the learning worker say to each other: round trips, hostile messages, frames."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uqueue.learning import AsyncLearning, Learning
from uqueue.learning.calls import made
from uqueue_config.envelope import celery_message, read_for_celery
from uqueue_config.errors import InputError, InvalidMessage
from uqueue_config.learning import answers
from uqueue_config.learning.answers import (
    MEDIA_TYPES,
    Done,
    ReportFile,
    ReportFormat,
    RunDetails,
    RunSummary,
    frame_of,
    frame_of_error,
    opened,
)
from uqueue_config.learning.errors import ActiveLearningError, AnswerTooLarge, RunNotFound
from uqueue_config.learning.requests import (
    REQUESTS,
    AddFieldSamples,
    Ask,
    Evaluate,
    ListRuns,
    MakeReport,
    Request,
    SearchScenarios,
    ShowRun,
    StartRun,
)
from uqueue_config.learning.runs import Failure, RunConfig, RunRecord

TOKEN = "0123456789abcdef" * 2
TEXT = st.text(st.characters(min_codepoint=32, exclude_characters="\x7f", exclude_categories=["Cs"]), min_size=1)
ID = TEXT.filter(lambda text: len(text) <= 200)
NUMBERS = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
    max_leaves=8,
)
VALUES = st.dictionaries(TEXT, JSON, max_size=4)
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "configuration": VALUES,
    "filters": VALUES,
    "query": TEXT,
    "cursor": ID,
    "idempotency_key": st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=300),
    "limit": st.integers(1, 500),
    "cycle": st.integers(0, 1_000_000),
    "version": st.integers(1, 2**31 - 1),
    "format": st.sampled_from(get_args(ReportFormat)),
    "status": st.sampled_from(["pending", "waiting", "completed"]),
    "state": st.sampled_from(["proposed", "approved"]),
    "dataset": TEXT,
    "mapping": st.dictionaries(ID, ID, min_size=1, max_size=2),
}
TRACKED = RunRecord(
    run_id="run-1",
    config=RunConfig(max_cycles=3),
    config_hash="0" * 64,
    status="failed",
    error=Failure(code="queue_timeout", message="too slow"),
    created_at_utc=datetime(2026, 11, 21, tzinfo=UTC),
    updated_at_utc=datetime(2026, 11, 21, 1, tzinfo=UTC),
)


@st.composite
def requests(draw: st.DrawFn) -> Request[Any]:
    kind = draw(st.sampled_from(REQUESTS))
    if kind in (Evaluate, AddFieldSamples):
        given = {draw(st.sampled_from(["dataset", "samples"])): None}
        given = {"samples": draw(st.lists(VALUES, min_size=1, max_size=3))} if "samples" in given else {"dataset": "d"}
        return kind.model_validate(given if kind is Evaluate else {"run_id": draw(ID), **given})
    arguments = {}
    for name, field in kind.model_fields.items():
        if name != "kind" and (field.is_required() or draw(st.booleans())):
            arguments[name] = draw(FIELDS.get(name, ID))
    return kind(**arguments)


@given(requests())
def test_a_request_survives_queue_and_gate(request: Request[Any]) -> None:
    ask = Ask(token=TOKEN, request=request)  # type: ignore[arg-type]
    message = celery_message("j", "uqueue.learning.ask", ask.to_message(), queue="alm", argsrepr="…")
    _, kwargs = read_for_celery(message.encode())
    assert Ask.read(kwargs) == ask


HOSTILE: list[Any] = [
    {},
    {"kind": "drop_tables"},
    {"kind": "show_run"},
    {"kind": "show_run", "run_id": ""},
    {"kind": "show_run", "run_id": "a\x00b"},
    {"kind": "show_run", "run_id": "\ud800"},
    {"kind": "show_run", "run_id": "x" * 201},
    {"kind": "show_run", "run_id": 7},
    {"kind": "show_run", "run_id": "a", "more": 1},
    {"kind": "list_runs", "limit": 0},
    {"kind": "list_runs", "limit": 501},
    {"kind": "list_runs", "limit": True},
    {"kind": "list_runs", "limit": "50"},
    {"kind": "list_runs", "status": "deleted"},
    {"kind": "list_runs", "cursor": ""},
    {"kind": "list_runs", "cursor": "x" * 501},
    {"kind": "map_suggestion", "suggestion_id": "a"},
    {"kind": "map_suggestion", "suggestion_id": "a", "mapping": {}},
    {"kind": "map_suggestion", "suggestion_id": "a", "mapping": {"a": 1}},
    {"kind": "map_suggestion", "suggestion_id": "a", "mapping": {"a": "b\x00"}},
    {"kind": "map_suggestion", "suggestion_id": "a", "mapping": {"a": "b", "c": "d", "e": "f"}},
    {"kind": "make_report", "run_id": "a", "format": "exe"},
    {"kind": "start_run", "configuration": {"a": float("nan")}},
    {"kind": "start_run", "configuration": {"a": "x\x00"}},
    {"kind": "start_run", "configuration": {"\x00": 1}},
    {"kind": "start_run", "configuration": [1]},
    {"kind": "start_run", "idempotency_key": "é"},
    {"kind": "search_scenarios", "query": "x" * 1001},
    {"kind": "search_scenarios", "filters": {"deep": json.loads("[" * 100 + "]" * 100)}},
    {"kind": "restore_scenario", "scenario_id": "a", "version": 0},
    {"kind": "restore_scenario", "scenario_id": "a", "version": 2**31},
    {"kind": "evaluate"},
    {"kind": "evaluate", "dataset": "d", "samples": [{}]},
    {"kind": "evaluate", "samples": []},
    {"kind": "evaluate", "samples": [{}] * 10_001},
    {"kind": "evaluate", "dataset": "../../etc/passwd\n"},
    {"kind": "add_field_samples", "run_id": "a"},
    {"kind": "add_field_samples", "dataset": "d"},
    {"kind": "add_field_samples", "run_id": "a", "dataset": "d", "samples": [{}]},
    {"kind": "add_field_samples", "run_id": "a", "samples": [{}] * 10_001},
]


@pytest.mark.parametrize("request_", HOSTILE, ids=lambda one: json.dumps(one)[:40])
def test_what_is_no_request_is_refused_with_its_place(request_: Any) -> None:
    with pytest.raises(InvalidMessage, match="request"):
        Ask.read({"schema": 1, "token": TOKEN, "request": request_})


@pytest.mark.parametrize(
    "kwargs",
    [
        {},
        {"token": TOKEN},
        {"token": "../../x" * 5, "request": {"kind": "list_runs"}},
        {"token": TOKEN.upper(), "request": {"kind": "list_runs"}},
        {"token": TOKEN, "request": {"kind": "list_runs"}, "schema": 2},
        {"token": TOKEN, "request": {"kind": "list_runs"}, "reply_to": "predictions"},
    ],
)
def test_what_is_no_ask_is_refused(kwargs: dict[str, Any]) -> None:
    with pytest.raises(InvalidMessage):
        Ask.read(kwargs)


@given(st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()))
def test_a_frame_is_an_answer_or_an_error_of_ours(frame: bytes) -> None:
    with pytest.raises(ActiveLearningError):
        opened(frame)


def test_answers_and_errors_cross_redis() -> None:
    details = RunDetails(run=TRACKED)
    assert ShowRun(run_id="run-1").read_answer(opened(frame_of(details))) == details
    with pytest.raises(RunNotFound, match="no run x") as raised:
        opened(frame_of_error(RunNotFound(run_id="x")))
    assert raised.value.run_id == "x"


def test_an_answer_of_another_kind_is_an_error() -> None:
    with pytest.raises(ActiveLearningError, match="cannot be read"):
        ShowRun(run_id="run-1").read_answer(opened(frame_of(Done())))


def test_two_megabytes_of_report_fit_and_too_much_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    page = ReportFile(run_id="run-1", format="html", content="<p>“ä”</p>\n" * 200_000)
    assert MakeReport(run_id="run-1").read_answer(opened(frame_of(page))) == page
    monkeypatch.setattr(answers, "MAX_ANSWER_BYTES", 1_000_000)
    with pytest.raises(AnswerTooLarge, match="1000000 are allowed"):
        frame_of(page)


@pytest.mark.parametrize("format", get_args(ReportFormat))
def test_a_reports_name_is_safe(format: ReportFormat) -> None:
    page = ReportFile(run_id='../a"\r\nX: y', format=format, content="")
    assert page.file_name == f"learning-___a___X__y.{format}"
    assert page.media_type == MEDIA_TYPES[format]


def test_a_list_says_what_became_of_a_run() -> None:
    summary = RunSummary.of(TRACKED)
    assert (summary.status, summary.error, summary.max_cycles, summary.value) == ("failed", "too slow", 3, None)


def test_wrong_arguments_are_named_before_anything_is_sent() -> None:
    with pytest.raises(InputError, match=r"status: .*limit: .* 500") as raised:
        made(ListRuns, limit=1000, status="gone")
    assert "1000" not in str(raised.value)
    assert made(SearchScenarios, query=None, limit=None) == SearchScenarios()
    assert made(StartRun, configuration={"target_value": None}).configuration == {"target_value": None}


def test_both_clients_have_the_same_calls() -> None:
    def public(kind: type) -> set[str]:
        return {name for name in vars(kind) if not name.startswith("_")}

    assert public(Learning) == public(AsyncLearning)
    assert len(public(Learning)) == 20
