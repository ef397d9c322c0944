"""Webhooks over real HTTP: signed, tried again, never sent inside, and not lost with the gateways."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from builders.artifacts import write_workspace
from builders.gateway import RunningGateway, running_gateway
from builders.service import RunningService, running_service
from builders.waiting import eventually
from builders.webhook_receiver import Receiver, webhook_receiver
from uqueue import Client
from uqueue.embedded import start_redis
from uqueue.gateway.webhooks_signing import new_secret
from uqueue.local import child_environment
from uqueue_config.settings import Settings

ROW = [0.98, 514.5, 294.0, 110.25, 7.0, 2, 0.0, 0]
OLD, NEW = new_secret(), new_secret()
INSIDE = {"webhook_allow_http": "on", "webhook_allow_private": "on"}
QUICK = {"webhook_retry_seconds": "0.2", "webhook_tries": "3", "webhook_timeout_seconds": "2"}


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with webhook_receiver() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def secrets_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("secrets") / "secrets"
    file.write_text(f"{OLD}\n{NEW}\n")
    return file


@pytest.fixture(scope="module")
def town(
    tmp_path_factory: pytest.TempPathFactory, secrets_file: Path
) -> Iterator[tuple[RunningService, RunningGateway]]:
    folder = tmp_path_factory.mktemp("webhooks")
    write_workspace(folder / "workspace")
    own = {**INSIDE, **QUICK, "webhook_secrets_file": str(secrets_file)}
    with (
        running_service(folder / "service", workspace=folder / "workspace", concurrency=1, beat=False) as service,
        running_gateway(service.environment, folder / "gateway", **own) as gateway,
    ):
        yield service, gateway


@pytest.fixture
def service(town: tuple[RunningService, RunningGateway]) -> RunningService:
    return town[0]


@pytest.fixture
def gateway(town: tuple[RunningService, RunningGateway]) -> RunningGateway:
    return town[1]


@pytest.fixture
def http(gateway: RunningGateway) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=gateway.url, timeout=40) as client:
        yield client


def submit(http: httpx.Client, url: str, **members: Any) -> dict[str, Any]:
    accepted = http.post("/v1/jobs", json={"features": [ROW], "webhook": {"url": url}, **members})
    assert accepted.status_code == 202, accepted.text
    return dict(accepted.json())


def webhook_of(http: httpx.Client, job: dict[str, Any]) -> dict[str, Any]:
    return dict(http.get(job["links"]["self"]).json()["webhook"])


def refused(http: httpx.Client, url: str) -> str:
    answer = http.post("/v1/jobs", json={"features": [ROW], "webhook": {"url": url}})
    assert answer.status_code == 422, answer.text
    return str(answer.json()["code"])


def test_the_end_is_told_and_signed_with_every_secret(
    http: httpx.Client, gateway: RunningGateway, receiver: Receiver, secrets_file: Path
) -> None:
    job = submit(http, f"{receiver.url}/fine?token=hidden")
    eventually(lambda: receiver.at("/fine?token=hidden"), "the end is told")
    (told,) = receiver.at("/fine?token=hidden")
    assert told.is_signed_with(OLD)
    assert told.is_signed_with(NEW)
    assert not told.is_signed_with(new_secret())
    assert told.headers["content-type"] == "application/json"
    assert abs(int(told.headers["webhook-timestamp"]) - time.time()) < 60
    body = json.loads(told.body)
    assert body["type"] == "job.succeeded"
    assert body["data"] == {"id": job["id"], "state": "succeeded", "error": None, "links": job["links"]}
    eventually(lambda: webhook_of(http, job)["state"] == "delivered", "it is noted")
    assert webhook_of(http, job)["tries"] == 1

    secrets_file.write_text(f"{NEW}\n")  # the old one has been replaced everywhere
    submit(http, f"{receiver.url}/rotated")
    eventually(lambda: receiver.at("/rotated"), "the end is told")
    (told,) = receiver.at("/rotated")
    assert told.is_signed_with(NEW)
    assert not told.is_signed_with(OLD)
    log = gateway.service.log_text()
    assert [word for word in (OLD, NEW, OLD[6:], "token=hidden") if word in log] == []


def test_what_fails_is_tried_again_with_the_same_body(http: httpx.Client, receiver: Receiver) -> None:
    receiver.answers["/again"] = [(500, {}), (503, {"Retry-After": "1"})]
    job = submit(http, f"{receiver.url}/again", model="nobody")
    eventually(lambda: webhook_of(http, job)["state"] == "delivered", "the third try succeeds")
    first, second, third = receiver.at("/again")
    assert first.body == second.body == third.body
    assert json.loads(first.body)["data"]["error"]["code"] == "unknown_model"
    assert len({one.headers["webhook-id"] for one in (first, second, third)}) == 1
    stamps = [int(one.headers["webhook-timestamp"]) for one in (first, second, third)]
    assert stamps[2] > stamps[1]  # it was asked to wait, and the time is signed anew
    assert all(one.is_signed_with(NEW) for one in (first, second, third))


def test_tries_are_bounded_and_redirects_not_followed(
    http: httpx.Client, gateway: RunningGateway, receiver: Receiver
) -> None:
    receiver.answers["/elsewhere"] = [(307, {"Location": f"{receiver.url}/trap"})] * 5
    receiver.answers["/gone"] = [(410, {})]
    elsewhere, gone = (submit(http, f"{receiver.url}{path}") for path in ("/elsewhere", "/gone"))
    eventually(lambda: webhook_of(http, elsewhere)["state"] == "failed", "it is given up")
    eventually(lambda: webhook_of(http, gone)["state"] == "failed", "it is given up")
    assert (len(receiver.at("/elsewhere")), len(receiver.at("/gone")), len(receiver.at("/trap"))) == (3, 1, 0)
    shown = webhook_of(http, elsewhere)
    assert (shown["tries"], shown["status"], shown["next_at"]) == (3, 307, None)
    assert "redirects are not followed" in shown["reason"]
    metrics = http.get("/metrics").text
    counts = dict(re.findall(r'^uqueue_webhooks_total\{outcome="(\w+)"\} (\S+)$', metrics, re.M))
    assert float(counts["failed"]) >= 2
    assert float(counts["retry"]) >= 2
    lines = [line for line in gateway.lines if line["event"] == "webhook_failed" and line["job_id"] == gone["id"]]
    assert (lines[0]["status"], lines[0]["level"]) == (410, "error")


def test_one_job_has_one_webhook(http: httpx.Client, receiver: Receiver) -> None:
    def post(path: str | None, seed: int = 1) -> httpx.Response:
        webhook = {"webhook": {"url": f"{receiver.url}{path}"}} if path else {}
        headers = {"Idempotency-Key": "order-18"}
        return http.post("/v1/jobs", json={"features": [ROW], "seed": seed, **webhook}, headers=headers)

    first = post("/once")
    assert (first.status_code, post("/once").json()["id"]) == (202, first.json()["id"])
    for other in (post("/other"), post("/once", seed=2)):
        assert (other.status_code, other.json()["code"]) == (409, "idempotency_conflict")
        assert "'order-18'" in other.json()["detail"]
    eventually(lambda: webhook_of(http, first.json())["state"] == "delivered", "the end is told")
    assert (len(receiver.at("/once")), len(receiver.at("/other"))) == (1, 0)
    plain = http.post("/v1/jobs", json={"features": [ROW]}).json()
    assert http.get(plain["links"]["self"]).json().get("webhook") is None


def test_webhooks_outlive_all_gateways(receiver: Receiver, tmp_path: Path) -> None:
    own = {**INSIDE, **QUICK, "webhook_secrets": NEW}
    with start_redis(tmp_path / "redis") as redis:
        settings = Settings.load({"UQUEUE_BROKER_URL": redis.url})
        environment = child_environment(settings, os.environ)
        with (
            running_gateway(environment, tmp_path / "first", **own) as gateway,
            httpx.Client(base_url=gateway.url, timeout=40) as http,
        ):
            jobs = [submit(http, f"{receiver.url}/survives") for _ in range(5)]
            gateway.service.send(9)
            eventually(lambda: gateway.service.returncode is not None, "it is dead")
        with Client(settings) as client:
            for job in jobs:
                assert client.job(job["id"]).cancel().state == "cancelled"
        with running_gateway(environment, tmp_path / "second", **own):
            eventually(lambda: len(receiver.at("/survives")) >= 5, "all are told")
    bodies = [json.loads(one.body) for one in receiver.at("/survives")]
    assert {body["data"]["id"] for body in bodies} == {job["id"] for job in jobs}
    assert {(body["type"], body["data"]["error"]["code"]) for body in bodies} == {("job.cancelled", "job_cancelled")}


def test_targets_inside_are_refused(receiver: Receiver, tmp_path: Path) -> None:
    port = receiver.url.rpartition(":")[2]
    with (
        start_redis(tmp_path / "redis") as redis,  # of its own: any gateway of a Redis tells what is to be told
        running_gateway(
            child_environment(Settings.load({"UQUEUE_BROKER_URL": redis.url}), os.environ),
            tmp_path / "strict",
            webhook_secrets=NEW,
            **QUICK,
        ) as gateway,
        httpx.Client(base_url=gateway.url, timeout=40) as http,
    ):
        for url in (receiver.url, f"https://127.0.0.1:{port}/", "https://[::ffff:10.0.0.1]/", "https://localhost/"):
            assert refused(http, url) == "invalid_webhook"
        job = submit(http, f"https://0x7f000001:{port}/")  # a name for the resolver: it is checked when it is used
        assert http.delete(job["links"]["self"]).json()["state"] == "cancelled"
        eventually(lambda: webhook_of(http, job)["state"] == "failed", "it is refused")
        assert webhook_of(http, job)["reason"] == "its name leads to no address of the internet"
