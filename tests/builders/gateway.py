"""A real gateway for tests: `uqueue gateway` as a child process on a free port, gone afterwards."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builders.waiting import eventually
from uqueue.supervisor import Service


@dataclass
class RunningGateway:
    """Where it listens, its process, and what it logged."""

    url: str
    service: Service

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The log so far, a dict for each line."""
        return log_lines(self.service)

    def requests(self, **facts: Any) -> list[dict[str, Any]]:
        """The log lines of requests that have these facts."""
        found = [line for line in self.lines if line["event"] == "request"]
        return [line for line in found if all(line.get(name) == value for name, value in facts.items())]


def log_lines(service: Service) -> list[dict[str, Any]]:
    text = service.log_text()
    return [json.loads(line) for line in text.splitlines()[: text.count("\n")] if line.startswith("{")]


@contextmanager
def running_gateway(environment: Mapping[str, str], folder: Path, **settings: str) -> Iterator[RunningGateway]:
    """Run a gateway with this environment and more UQUEUE_* settings, given without the prefix in lower case."""
    folder.mkdir(parents=True, exist_ok=True)
    own = {f"UQUEUE_{name.upper()}": value for name, value in settings.items()}
    argv = [sys.executable, "-W", "error", "-m", "uqueue", "gateway", "--port", "0"]
    service = Service("gateway", argv, {**environment, **own}, log_file=folder / "gateway.log").start()
    try:

        def listening() -> list[dict[str, Any]]:
            assert service.returncode is None, service.log_text()
            return [line for line in log_lines(service) if line["event"] == "listening"]

        eventually(listening, "the gateway listens", seconds=60)
        port = listening()[0]["port"]
        yield RunningGateway(f"http://127.0.0.1:{port}", service)
    except BaseException as error:
        error.add_note("--- gateway\n" + "\n".join(service.log_text().splitlines()[-40:]))
        raise
    finally:
        service.stop()
