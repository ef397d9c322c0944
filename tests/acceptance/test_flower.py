"""Flower beside a running worker: it shows jobs and hides their numbers."""

from __future__ import annotations

import socket
from pathlib import Path

import httpx
import numpy as np
import pytest

from builders.artifacts import write_workspace
from builders.service import running_service
from builders.waiting import eventually


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("lane", ["on", "off"])
def test_flower_shows_jobs_to_those_who_know_the_password(lane: str, tmp_path: Path) -> None:
    write_workspace(tmp_path / "workspace")
    port = free_port()
    env = {
        "UQUEUE_FLOWER_PORT": str(port),
        "UQUEUE_FLOWER_USER": "ops",
        "UQUEUE_FLOWER_PASSWORD": "long-secret",
        "UQUEUE_LANE": lane,
    }
    with running_service(
        tmp_path / "service", workspace=tmp_path / "workspace", concurrency=1, beat=False, flower=True, env=env
    ) as service:
        address = f"http://127.0.0.1:{port}"
        with httpx.Client(base_url=address, auth=("ops", "long-secret")) as flower:

            def answers(path: str) -> dict[str, dict[str, object]]:
                try:
                    reply = flower.get(path)
                except httpx.TransportError:
                    return {}
                return dict(reply.json()) if reply.status_code == 200 else {}

            eventually(lambda: answers("/api/workers?refresh=1"), "Flower sees the worker")
            good = service.client.submit(np.full((2, 8), 0.123456))
            good.result(timeout=20)
            bad = service.client.submit(np.zeros((1, 8)), model="other")
            eventually(lambda: bad.status().state == "failed", "the other job fails")
            eventually(lambda: answers("/api/tasks").get(good.id, {}).get("state") == "SUCCESS", "Flower shows success")
            eventually(lambda: answers("/api/tasks").get(bad.id, {}).get("state") == "FAILURE", "Flower shows failure")
            task = answers("/api/tasks")[good.id]
            assert task["name"] == "uqueue.predict"
            assert "2 x 8 numbers" in str(task["kwargs"])
            assert "0.123456" not in str(task)
            page = flower.get("/tasks")
            assert page.status_code == 200
        for auth in (None, ("ops", "wrong")):
            assert httpx.get(f"{address}/api/tasks", auth=auth).status_code == 401
        command = Path(f"/proc/{service.services['flower'].pid}/cmdline").read_bytes()
        assert b"long-secret" not in command
