"""The liveness probe: quiet about workers that serve and consume, clear about those that do not."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from celery import Celery

from builders.artifacts import write_workspace
from builders.service import RunningService, running_service
from builders.waiting import eventually
from uqueue.embedded import start_redis
from uqueue_config.connections import connect
from uqueue_config.messages import Acknowledgement
from uqueue_config.names import MODELS_KEY, Queue, serving_key
from uqueue_config.settings import Settings
from uqueue_worker.probe import Probe, Unwell

ROW = np.zeros((1, 8))
UNWELL = 1, f"unwell: 1 jobs wait, and no process of {socket.gethostname()} takes any"


def probe(environment: Mapping[str, str], *, patience: float = 3.0) -> tuple[int, str]:
    """Return the exit code and the one line."""
    command = [sys.executable, "-m", "uqueue_worker.probe", "--patience", str(patience)]
    done = subprocess.run(command, env=dict(environment), capture_output=True, text=True, timeout=60, check=False)
    [line] = (done.stdout + done.stderr).splitlines()
    return done.returncode, line


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, RunningService]]:
    """A worker without the lane, and one whose lane has ended."""
    folder = tmp_path_factory.mktemp("probe")
    write_workspace(folder / "workspace")
    different: dict[str, dict[str, Any]] = {
        "tasks": {"env": {"UQUEUE_LANE": "off"}},
        "deaf": {"app": "builders.deaf_app"},
    }
    with contextlib.ExitStack() as stack:
        found = {}
        for name, options in different.items():
            own = running_service(
                folder / name, workspace=folder / "workspace", concurrency=2, beat=False, wait=False, **options
            )
            found[name] = stack.enter_context(own)
        for service in found.values():
            service.wait_for_worker(service.services["worker"])
        yield found
        for service in found.values():
            service.kill_worker()


def test_a_stopped_process(services: dict[str, RunningService]) -> None:
    service = services["tasks"]
    assert probe(service.environment) == (0, "well: 2 processes serve (2 ready), 0 jobs wait")
    stopped = service.worker_processes()[1]
    stopped.suspend()
    unwell = 1, f"unwell: process {stopped.pid} does not acknowledge that it serves"
    eventually(lambda: probe(service.environment) == unwell, "the stopped process is noticed")
    stopped.resume()
    eventually(lambda: probe(service.environment)[0] == 0, "all is well again")


def test_a_consumer_that_was_cancelled(services: dict[str, RunningService]) -> None:
    service = services["tasks"]
    with Celery(broker=service.settings.broker) as celery:
        assert celery.control.cancel_consumer(Queue.PREDICTIONS.value, reply=True)
    service.client.submit(ROW)
    assert probe(service.environment) == UNWELL


def test_a_lane_that_has_ended(services: dict[str, RunningService]) -> None:
    service = services["deaf"]
    assert probe(service.environment)[0] == 0
    service.client.submit(ROW)
    assert probe(service.environment) == UNWELL


def test_who_computes_is_well_while_others_wait(tmp_path: Path) -> None:
    """With statements written by hand: which of them mean that jobs are taken."""
    computing: dict[str, object] = {"busy_since": time.time() - 60}
    stuck: dict[str, object] = {"busy_since": time.time() - 3600}
    with start_redis(tmp_path) as server, connect(server.url) as redis:
        look = Probe(Settings(broker_url=server.url), patience_seconds=0.6).look
        with pytest.raises(Unwell, match="no worker process"):
            look()
        redis.sadd(MODELS_KEY, "m")
        redis.sadd(serving_key("m"), "elsewhere/a:1", f"{socket.gethostname()}/b:1")
        redis.lpush(Queue.PREDICTIONS, "waits")

        def acknowledge(process: str, **facts: object) -> None:
            host = process.partition("/")[0]
            one = Acknowledgement(host=host, pid=1, model="m", state="ready", **facts)  # type: ignore[arg-type]
            redis.set(serving_key("m", process), one.model_dump_json())

        acknowledge("elsewhere/a:1", **computing)
        with pytest.raises(Unwell, match="no worker process"):
            look()
        for facts, well in ((computing, True), (stuck, False), ({}, False)):
            acknowledge(f"{socket.gethostname()}/b:1", **facts)
            if well:
                assert look() == "1 processes serve (1 ready), 1 jobs wait"
            else:
                with pytest.raises(Unwell, match="1 jobs wait"):
                    look()


def test_a_redis_that_is_away_and_settings_that_are_wrong(tmp_path: Path) -> None:
    code, line = probe({**os.environ, "UQUEUE_BROKER_URL": "redis://127.0.0.1:1/0"})
    assert code == 1
    assert "does not answer" in line
    environment = {**os.environ, "UQUEUE_LANE": "maybe"}
    command = [sys.executable, "-m", "uqueue_worker.probe"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "UQUEUE_LANE" in done.stderr
