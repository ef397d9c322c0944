"""The first reading of a hostile file, in a process of its own: libraries may loop for ever on it, or crash."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any, Final

from uqueue_config.errors import ModelInvalid, from_wire

START_SECONDS: Final = 60.0  # for a Python process to start on a busy machine; the child limits its own computing
SECONDS_PER_GIGABYTE: Final = 60.0


def read_first(module: str, data: bytes, *arguments: str, file: str, damage: str) -> dict[str, Any]:
    """Return what `uqueue_worker.artifacts.<module>` prints about these bytes.

    The module gets `file` and then `arguments`. `file` is what errors call the bytes, `damage` what is wrong where the
    process crashed or had to be ended. Raises ModelInvalid for that, and the error that the process reports.
    """
    # -P: nothing is imported from the folder that the worker happens to run in.
    command = [sys.executable, "-P", "-m", f"uqueue_worker.artifacts.{module}", file, *arguments]
    limit_seconds = START_SECONDS + len(data) / 1e9 * SECONDS_PER_GIGABYTE
    try:
        done = subprocess.run(command, input=data, capture_output=True, timeout=limit_seconds, check=False)
        answer: dict[str, Any] = json.loads(done.stdout)
    except (subprocess.TimeoutExpired, ValueError) as error:
        raise ModelInvalid(file=file, reason=damage) from error
    if "error" in answer:
        raise from_wire(answer["error"])
    return answer
