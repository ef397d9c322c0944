"""What the gateway keeps out: strangers, floods, large and slow bodies, and what it does when Redis is away."""

from __future__ import annotations

import os
import select
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from builders.command import uqueue
from builders.gateway import RunningGateway, running_gateway
from builders.guarded_redis import guarded_redis
from builders.waiting import eventually
from builders.webhook_receiver import webhook_receiver
from uqueue.embedded import EmbeddedRedis, start_redis
from uqueue.gateway.webhooks_signing import new_secret
from uqueue.local import child_environment
from uqueue_config.names import MODELS_KEY
from uqueue_config.settings import Settings

JOB = {"features": [[1.0, 2.0]]}


@contextmanager
def gateway_alone(folder: Path, **settings: str) -> Iterator[tuple[EmbeddedRedis, RunningGateway, dict[str, str]]]:
    """A gateway before a Redis without workers."""
    with start_redis(folder / "redis") as redis:
        environment = child_environment(Settings.load({"UQUEUE_BROKER_URL": redis.url}), os.environ)
        with running_gateway(environment, folder / "gateway", **settings) as gateway:
            yield redis, gateway, environment


def code(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    return answer.status_code, answer.json()["code"]


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def make_key(environment: dict[str, str], file: Path, name: str, *scopes: str) -> str:
    options = [part for scope in scopes for part in ("--scope", scope)]
    return uqueue(environment, "gateway", "new-key", name, "--file", str(file), *options).stdout.strip()


def send_headers_for_ever(connection: socket.socket) -> None:
    for number in range(10_000):
        connection.sendall(b"X-%d: %b\r\n" % (number, b"x" * 1000))
        time.sleep(0.001)


@pytest.fixture(scope="module")
def plain_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("UQUEUE_")}


