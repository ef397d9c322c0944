"""Reads a PyTorch file in a process of its own before this one does."""

from __future__ import annotations

import json
import subprocess
import sys

from uqueue_config.errors import ModelInvalid, from_wire
from uqueue_worker.artifacts.h5_probe import SECONDS_PER_GIGABYTE, START_SECONDS


def probe_torch(data: bytes, *, file: str) -> None:
    """Have the file read by a process with limits, so that bytes which come through can be read here.

    Raises what `read_torch_file` raises, and ModelInvalid where the process crashed or had to be ended.
    """
    # -P: nothing is imported from the folder that the worker happens to run in.
    command = [sys.executable, "-P", "-m", "uqueue_worker.artifacts.torch_child", file]
    limit_seconds = START_SECONDS + len(data) / 1e9 * SECONDS_PER_GIGABYTE
    try:
        done = subprocess.run(command, input=data, capture_output=True, timeout=limit_seconds, check=False)
        answer = json.loads(done.stdout)
    except (subprocess.TimeoutExpired, ValueError) as error:
        reason = "the PyTorch file is damaged (reading it does not end, or takes too much memory)"
        raise ModelInvalid(file=file, reason=reason) from error
    if "error" in answer:
        raise from_wire(answer["error"])
