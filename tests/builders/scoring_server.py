"""MLflow's own scoring server, as `mlflow models serve` runs it, as child processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import yaml

from builders.mlflow_server import QUIET
from builders.s3_server import free_port, wait_for

#: A model of MLflow's flavor for ONNX files, and one of a module: `rows_of_probabilities` below.
ONNX = {
    "python_function": {"loader_module": "mlflow.onnx", "data": "model.onnx", "python_version": "3.11"},
    "onnx": {"data": "model.onnx", "onnx_version": "1.18", "providers": ["CPUExecutionProvider"]},
}
MODULE = {"python_function": {"loader_module": "builders.scoring_model", "python_version": "3.11"}}


def write_mlmodel(folder: Path, flavors: dict[str, dict[str, str]]) -> Path:
    """Make an MLflow model of a folder with a model file."""
    facts = {"flavors": flavors, "model_uuid": "a" * 32, "utc_time_created": "2026-01-01 00:00:00"}
    (folder / "MLmodel").write_text(yaml.safe_dump(facts))
    return folder


@contextmanager
def scoring_servers(*models: Path) -> Iterator[list[str]]:
    """Run one server for each model, started together; return their URLs."""
    with ExitStack() as stack:
        started = [stack.enter_context(_process(model)) for model in models]
        for url, process, log in started:
            wait_for(f"{url}/ping", process, log)
        yield [url for url, _, _ in started]


@contextmanager
def _process(model: Path) -> Iterator[tuple[str, subprocess.Popen[bytes], Path]]:
    port, log = free_port(), model / "server.log"
    command = [sys.executable, "-m", "uvicorn", "--host", "127.0.0.1", "--port", str(port)]
    tests = str(Path(__file__).parents[1])
    environment = {**os.environ, **QUIET, "__pyfunc_model_path__": str(model), "PYTHONPATH": tests}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "mlflow.pyfunc.scoring_server.app:app"],
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=model,
            start_new_session=True,
        )
    try:
        yield f"http://127.0.0.1:{port}", process, log
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
