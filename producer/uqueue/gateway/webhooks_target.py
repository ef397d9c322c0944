"""Where webhooks may go, and sending one there.

A URL comes from a stranger and is followed from inside: so a name is resolved once, the addresses are checked, and the
connection is made to an address that was checked. Redirects are not followed and bodies of answers are not read.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
import ssl
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import httptools

MAX_URL_CHARACTERS = 2000
MAX_ANSWER_BYTES = 16 * 1024
LONGEST_PAUSE_SECONDS = 86_400.0
_PLAIN = re.compile(r"[!-~]+")
_HOST = re.compile(r"[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]+\]")


class TargetRefused(ValueError):
    """The gateway does not send there; the text says why."""


@dataclass(frozen=True)
class Rules:
    """What the settings allow."""

    allow_http: bool = False
    allow_private: bool = False

    def allows(self, address: str) -> bool:
        """Return whether the gateway may connect to an IP address."""
        return self.allow_private or is_public(address)


@dataclass(frozen=True)
class Target:
    """A URL taken apart. `path` has the query too."""

    host: str
    port: int
    path: str
    authority: str
    is_tls: bool

    @classmethod
    def parse(cls, url: str, rules: Rules) -> Target:
        """Raises TargetRefused for what is no plain http(s) URL, or names an address that is not allowed."""
        if len(url) > MAX_URL_CHARACTERS or not _PLAIN.fullmatch(url) or "\\" in url:
            raise TargetRefused(f"expected a URL of at most {MAX_URL_CHARACTERS} printable ASCII characters")
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise TargetRefused("expected a URL such as https://example.org/hook") from None
        if parts.scheme != "https" and not (parts.scheme == "http" and rules.allow_http):
            raise TargetRefused("expected an https:// URL")
        if "@" in parts.netloc or parts.fragment:
            raise TargetRefused("expected a URL without user name, password and fragment")
        authority = parts.netloc
        if not _HOST.fullmatch(re.sub(r":[0-9]*$", "", authority)) or port == 0:
            raise TargetRefused("expected the name or address of a host, and a port from 1 to 65535 if any")
        is_tls, host = parts.scheme == "https", parts.hostname or ""
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        _check_literal(host, rules)
        return cls(host, port or (443 if is_tls else 80), path, authority, is_tls)


def _check_literal(host: str, rules: Rules) -> None:
    if host.lower().rstrip(".").endswith("localhost") and not rules.allow_private:
        raise TargetRefused("it leads to this computer")
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return  # a name, which is checked when it is resolved
    if not rules.allows(host):
        raise TargetRefused("its address is not one of the internet")


def is_public(address: str) -> bool:
    """Return whether an IP address is an ordinary one of the internet, also where it holds one of IPv4."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address):
        inner = found.ipv4_mapped or found.sixtofour
        if inner is not None:
            return is_public(str(inner))
        if found.is_site_local or found.teredo is not None:
            return False
    return found.is_global and not (found.is_multicast or found.is_reserved or found.is_unspecified)


@dataclass(frozen=True)
class Answer:
    """What a receiver answered; `pause_seconds` where it asks for one."""

    status: int
    pause_seconds: float | None = None


async def post(target: Target, rules: Rules, headers: Mapping[str, str], body: bytes, tls: ssl.SSLContext) -> Answer:
    """Send a webhook. Raises TargetRefused, OSError (TLS errors are) or ValueError; the caller bounds the time."""
    address = await _checked_address(target, rules)
    secured: dict[str, Any] = {"ssl": tls, "server_hostname": target.host} if target.is_tls else {}
    reader, writer = await asyncio.open_connection(address, target.port, **secured)
    try:
        writer.write(_request(target, headers, body))
        return await _answer(reader)
    finally:
        writer.transport.abort()


async def _checked_address(target: Target, rules: Rules) -> str:
    allowed = [address for address in await resolve(target.host, target.port) if rules.allows(address)]
    if not allowed:
        raise TargetRefused("its name leads to no address of the internet")
    return allowed[0]


async def resolve(host: str, port: int) -> Sequence[str]:
    """Return the addresses of a host. Raises OSError. A resolver that hangs holds nobody up but who asked."""
    loop = asyncio.get_running_loop()
    found: asyncio.Future[list[str]] = loop.create_future()

    def tell(answer: list[str] | OSError) -> None:
        if found.done():  # nobody waits for it any more
            return
        if isinstance(answer, OSError):
            found.set_exception(answer)
        else:
            found.set_result(answer)

    def ask() -> None:
        answer: list[str] | OSError
        try:
            infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            answer = list(dict.fromkeys(str(info[4][0]) for info in infos))
        except (OSError, UnicodeError) as error:
            answer = error if isinstance(error, OSError) else OSError("its name cannot be looked up")
        if not loop.is_closed():
            loop.call_soon_threadsafe(tell, answer)

    threading.Thread(target=ask, name="uqueue-resolve", daemon=True).start()
    return await found


def _request(target: Target, headers: Mapping[str, str], body: bytes) -> bytes:
    fixed = {"Host": target.authority, "User-Agent": "uqueue-webhooks", "Content-Type": "application/json"}
    lines = {**fixed, "Content-Length": str(len(body)), "Connection": "close", **headers}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"POST {target.path} HTTP/1.1\r\n{head}\r\n".encode("ascii") + body


async def _answer(reader: asyncio.StreamReader) -> Answer:
    head, read = _Head(), 0
    while not head.status:
        data = await reader.read(4096)
        read += len(data)
        if not data or read > MAX_ANSWER_BYTES:
            raise ValueError("it did not answer with the head of an HTTP response")
        try:
            head.parser.feed_data(data)
        except httptools.HttpParserError:
            if not head.status:
                raise ValueError("its answer is not HTTP") from None
    return Answer(head.status, _pause_seconds(head.retry_after))


class _Head:
    """Hears from the parser; interim answers (100 to 199) are passed over."""

    def __init__(self) -> None:
        self.parser = httptools.HttpResponseParser(self)
        self.status = 0
        self.retry_after = ""

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.status and name.lower() == b"retry-after":
            self.retry_after = value.decode("latin-1").strip()

    def on_headers_complete(self) -> None:
        status = self.parser.get_status_code()
        if status >= 200 and not self.status:
            self.status = status


def _pause_seconds(retry_after: str) -> float | None:
    """Return what `Retry-After` asks for, at most a day; None where it is neither seconds nor a date."""
    if re.fullmatch(r"[0-9]{1,10}", retry_after):
        seconds = float(retry_after)
    else:
        try:
            seconds = parsedate_to_datetime(retry_after).timestamp() - time.time()
        except (ValueError, TypeError, OverflowError):
            return None
    return min(max(0.0, seconds), LONGEST_PAUSE_SECONDS)
