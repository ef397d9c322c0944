"""From an HTTP request to the log of the worker, where jobs are ordinary tasks; test_gateway does it on the lane."""

from __future__ import annotations

from pathlib import Path

from builders.artifacts import write_workspace
from builders.gateway import running_gateway
from builders.service import running_service
from builders.worker_log import check_traces


def test_a_request_is_found_in_the_log_of_the_worker(tmp_path: Path) -> None:
    write_workspace(tmp_path / "workspace")
    off = {"UQUEUE_LANE": "off"}
    with (
        running_service(tmp_path, workspace=tmp_path / "workspace", concurrency=1, beat=False, env=off) as service,
        running_gateway(service.environment, tmp_path / "gateway") as gateway,
    ):
        check_traces(service, gateway)
