"""Reads an H5 file in a process of its own: on some damaged files the HDF5 library loops for ever or crashes."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Final

from uqueue_config.errors import ModelInvalid, from_wire

START_SECONDS: Final = 60.0  # for a Python process to start on a busy machine; the child limits its own computing
SECONDS_PER_GIGABYTE: Final = 60.0


def probe_h5(data: bytes, *, file: str) -> dict[str, str | None]:
    """Return the texts `model_config`, `keras_version` and `backend` of the root, read by a process made for it.

    That process also reads every attribute and array once, so bytes that came through can be opened here. Raises what
    `h5_child.inspect_h5` raises, and ModelInvalid where the process crashed or had to be ended.
    """
    # -P: nothing is imported from the folder that the worker happens to run in.
    command = [sys.executable, "-P", "-m", "uqueue_worker.artifacts.h5_child", file]
    limit_seconds = START_SECONDS + len(data) / 1e9 * SECONDS_PER_GIGABYTE
    try:
        done = subprocess.run(command, input=data, capture_output=True, timeout=limit_seconds, check=False)
        answer = json.loads(done.stdout)
    except (subprocess.TimeoutExpired, ValueError) as error:
        reason = "the HDF5 structure is damaged (reading it does not end, or crashes the reader)"
        raise ModelInvalid(file=file, reason=reason) from error
    if "error" in answer:
        raise from_wire(answer["error"])
    return {name: answer[name] for name in ("model_config", "keras_version", "backend")}
