"""What went wrong with a request: one error of the tree, and whether the same request may be sent again."""

from __future__ import annotations

import json
import re
import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from uqueue_worker.learning.errors import (
    ActiveLearningError,
    EndpointAuth,
    EndpointContract,
    EndpointTimeout,
    EndpointUnavailable,
)

#: The statuses after which a request is sent again.
RETRIED = frozenset({429, 502, 503, 504})
#: Server errors that no later request will not meet: it does not do that, or not in this version of HTTP.
_NEVER = frozenset({501, 505})
_MASK = "**********"
_SHOWN_CHARACTERS = 200


@dataclass(frozen=True)
class Failure:
    """One try that failed. `again` names the reason for another try, None where there is none."""

    error: ActiveLearningError
    again: str | None = None
    retry_after: float | None = None
    status: int | None = None


def of_exception(error: Exception, url: str, read_seconds: float) -> Failure:
    """Return what an exception of httpx, or of the network below it, comes to."""
    if isinstance(error, httpx.ConnectTimeout):
        return Failure(EndpointUnavailable(url=url, reason="no connection in time"), "connect")
    if isinstance(error, httpx.TimeoutException | TimeoutError):
        return Failure(EndpointTimeout(url=url, timeout_seconds=read_seconds), "timeout")
    refused = _certificate_problem(error)
    if refused is not None:
        return Failure(EndpointContract(url=url, reason=f"its TLS certificate is not accepted ({refused})"))
    if isinstance(error, httpx.ConnectError | OSError):
        return Failure(EndpointUnavailable(url=url, reason="no connection"), "connect")
    if isinstance(error, httpx.NetworkError | httpx.RemoteProtocolError):
        return Failure(EndpointUnavailable(url=url, reason="the connection broke"), "connect")
    return Failure(EndpointContract(url=url, reason=f"no HTTP that can be used ({type(error).__name__})"))


def of_status(status: int, headers: Mapping[str, str], body: bytes, url: str, secrets: Sequence[str]) -> Failure:
    """Return what an answer that is not 200 comes to."""
    said = said_by(body, secrets).removesuffix(".")
    reason = f"status {status}" + (f": {said}" if said else "")
    if status in RETRIED:
        error: ActiveLearningError = EndpointUnavailable(url=url, reason=reason)
        return Failure(error, f"status_{status}", retry_after_seconds(headers.get("Retry-After")), status)
    if status in (401, 403):
        return Failure(EndpointAuth(url=url, reason=reason), status=status)
    if 300 <= status < 400:
        return Failure(EndpointContract(url=url, reason=f"{reason}; redirects are not followed"), status=status)
    if status >= 500 and status not in _NEVER:
        return Failure(EndpointUnavailable(url=url, reason=reason), status=status)
    return Failure(EndpointContract(url=url, reason=reason, status=status), status=status)


def said_by(body: bytes, secrets: Sequence[str] = ()) -> str:
    """Return the message in the body of an error, in any of the dialects' forms, without secrets; at most a line."""
    try:
        told: Any = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    if isinstance(told, dict):
        inner = told.get("error")
        parts = inner if isinstance(inner, dict) else told
        message = inner if isinstance(inner, str) else parts.get("message", parts.get("detail"))
        code = parts.get("code", parts.get("error_code"))
        words = [one for one in (code, message) if isinstance(one, str) and one]
        return scrubbed(": ".join(words), secrets)
    return ""


def scrubbed(text: str, secrets: Sequence[str]) -> str:
    """Return one short line of text in which no secret stands."""
    for secret in sorted(secrets, key=len, reverse=True):
        if secret:
            text = text.replace(secret, _MASK)
    line = re.sub(r"[^\x20-\x7e]+", " ", text).strip()
    return line if len(line) <= _SHOWN_CHARACTERS else line[:_SHOWN_CHARACTERS] + "…"


def retry_after_seconds(value: str | None, now: float | None = None) -> float | None:
    """Return what a Retry-After header asks for, given as seconds or as a date; None for none or nonsense."""
    if value is None:
        return None
    if re.fullmatch(r"\d{1,9}", value.strip()):
        return float(value)
    try:
        then = parsedate_to_datetime(value).timestamp()
    except (ValueError, OverflowError):
        return None
    return max(0.0, then - (time.time() if now is None else now))


def _certificate_problem(error: BaseException | None) -> str | None:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return str(error.verify_message)
        error = error.__cause__ or error.__context__
    return None
