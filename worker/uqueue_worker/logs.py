"""Structured logs on stderr: one JSON object a line, with job id, model version and attempt where there is a job."""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog

from uqueue_config.settings import Settings
from uqueue_config.trace import trace_facts

_TRACE_FACTS = ("trace_id", "span_id", "request_id")


def configure_logging(settings: Settings) -> None:
    """Send everything, Celery's own records included, through one formatter. Call once per process."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    as_json = settings.log_format == "json"
    renderer: Any = structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer(colors=False)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(settings.log_level)
    # Both repeat for every job what the ledger's own line says.
    for chatty in ("celery.worker.strategy", "celery.app.trace"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def bind_trace(request: Any) -> None:
    """Have every line until `unbind_trace` say which trace and HTTP request a Celery task belongs to."""
    structlog.contextvars.bind_contextvars(**trace_facts(vars(request)))


def unbind_trace() -> None:
    structlog.contextvars.unbind_contextvars(*_TRACE_FACTS)
