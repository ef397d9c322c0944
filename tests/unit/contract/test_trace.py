"""Traces in messages: carried for those who send them, without a trace of them for those who do not."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders.hostile import Target
from uqueue.submission import prepare
from uqueue_config.envelope import celery_message, read_for_celery, read_headers
from uqueue_config.names import Queue, Task
from uqueue_config.settings import Settings
from uqueue_config.template import template
from uqueue_config.trace import TraceContext, current_trace, trace_facts

TRACE_ID, SPAN_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE_ID}-{SPAN_ID}-01"
FACTS = {"trace_id": TRACE_ID, "span_id": SPAN_ID, "request_id": "request-7"}
TRACE = TraceContext(TRACEPARENT, "request-7")


@pytest.mark.parametrize("trace", [TRACE, TraceContext(TRACEPARENT), TraceContext(None, "r"), TraceContext(), None])
def test_a_template_writes_what_celery_message_writes(trace: TraceContext | None) -> None:
    shown = "{'model': '\"headers\":{'}"
    written = template("uqueue.predict", "predictions", shown).message("id-1", '{"features":[[1.5]]}', trace)
    expected = celery_message(
        *("id-1", "uqueue.predict", {"features": [[1.5]]}),
        queue="predictions",
        argsrepr=shown,
        delivery_tag="id-1",
        trace=trace,
    )
    assert json.loads(written) == json.loads(expected)
    for headers in (read_headers(written)[0], read_for_celery(written)[0]["headers"]):
        assert trace_facts(headers) == trace_facts(trace.headers if trace else {})


def test_jobs_carry_the_trace_they_were_submitted_under_and_stay_the_same_request() -> None:
    def application() -> Any:
        return prepare(Settings(), [[1.0, 2.0]], "m", idempotency_key="k").applications[0]

    plain = application()
    token = current_trace.set(TRACE)
    try:
        traced = application()
    finally:
        current_trace.reset(token)
    assert (traced.job_id, traced.digest) == (plain.job_id, plain.digest)
    assert trace_facts(read_headers(traced.message)[0]) == FACTS
    assert trace_facts(read_headers(plain.message)[0]) == {}
    assert b"traceparent" not in plain.message


@pytest.mark.parametrize(
    "value",
    [None, 7, "", "x" * 60_000, f"{TRACEPARENT}\n", TRACEPARENT.upper(), f"{TRACEPARENT}-more", {"__type__": 1}, [[]]],
    ids=lambda value: repr(value)[:20],
)
@pytest.mark.parametrize("name", ["traceparent", "request_id"])
def test_what_is_malformed_is_dropped_and_the_job_goes_on(name: str, value: Any) -> None:
    if name == "request_id" and value in (TRACEPARENT.upper(), f"{TRACEPARENT}-more"):
        value = "not an id"
    message = Target(Queue.PREDICTIONS).changed(f"headers.{name}", value)
    assert name not in read_headers(message)[0]
    assert name not in read_for_celery(message)[0]["headers"]


def test_celery_programs_may_send_them_too() -> None:
    message = Target(Queue.PREDICTIONS).changed("headers.traceparent", TRACEPARENT)
    assert trace_facts(read_headers(message)[0]) == {"trace_id": TRACE_ID, "span_id": SPAN_ID}


@given(st.text(max_size=80) | st.none(), st.text(max_size=200) | st.none())
def test_any_text_makes_a_good_message(traceparent: str | None, request_id: str | None) -> None:
    trace = TraceContext(traceparent, request_id)
    message = template(Task.PREDICT, Queue.PREDICTIONS, "shown").message("id-1", "{}", trace)
    headers = read_headers(message)[0]
    assert {name: headers[name] for name in trace.headers} == trace.headers
    assert set(trace.headers.values()) <= {traceparent, request_id}
