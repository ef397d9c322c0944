"""The gateway's log: one JSON object a line, or text for people, on stderr like the worker's."""

from __future__ import annotations

import contextlib
import json
import logging
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic_core import to_json

NAME = "uqueue.gateway"


class JsonLines(logging.Formatter):
    """One JSON object a line; what is passed as `extra={"facts": {...}}` becomes members of it."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            "logger": record.name,
            **getattr(record, "facts", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        with contextlib.suppress(ValueError):  # half of a surrogate pair
            text = to_json(line, fallback=str)
            if text.isascii():
                return text.decode()
        return json.dumps(line, default=str)  # escapes what some programs take for the end of a line


class PlainLines(logging.Formatter):
    """The same for people."""

    def format(self, record: logging.LogRecord) -> str:
        facts = " ".join(f"{name}={value}" for name, value in getattr(record, "facts", {}).items())
        text = f"{record.levelname.lower():8}{record.getMessage()} {facts}".rstrip()
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


def configure(level: str, format: Literal["json", "console"]) -> None:
    """Send what the gateway and uvicorn log to stderr."""
    # A line per request says nothing of these, and to find them out takes half of its time (Python's logging HOWTO).
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if format == "json" else PlainLines())
    for name in (NAME, "uvicorn"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level if name == NAME else logging.WARNING)


def write(level: int, event: str, **facts: Any) -> None:
    """Log one event with its facts; those that are None are left out."""
    shown = {name: value for name, value in facts.items() if value is not None}
    logging.getLogger(NAME).log(level, event, extra={"facts": shown})
