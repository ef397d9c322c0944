"""Log lines of active learning: one JSON object each, which says what run, cycle, spot or request it belongs to.

Ids travel in context variables within a process, and in task headers between processes.
"""

from __future__ import annotations

import logging
import re
import sys
import time
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import structlog

#: What a line may belong to.
IDS = (
    *("run_id", "cycle", "weakness_id", "scenario_id", "scenario_version", "model_version_tag", "dataset_id"),
    *("task_id", "request_id"),
)
_HEADER = "alm_"
_MASK = "**********"
_SECRET_NAME = re.compile(r"passw|secret|token|api_?key|authori[sz]ation|credential|cookie|dsn", re.IGNORECASE)
_SECRET_TEXT = re.compile(r"(?<=://)[^/\s@]*:[^/\s@]*(?=@)|(?<=\bBearer )\S+|(?<=\bBasic )\S+|(?<=\bpassword=)\S+")
_ONLY_AT_DEBUG = ("features", "feature_values", "samples", "sensor_readings_map", "raw_values")
_STANDARD = ("ts", "level", "event", "component")


def log_context(**ids: Any) -> AbstractContextManager[None]:
    """Have every line of the block say these ids; None leaves one out. Raises TypeError for what is not in IDS."""
    _check(ids)
    bound: AbstractContextManager[None] = structlog.contextvars.bound_contextvars(
        **{name: value for name, value in ids.items() if value is not None}
    )
    return bound


def context_headers() -> dict[str, str]:
    """Return the ids of this context as headers for a task."""
    bound = structlog.contextvars.get_contextvars()
    return {_HEADER + name: str(bound[name]) for name in IDS if name in bound}


def log_context_of(headers: Mapping[str, Any]) -> AbstractContextManager[None]:
    """Have every line of the block say the ids that came as headers of a task; other headers are left alone."""
    return log_context(**{name: headers[_HEADER + name] for name in IDS if headers.get(_HEADER + name) is not None})


@contextmanager
def timed_event(event: str, component: str, **facts: Any) -> Iterator[dict[str, Any]]:
    """Log one line when the block ends: its duration, its outcome, and of an error the code and the message.

    What the block puts into the dict that it gets is part of the line.
    """
    log, began, more = structlog.get_logger(f"uqueue.learning.{component}"), time.monotonic(), dict(facts)

    def line(outcome: str) -> dict[str, Any]:
        duration_ms = round((time.monotonic() - began) * 1000, 1)
        return {"component": component, "duration_ms": duration_ms, "outcome": outcome, **more}

    try:
        yield more
    except Exception as error:
        code = getattr(error, "code", type(error).__name__)
        log.warning(event, error_code=code, message=str(error)[:500], **line("failed"))
        raise
    log.info(event, **line("ok"))


def finish_line(_: Any, __: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A processor of structlog: standard names first, no secrets, values of features only at debug."""
    line = {name: _masked(name, value) for name, value in line.items()}
    if line.get("level") != "debug":
        for name in _ONLY_AT_DEBUG:
            line.pop(name, None)
    logger = str(line.pop("logger", ""))
    line.setdefault("component", logger.rpartition(".")[2] or "learning")
    line["ts"] = line.pop("timestamp", None)
    line.setdefault("message", line.get("event", ""))
    return {**{name: line.pop(name, None) for name in _STANDARD}, **line}


def configure_logging(level: str = "INFO") -> None:
    """Send the lines of this process to stderr as JSON, those of other libraries included. Call once per process."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    last: list[Any] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta, finish_line]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared, processors=[*last, structlog.processors.JSONRenderer()]
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it tells of every request, as the lines here do


def _masked(name: str, value: Any) -> Any:
    if _SECRET_NAME.search(name):
        return _MASK
    if isinstance(value, str):
        return _SECRET_TEXT.sub(_MASK, value)
    if isinstance(value, Mapping):
        return {key: _masked(str(key), one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_masked("", one) for one in value]
    return value


def _check(ids: Mapping[str, Any]) -> None:
    unknown = [name for name in ids if name not in IDS]
    if unknown:
        raise TypeError(f"expected ids among {', '.join(IDS)}, got {', '.join(unknown)}")
