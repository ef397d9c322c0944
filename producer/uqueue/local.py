"""A whole service on this computer, as child processes: worker, beat, Flower. `uqueue up`, the demo and tests use it.

The worker's code is never imported here, only started.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from uqueue.client import Client
from uqueue.supervisor import Asked, Service, StopSteps, never
from uqueue_config.errors import ServiceUnreachable
from uqueue_config.messages import Acknowledgement
from uqueue_config.settings import LEARNING_PREFIX, PREFIX, Settings

WORKER_APP = "uqueue_worker.app"
#: How long Celery may take over a cold shutdown.
COLD_SECONDS = 5.0
#: Numerical libraries would start a thread per core in each process, which then fight over the cores.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
_LOOK_SECONDS = 0.1


def child_environment(settings: Settings, environ: Mapping[str, str]) -> dict[str, str]:
    """Return `environ` with exactly these settings in it; those of active learning, which have a prefix of their own,
    stay.
    """
    other = {
        name: value
        for name, value in environ.items()
        if not name.startswith(PREFIX) or name.startswith(LEARNING_PREFIX)
    }
    return {**other, "PYTHONUNBUFFERED": "1", **settings.environment()}


def process_count(settings: Settings) -> int:
    """Return how many processes a worker has with these settings."""
    return settings.concurrency or os.cpu_count() or 1


def worker_service(
    settings: Settings,
    environment: Mapping[str, str],
    *,
    name: str = "worker",
    app: str = WORKER_APP,
    args: Sequence[str] = (),
    **output: Any,
) -> Service:
    """Return a worker under a name of its own. `output` is `log_file` and `echo` of Service."""
    command = ["worker", "-E", "--without-gossip", "--without-mingle", "-n", f"{name}-{uuid.uuid4().hex[:8]}@%h"]
    # Celery's own soft shutdown would sleep through its whole time even after the last job; the stop steps do not.
    override = ["--", "worker.soft_shutdown_timeout=0"]
    steps: StopSteps = (
        (signal.SIGTERM, settings.shutdown_seconds.total_seconds()),  # warm: finishes its jobs
        (signal.SIGQUIT, COLD_SECONDS),  # cold: gives them back
    )
    argv = [*_celery(app), *command, *args, *override]
    return Service(name, argv, {**ONE_THREAD, **environment}, stop_steps=steps, **output)


def beat_service(environment: Mapping[str, str], *, app: str = WORKER_APP, **output: Any) -> Service:
    """Return the clock that makes a worker look at the artifacts."""
    return Service("beat", [*_celery(app), "beat"], environment, **output)


def flower_service(environment: Mapping[str, str], **output: Any) -> Service:
    """Return Flower, with the address and authentication that the settings name."""
    return Service("flower", [sys.executable, "-m", "uqueue_worker.flower"], environment, **output)


def _celery(app: str) -> list[str]:
    return [sys.executable, "-m", "celery", "--quiet", "-A", app]


def acknowledged(client: Client, worker: Service) -> list[Acknowledgement]:
    """Return what the processes of this very worker say they serve, without those that still load."""
    here = socket.gethostname()
    return [
        process
        for model in client.models()
        for process in model.processes
        if process.host == here and _group(process.pid) == worker.pid and process.state != "loading"
    ]


def wait_for_worker(
    client: Client, worker: Service, processes: int, seconds: float, stopping: Asked = never
) -> list[Acknowledgement]:
    """Wait until that many of its processes know what they serve, or that they have nothing to serve yet.

    Returns what there is when the worker ends, `stopping()` holds or the time is up; the caller counts.
    """
    deadline = time.monotonic() + seconds
    found: list[Acknowledgement] = []
    while worker.returncode is None and not stopping() and time.monotonic() < deadline:
        with contextlib.suppress(ServiceUnreachable):
            found = acknowledged(client, worker)
        if len({process.pid for process in found}) >= processes:
            break
        time.sleep(_LOOK_SECONDS)
    return found


def _group(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None
