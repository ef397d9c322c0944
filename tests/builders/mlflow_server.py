"""A real `mlflow server` with SQLite, as a child process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from builders.s3_server import free_port, wait_for

#: No telemetry, no job runner; the latter would need packages that a registry does not.
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


@contextmanager
def mlflow_server(folder: Path) -> Iterator[str]:
    """Run a server whose database and artifacts are in `folder`; return its URL.

    It runs the tracking and registry application under gunicorn, which `mlflow-skinny` and a few small packages are
    enough for. Under uvicorn the same command also loads the AI gateway, which needs pandas.
    """
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/registry.db"]
    command += ["--artifacts-destination", str(folder / "artifacts"), "--gunicorn-opts", "--no-control-socket"]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with (folder / "mlflow.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            env={**os.environ, **QUIET, "PATH": path},
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=folder,
            start_new_session=True,
        )
    try:
        wait_for(f"{url}/health", process, folder / "mlflow.log")
        yield url
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def registry_client(url: str) -> Any:
    """Return MLflow's own client."""
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=url, registry_uri=url)
