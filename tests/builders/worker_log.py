"""What a worker logged of one job."""

from __future__ import annotations

import json
import uuid
from typing import Any

import httpx

from builders.gateway import RunningGateway
from builders.service import RunningService
from builders.waiting import eventually
from uqueue_config.envelope import celery_message
from uqueue_config.names import Queue, Task
from uqueue_config.trace import trace_facts

ROW = [0.98, 514.5, 294.0, 110.25, 7.0, 2, 0.0, 0]
TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
SENT = {"traceparent": f"00-{TRACE_ID}-00f067aa0ba902b7-01", "Prefer": "wait=20"}


def log_of_job(service: RunningService, job_id: str) -> list[dict[str, Any]]:
    """Return the facts of the worker's lines of a job; what a line says of a batch stands in lists beside `job_ids`."""
    text = service.services["worker"].log_text()
    lines = [json.loads(line) for line in text.splitlines()[: text.count("\n")] if line.startswith("{")]
    return [facts for line in lines if (facts := _facts(line, job_id)) is not None]


def _facts(line: dict[str, Any], job_id: str) -> dict[str, Any] | None:
    if job_id in line.get("job_ids", ()):
        at = line["job_ids"].index(job_id)
        return trace_facts({name: line.get(f"{name}s", {at: None})[at] for name in ("traceparent", "request_id")})
    return line if line.get("job_id") == job_id else None


def check_traces(service: RunningService, gateway: RunningGateway) -> None:
    """Assert that the worker's log says of each job which HTTP request it comes from, and says nothing else."""
    with httpx.Client(base_url=gateway.url, timeout=40) as http:
        good = http.post("/v1/jobs", json={"features": [ROW]}, headers={**SENT, "X-Request-Id": "a-good-one"})
        job = {"features": [ROW], "model": "nobody"}
        bad = http.post("/v1/jobs", json=job, headers={**SENT, "X-Request-Id": "a-bad-one"})
    assert (good.status_code, bad.status_code) == (200, 422)
    for answer in (good, bad):
        request_id, span_id = answer.headers["x-request-id"], answer.headers["traceparent"].split("-")[2]
        expected = {"trace_id": TRACE_ID, "span_id": span_id, "request_id": request_id}
        eventually(lambda request_id=request_id: gateway.requests(request_id=request_id), "its line is written")
        job_id = gateway.requests(request_id=request_id)[0]["job_id"]
        eventually(lambda job_id=job_id: log_of_job(service, job_id), "the job is in the log")
        for line in log_of_job(service, job_id):
            assert expected.items() <= line.items(), line
    for job_id in (service.client.submit([ROW]).id, send_hostile_headers(service)):
        service.client.job(job_id).result(timeout=20)
        eventually(lambda job_id=job_id: log_of_job(service, job_id), "the job is in the log")
        for line in log_of_job(service, job_id):
            assert not expected.keys() & line.keys(), line


def send_hostile_headers(service: RunningService) -> str:
    """Send a job with headers that are no trace; returns its id."""
    job_id = str(uuid.uuid4())
    message = celery_message(job_id, Task.PREDICT, {"features": [ROW]}, queue=Queue.PREDICTIONS, argsrepr="")
    evil = '"traceparent":{"x":["evil"]},"request_id":"a b\\u0000","lang"'
    service.client._parts()[1].connection.lpush(Queue.PREDICTIONS, message.replace('"lang"', evil))
    eventually(lambda: service.client._read(job_id, with_result=False), "it was taken")
    return job_id
