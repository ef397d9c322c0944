"""The command line as people run it: a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping


def uqueue(
    environment: Mapping[str, str], *arguments: str, code: int = 0, stdin: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `uqueue` with these arguments; `code` is the exit code expected."""
    outcome = subprocess.run(
        [sys.executable, "-m", "uqueue", *arguments],
        env=dict(environment),
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert outcome.returncode == code, outcome
    assert "Traceback" not in outcome.stderr
    return outcome
