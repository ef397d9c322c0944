"""Interval predictions over HTTP: uqueue's gateway beside servers that keep nothing, same model and kernel.

    python benchmarks/web.py [--quick]

Each has one web process and, but for plain FastAPI, one process with the model. The clients wait for each answer before
they ask again; they share the cores with everything else.
"""

from __future__ import annotations

import json
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

import uqueue
from contenders import LANE, installed_version
from part import measure_part, parser, say, workspace
from processes import Bench, Broken, bench, cpu_seconds
from rivals.model import ROW, SEED
from startup import wait_until_ready
from uqueue_config.settings import Settings

HERE = Path(__file__).parent
READY_SECONDS = 60.0


@dataclass(frozen=True)
class Plan:
    rounds: int
    requests: int
    clients: tuple[int, ...]


FULL = Plan(rounds=3, requests=10_000, clients=(1, 100))
QUICK = Plan(rounds=1, requests=300, clients=(10,))


@dataclass(frozen=True)
class Contender:
    """One web server under test; `server` are arguments for `python`."""

    name: str
    server: str
    path: str
    about: str
    distributions: tuple[str, ...]
    headers: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_uqueue(self) -> bool:
        return self.name.startswith("uqueue")


_OPEN = {"UQUEUE_GATEWAY_RATE": "1000000", "UQUEUE_GATEWAY_BURST": "1000000", "UQUEUE_LOG_LEVEL": "INFO"}
CONTENDERS = (
    Contender(
        "uqueue-gateway",
        "-m uqueue gateway",
        "/v1/jobs",
        "The gateway: every request becomes a crash-safe job in Redis, answered by a worker, with a log line each.",
        ("uqueue", "fastapi", "uvicorn"),
        headers=("Prefer: wait=10",),
        environment=_OPEN,
    ),
    Contender(
        "uqueue-gateway-quiet",
        "-m uqueue gateway",
        "/v1/jobs",
        "The same without log lines, which the others do not write either.",
        ("uqueue", "fastapi", "uvicorn"),
        headers=("Prefer: wait=10",),
        environment={**_OPEN, "UQUEUE_LOG_LEVEL": "WARNING"},
    ),
    Contender(
        "mosec",
        "-m rivals.http_mosec",
        "/inference",
        "mosec: a web server in Rust, up to 64 requests to a call of the model. Nothing is kept.",
        ("mosec",),
    ),
    Contender(
        "litserve",
        "-m rivals.http_litserve",
        "/predict",
        "LitServe: up to 64 requests to a call of the model. Nothing is kept.",
        ("litserve", "fastapi"),
    ),
    Contender(
        "fastapi",
        "-m rivals.http_fastapi",
        "/predict",
        "Plain FastAPI with the model in the web process. Nothing is kept.",
        ("fastapi", "uvicorn"),
    ),
)


def measure(folder: Path, plan: Plan) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for number in range(plan.rounds):
        for contender in CONTENDERS:
            say(f"round {number + 1} of {plan.rounds}: {contender.name}")
            versions = {name: installed_version(name) for name in contender.distributions}
            entry = found.setdefault(
                contender.name, {"versions": versions, "about": contender.about, "loads": {}, "broken": []}
            )
            if None in versions.values():
                continue
            try:
                for clients, load in _measured(contender, folder, plan):
                    entry["loads"].setdefault(str(clients), []).append(load)
            except Broken as error:
                entry["broken"].append(str(error))
    return {
        "rounds": plan.rounds,
        "requests": plan.requests,
        "contenders": {name: _medians(one) for name, one in found.items()},
    }


def _measured(contender: Contender, workspace: Path, plan: Plan) -> Iterator[tuple[int, dict[str, Any]]]:
    environment = {**LANE.environment, **contender.environment}
    with (
        bench(environment, workspace=workspace, hiredis=True) as here,
        _worker(contender, here),
        web_server(contender, here) as (url, server),
    ):
        _load(here, contender, url, requests=200, clients=10)
        for clients in plan.clients:
            before = _cpu_seconds(server)
            requests = plan.requests if clients > 1 else max(100, plan.requests // 10)
            load = _load(here, contender, url, requests=requests, clients=clients)
            yield clients, {**load, "server_cpu_us": (_cpu_seconds(server) - before) / requests * 1e6}


@contextmanager
def _worker(contender: Contender, here: Bench) -> Iterator[None]:
    """Run a worker for the gateway; the others have the model themselves."""
    if not contender.is_uqueue:
        yield
        return
    settings = Settings.load({"UQUEUE_BROKER_URL": here.environment["UQUEUE_BROKER_URL"]})
    with here.worker(LANE.worker) as worker, uqueue.Client(settings) as client:
        wait_until_ready(client, worker, 1)
        yield


@contextmanager
def web_server(contender: Contender, here: Bench) -> Iterator[tuple[str, psutil.Process]]:
    port = _free_port()
    here.environment |= {"BENCH_PORT": str(port), "UQUEUE_GATEWAY_PORT": str(port)}
    with here.worker(contender.server, "server") as server:
        deadline = time.monotonic() + READY_SECONDS
        while True:
            server.check()
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise Broken(f"it did not listen within {READY_SECONDS:g} s") from None
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}{contender.path}", psutil.Process(server.process.pid)


def _load(here: Bench, contender: Contender, url: str, *, requests: int, clients: int) -> dict[str, Any]:
    body = here.folder / "body.json"
    body.write_text(json.dumps({"features": ROW, "seed": SEED}))
    headers = [part for header in contender.headers for part in ("--header", header)]
    counts = ["--clients", str(clients), "--requests", str(requests)]
    command = [sys.executable, str(HERE / "http_load.py"), url, *counts, "--body", str(body), *headers]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode != 0:
        raise Broken(f"not all of {requests} requests were answered: {done.stdout[:200] or done.stderr[-200:]}")
    return json.loads(done.stdout)


def _cpu_seconds(server: psutil.Process) -> float:
    return sum(cpu_seconds(one) for one in (server, *server.children(recursive=True)))


def _medians(entry: dict[str, Any]) -> dict[str, Any]:
    names = ("per_second", "p50_ms", "p95_ms", "p99_ms", "server_cpu_us")
    loads = {
        clients: {name: statistics.median(load[name] for load in runs) for name in names}
        for clients, runs in entry["loads"].items()
    }
    return {**entry, "loads": loads}


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def main() -> None:
    options = parser(__doc__)
    given = options.parse_args()
    with workspace(given.workspace) as folder:
        measure_part("web", given, lambda: measure(folder, QUICK if given.quick else FULL))


if __name__ == "__main__":
    main()
