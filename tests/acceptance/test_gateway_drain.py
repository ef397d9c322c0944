"""SIGTERM under load: the gateway, then a worker, go in the middle of many requests, and no job is lost with them."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from builders.artifacts import write_workspace
from builders.gateway import running_gateway
from builders.service import running_service
from builders.waiting import eventually

ROW = [0.98, 514.5, 294.0, 110.25, 7.0, 2, 0.0, 0]
CLIENTS = 20
SHUTDOWN_SECONDS = 10


class Load:
    """Clients that submit and wait, each request on a connection of its own, until the gateway takes no more."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.answers: list[httpx.Response] = []
        self.lost: list[str] = []
        self.stopping = threading.Event()

    def run(self) -> None:
        with httpx.Client(base_url=self.url, timeout=60, headers={"Connection": "close", "Prefer": "wait=20"}) as http:
            while True:
                begun_in_time = not self.stopping.is_set()
                try:
                    self.answers.append(http.post("/v1/jobs", json={"features": [ROW] * 50}))
                except httpx.ConnectError:
                    return
                except httpx.TransportError as error:
                    if begun_in_time:
                        self.lost.append(repr(error))
                    return

    def goes_on(self, answers: int) -> None:
        before = len(self.answers)
        eventually(lambda: len(self.answers) >= before + answers, "requests are answered", seconds=60)


def test_sigterm_under_load_loses_no_request(tmp_path: Path) -> None:
    write_workspace(tmp_path / "workspace")
    with (
        running_service(tmp_path / "service", workspace=tmp_path / "workspace", concurrency=1, beat=False) as service,
        running_gateway(service.environment, tmp_path / "gateway", shutdown_seconds=str(SHUTDOWN_SECONDS)) as gateway,
        ThreadPoolExecutor(CLIENTS) as pool,
    ):
        load = Load(gateway.url)
        clients = [pool.submit(load.run) for _ in range(CLIENTS)]
        load.goes_on(40)
        worker = service.services["worker"]
        worker.send(15)
        eventually(lambda: worker.returncode is not None, "the worker ends", seconds=30)
        service.start_worker()
        load.goes_on(CLIENTS)
        before = len(load.answers)
        load.stopping.set()
        began = time.monotonic()
        gateway.service.send(15)
        eventually(lambda: gateway.service.returncode is not None, "it ends", seconds=SHUTDOWN_SECONDS + 5)
        assert time.monotonic() - began < SHUTDOWN_SECONDS + 5
        for client in clients:
            client.result(timeout=60)
        assert load.lost == []
        assert len(load.answers) > before
        assert gateway.service.returncode in (0, -15)
        assert {answer.status_code for answer in load.answers} <= {200, 202}
        for answer in load.answers:
            job = service.client.job(answer.headers["location"].rpartition("/")[2])
            assert len(job.result(timeout=30)) == 50