def test_keys_and_scopes(plain_environment: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "keys.toml"
    keys = {name: make_key(plain_environment, file, name, name) for name in ("submit", "read", "admin")}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with (
        gateway_alone(tmp_path, api_keys_file=str(file)) as (_, gateway, _),
        httpx.Client(base_url=gateway.url) as http,
    ):
        for path in ("/health", "/v2/health/live", "/openapi.json"):
            assert http.get(path).status_code == 200
        refused = http.post("/v1/jobs", json=JOB)
        assert code(refused) == (401, "unauthorized")
        assert refused.headers["www-authenticate"].startswith("Bearer")
        for path in ("/nowhere", "/metrics", "/v1/models", "/v2/models/x"):
            assert code(http.get(path)) == (401, "unauthorized")
        assert code(http.get("/v1/models", headers=bearer(keys["read"][:-1] + "!"))) == (401, "unauthorized")

        accepted = http.post("/v1/jobs", json=JOB, headers=bearer(keys["submit"]))
        assert accepted.status_code == 202
        job = accepted.headers["location"]
        assert code(http.get(job, headers=bearer(keys["submit"]))) == (403, "forbidden")
        assert http.get(job, headers={"X-API-Key": keys["read"]}).status_code == 200
        assert code(http.post("/v1/jobs", json=JOB, headers=bearer(keys["read"]))) == (403, "forbidden")
        assert code(http.delete(job, headers=bearer(keys["read"]))) == (403, "forbidden")
        assert code(http.post("/v1/models/m/reload", headers=bearer(keys["submit"]))) == (403, "forbidden")
        assert code(http.post("/v1/models/m/reload", headers=bearer(keys["admin"]))) == (404, "unknown_model")
        assert http.get("/metrics", headers=bearer(keys["admin"])).status_code == 200
        assert http.delete(job, headers=bearer(keys["admin"])).json()["state"] == "cancelled"

        late = make_key(plain_environment, file, "late", "read")
        assert http.get("/v1/models", headers=bearer(late)).status_code == 200
        document = http.get("/openapi.json").json()
        assert document["paths"]["/v1/jobs"]["post"]["security"] == [{"HTTPBearer": []}]
        assert "security" not in document["paths"]["/health"]["get"]
        log = gateway.service.log_text()
        assert [name for name, key in keys.items() if key in log or key.split("_", 2)[2] in log] == []
        assert gateway.requests(key=keys["read"].split("_")[1], status=200)


def test_two_keys_may_use_one_idempotency_key(plain_environment: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "keys.toml"
    one, other = (make_key(plain_environment, file, name) for name in ("one", "other"))
    with (
        gateway_alone(tmp_path, api_keys_file=str(file)) as (_, gateway, _),
        httpx.Client(base_url=gateway.url) as http,
    ):

        def submit(key: str, seed: int) -> httpx.Response:
            headers = {**bearer(key), "Idempotency-Key": "order-17"}
            return http.post("/v1/jobs", json={**JOB, "seed": seed}, headers=headers)

        assert submit(one, 1).json()["id"] != submit(other, 2).json()["id"]
        assert submit(one, 1).json()["id"] == submit(one, 1).json()["id"]
        conflict = submit(one, 2)
        assert code(conflict) == (409, "idempotency_conflict")
        assert "'order-17'" in conflict.json()["detail"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--address", "0.0.0.0"], "uqueue gateway new-key"),
        (["new-key", "robtrack"], "UQUEUE_API_KEYS_FILE"),
        (["new-key", "robtrack", "--file", "/nowhere/keys"], "/nowhere/keys"),
        (["new-key", "rob\ntrack", "--file", "keys"], "NAME"),
        (["new-key", "robtrack", "--scope", "root", "--file", "keys"], "root"),
    ],
)
def test_wrong_usage_is_a_sentence(arguments: list[str], complaint: str, plain_environment: dict[str, str]) -> None:
    outcome = uqueue(plain_environment, "gateway", *arguments, code=2)
    assert complaint in outcome.stderr.replace("\n", " ")
    assert outcome.stdout == ""


def test_a_port_that_is_taken_ends_with_1(plain_environment: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [sys.executable, "-m", "uqueue", "gateway", "--port", port],
            env=plain_environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.returncode == 1
    assert "address already in use" in done.stderr
    assert "Traceback" not in done.stderr


def test_floods_and_large_bodies(tmp_path: Path) -> None:
    limits = {"gateway_rate": "0.5", "gateway_burst": "4", "gateway_max_body_bytes": "2000"}
    with gateway_alone(tmp_path, **limits) as (_, gateway, _), httpx.Client(base_url=gateway.url) as http:
        many = {"features": [[1.0] * 1000]}
        assert code(http.post("/v1/jobs", json=many)) == (413, "body_too_large")
        in_pieces = http.post("/v1/jobs", content=iter([b"[" * 1500, b"[" * 1500]))
        assert code(in_pieces) == (413, "body_too_large")
        assert http.post("/v1/jobs", json=JOB).status_code == 202
        assert http.post("/v1/jobs", json=JOB).status_code == 202
        refused = http.post("/v1/jobs", json=JOB)
        assert code(refused) == (429, "rate_limited")
        assert int(refused.headers["retry-after"]) >= 1
        assert http.get("/health").status_code == 200


def test_slow_bodies_end_and_do_not_hold_others_up(tmp_path: Path) -> None:
    with (
        gateway_alone(tmp_path, gateway_body_seconds="2") as (_, gateway, _),
        httpx.Client(base_url=gateway.url) as http,
        ExitStack() as stack,
    ):
        place = urlsplit(gateway.url)
        head = (
            f"POST /v1/jobs HTTP/1.1\r\nHost: {place.netloc}\r\nContent-Type: application/json\r\n"
            "Content-Length: 100\r\n\r\n{"
        )
        slow = [
            stack.enter_context(socket.create_connection((place.hostname, place.port), timeout=20)) for _ in range(50)
        ]
        for one in slow:
            one.sendall(head.encode())
        for _ in range(20):
            assert http.post("/v1/jobs", json=JOB).status_code == 202
        for one in slow:
            answer = one.makefile("rb").read().decode()
            assert answer.startswith("HTTP/1.1 408 ")
            assert '"code":"body_timeout"' in answer


def test_clients_that_drip_do_not_hold_others_up(tmp_path: Path) -> None:
    """Every byte comes in time for the one before; the whole body does not."""
    with (
        gateway_alone(tmp_path, gateway_body_seconds="3") as (_, gateway, _),
        httpx.Client(base_url=gateway.url) as http,
        ExitStack() as stack,
    ):
        place = urlsplit(gateway.url)
        head = (
            f"POST /v1/jobs HTTP/1.1\r\nHost: {place.netloc}\r\nContent-Type: application/json\r\n"
            "Transfer-Encoding: chunked\r\n\r\n"
        )
        slow = [
            stack.enter_context(socket.create_connection((place.hostname, place.port), timeout=20)) for _ in range(50)
        ]
        for one in slow:
            one.sendall(head.encode())
        answered, cut = 0, set[int]()
        until = time.monotonic() + 20
        while len(cut) < len(slow) and time.monotonic() < until:
            for number, one in enumerate(slow):
                if number not in cut and not drips_on(one):
                    cut.add(number)
            assert http.post("/v1/jobs", json=JOB).status_code == 202
            answered += not cut
        assert len(cut) == len(slow)
        assert answered >= 5
        for one in slow:
            assert one.recv(65536).decode().startswith("HTTP/1.1 408 ")


def drips_on(connection: socket.socket) -> bool:
    """Send one byte more of an endless body, unless the server has answered."""
    if select.select([connection], [], [], 0.002)[0]:
        return False
    connection.sendall(b"1\r\n[\r\n")
    return True


def test_slow_and_endless_heads_are_cut(tmp_path: Path) -> None:
    with gateway_alone(tmp_path, gateway_body_seconds="1") as (_, gateway, _):
        place = urlsplit(gateway.url)
        for beginning in (b"", b"GET /health HTTP/1.1\r\nHost: loc"):
            with socket.create_connection((place.hostname, place.port), timeout=20) as slow:
                slow.sendall(beginning)
                assert slow.recv(1000) == b""
        with socket.create_connection((place.hostname, place.port), timeout=20) as endless:
            endless.sendall(b"GET /health HTTP/1.1\r\n")
            with pytest.raises(ConnectionError):
                send_headers_for_ever(endless)
        assert httpx.get(f"{gateway.url}/health").status_code == 200


def test_a_full_queue_says_when_to_come_back(tmp_path: Path) -> None:
    with gateway_alone(tmp_path, queue_limit="1") as (_, gateway, _), httpx.Client(base_url=gateway.url) as http:
        assert http.post("/v1/jobs", json=JOB).status_code == 202
        full = http.post("/v1/jobs", json=JOB)
        assert code(full) == (503, "queue_full")
        assert int(full.headers["retry-after"]) >= 1


def test_without_redis_every_answer_is_a_problem_and_then_it_goes_on(tmp_path: Path) -> None:
    with gateway_alone(tmp_path) as (redis, gateway, _), httpx.Client(base_url=gateway.url, timeout=60) as http:
        job = http.post("/v1/jobs", json=JOB).headers["location"]
        redis.process.terminate()
        redis.process.wait()
        for answer in (http.post("/v1/jobs", json=JOB), http.get(job), http.get("/v1/models")):
            assert code(answer) == (503, "unreachable")
            assert answer.headers["retry-after"] == "5"
            assert str(redis.port) not in answer.text
        assert code(http.get("/ready")) == (503, "not_ready")
        assert http.get("/health").status_code == 200
        assert "uqueue_store_up 0.0" in http.get("/metrics").text
        with start_redis(tmp_path / "again", port=redis.port):
            eventually(lambda: http.post("/v1/jobs", json=JOB).status_code == 202, "it takes jobs again")


def test_cors_and_security_headers(tmp_path: Path) -> None:
    page = "https://page.example"
    with (
        gateway_alone(tmp_path, gateway_cors_origins=page) as (_, gateway, _),
        httpx.Client(base_url=gateway.url) as http,
    ):
        preflight = {"Origin": page, "Access-Control-Request-Method": "POST"}
        allowed = http.options("/v1/jobs", headers=preflight)
        assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (200, page)
        refused = http.options("/v1/jobs", headers=preflight | {"Origin": "https://evil.example"})
        assert "access-control-allow-origin" not in refused.headers
        answer = http.get("/v1/models", headers={"Origin": page})
        assert answer.headers["access-control-allow-origin"] == page
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "server" not in answer.headers
        form = http.post("/v1/jobs", content='{"features": [[1]]}', headers={"Content-Type": "text/plain"})
        assert code(form)[0] == 422


def test_a_stream_ends_when_the_gateway_is_asked_to_end(tmp_path: Path) -> None:
    with gateway_alone(tmp_path) as (_, gateway, _), httpx.Client(base_url=gateway.url, timeout=30) as http:
        events = http.post("/v1/jobs", json=JOB).json()["links"]["events"]
        with http.stream("GET", events) as stream:
            lines: Any = stream.iter_lines()
            assert next(lines) == "retry: 1000"
            gateway.service.send(15)
            assert [line for line in lines if line.startswith("event:")] == ["event: status"]
        eventually(lambda: gateway.service.returncode is not None, "the gateway ends")
        assert gateway.service.returncode in (0, -15)


def test_the_gateway_needs_no_more_of_redis_than_its_user_may(tmp_path: Path) -> None:
    hooks = {"webhook_secrets": new_secret(), "webhook_allow_http": "on", "webhook_allow_private": "on"}
    with guarded_redis(tmp_path / "redis") as redis, webhook_receiver() as receiver:
        redis.admin.sadd(MODELS_KEY, "mccp-uq")
        environment = child_environment(Settings.load({"UQUEUE_BROKER_URL": redis.url("gateway")}), os.environ)
        with (
            running_gateway(environment, tmp_path / "gateway", **hooks) as gateway,
            httpx.Client(base_url=gateway.url, timeout=30) as http,
        ):
            redis.denials()
            accepted = http.post("/v1/jobs", json=JOB, headers={"Prefer": "wait=1"})
            assert accepted.status_code == 202
            job = accepted.json()["links"]
            assert http.get(job["self"]).json()["state"] == "queued"
            assert http.get(job["result"]).status_code == 202
            assert [model["name"] for model in http.get("/v1/models").json()["models"]] == ["mccp-uq"]
            assert http.get("/v2/models/mccp-uq").status_code == 200
            assert "uqueue_jobs_waiting 1.0" in http.get("/metrics").text
            assert code(http.get("/ready")) == (503, "not_ready")
            assert http.delete(job["self"]).json()["state"] == "cancelled"
            assert "event: end" in http.get(job["events"]).text
            reload = http.post("/v1/models/mccp-uq/reload", params={"timeout": 0.5})  # without a worker nobody looks
            assert code(reload) == (504, "job_not_finished")
            told = http.post("/v1/jobs", json={**JOB, "webhook": {"url": f"{receiver.url}/end"}}).json()["links"][
                "self"
            ]
            assert http.delete(told).json()["state"] == "cancelled"
            eventually(lambda: http.get(told).json()["webhook"]["state"] == "delivered", "the end is told")
            assert redis.denials() == []
