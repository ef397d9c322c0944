"""Request headers, read: pure functions from text to values. None raises anything but ValueError."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from typing import Self

MAX_KEY_CHARACTERS = 200
_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PREFERENCE = re.compile(rf'\s*({_WORD})(?:\s*=\s*({_WORD}|"(?:[^"\\]|\\.)*"))?\s*(?:;[^,]*)?\s*')
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


@dataclass(frozen=True)
class Preference:
    """What a `Prefer` header (RFC 7240) asks for. `wait_seconds` is None where it says nothing of waiting."""

    respond_async: bool = False
    wait_seconds: int | None = None

    @classmethod
    def parse(cls, text: str | None) -> Self:
        """Read the header; what is not understood is left out, as the RFC wants it, and the first mention counts."""
        found: dict[str, str] = {}
        for part in _split(text or ""):
            match = _PREFERENCE.fullmatch(part)
            if match:
                found.setdefault(match[1].lower(), (match[2] or "").strip('"'))
        wait = found.get("wait", "")
        seconds = int(wait) if re.fullmatch(r"[0-9]{1,9}", wait) else None
        return cls("respond-async" in found, seconds)


def _split(text: str) -> list[str]:
    """Split at commas that are not inside quotes."""
    return re.findall(r'(?:[^,"]|"(?:[^"\\]|\\.)*"?)+', text)


def idempotency_key(text: str | None) -> str | None:
    """Return the key without its quotes (a structured-field string has them). Raises ValueError."""
    if text is None:
        return None
    key = text.strip()
    if len(key) >= 2 and key.startswith('"') and key.endswith('"'):
        key = key[1:-1]
    if not 1 <= len(key) <= MAX_KEY_CHARACTERS or not all(" " <= character <= "~" for character in key):
        raise ValueError(f"Idempotency-Key: expected 1 to {MAX_KEY_CHARACTERS} printable ASCII characters.")
    return key


def request_id(text: str | None) -> str:
    """Return the client's id of its request where it is a plain one, a new one otherwise."""
    return text if text is not None and _REQUEST_ID.fullmatch(text) else secrets.token_hex(16)


@dataclass(frozen=True)
class Trace:
    """A place in a W3C trace: `trace_id` is the client's, `span_id` belongs to this request."""

    trace_id: str
    span_id: str
    flags: str = "00"

    @classmethod
    def parse(cls, text: str | None) -> Self:
        """Go on with the trace that `traceparent` names, or begin one where it names none that is valid."""
        match = _TRACEPARENT.fullmatch((text or "").strip())
        span_id = secrets.token_hex(8)
        if match is None:
            return cls(secrets.token_hex(16), span_id)
        version, trace_id, parent_id, flags, rest = match.groups()
        if version == "ff" or (version == "00" and rest) or not int(trace_id, 16) or not int(parent_id, 16):
            return cls(secrets.token_hex(16), span_id)
        return cls(trace_id, span_id, f"{int(flags, 16) & 1:02x}")

    @property
    def traceparent(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-{self.flags}"


def bearer_key(authorization: str | None, api_key: str | None) -> str | None:
    """Return the API key of `Authorization: Bearer …` or `X-API-Key`, None where there is none."""
    scheme, _, credentials = (authorization or "").partition(" ")
    if scheme.lower() == "bearer" and credentials.strip():
        return credentials.strip()
    return (api_key or "").strip() or None


def host_name(host: str) -> str:
    """Return what a Host header names, without its port and brackets."""
    match = re.fullmatch(r"\[([0-9A-Fa-f:.]+)\](?::[0-9]*)?|([^:\[\]]*)(?::[0-9]*)?", host.strip())
    return ((match[1] or match[2] or "") if match else "").lower()
