"""What ties a job to the request that it came from: a W3C trace and a request id, in the headers of its message.

They change neither what is computed nor whether two requests are the same. Whatever is not of the form below is left
out, never an error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from pydantic_core import to_json

TRACEPARENT = r"^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$"
REQUEST_ID = r"^[A-Za-z0-9._-]{1,128}$"
_FORMS = {"traceparent": re.compile(TRACEPARENT), "request_id": re.compile(REQUEST_ID)}


@dataclass(frozen=True, slots=True)
class TraceContext:
    """Where a job comes from; either may be missing. Other text than the forms above allow is dropped."""

    traceparent: str | None = None
    request_id: str | None = None

    def __post_init__(self) -> None:
        for name, value in _well_formed({"traceparent": self.traceparent, "request_id": self.request_id}).items():
            object.__setattr__(self, name, value)

    @property
    def headers(self) -> dict[str, str]:
        """The members that a message has more in its headers."""
        both = {"traceparent": self.traceparent, "request_id": self.request_id}
        return {name: value for name, value in both.items() if value is not None}

    @property
    def headers_json(self) -> bytes:
        """The same as members of a JSON object, each with a comma after it."""
        headers = self.headers
        return to_json(headers)[1:-1] + b"," if headers else b""


#: What jobs submitted by this thread or asyncio task belong to.
current_trace: ContextVar[TraceContext | None] = ContextVar("uqueue_trace", default=None)


def trace_facts(headers: Mapping[str, Any]) -> dict[str, str]:
    """Return what a log line of the job should say: trace_id, span_id, request_id, those that the headers have."""
    found = {name: value for name, value in _well_formed(headers).items() if value is not None}
    traceparent = found.pop("traceparent", None)
    if traceparent is not None:
        _, found["trace_id"], found["span_id"], _ = traceparent.split("-")
    return found


def _well_formed(headers: Mapping[str, Any]) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for name, form in _FORMS.items():
        value = headers.get(name)
        found[name] = value if isinstance(value, str) and form.fullmatch(value) else None
    return found
