"""A real HTTP server that speaks the dialects of model servers strictly, and misbehaves when told."""

from __future__ import annotations

import json
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs
from uuid import UUID

from builders.endpoint_dialects import SPEAKERS, Refused
from builders.endpoint_servers import SERVERS
from uqueue_worker.learning.models.local import LocalModelInterface

MIB = 1 << 20


@dataclass
class Twist:
    """What one answer has that it should not have; `body` and `change` work on what would have been answered."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    change: Callable[[Any], Any] | None = None
    wait_seconds: float = 0.0
    drop: bool = False
    drip_seconds: float = 0.0


@dataclass(frozen=True)
class Asked:
    """One request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class ModelEndpoint:
    """Requests so far; `twists` are used up by one request for predictions each, then it does what it should.

    like        whose answers it gives where the protocol leaves them open, by name in `endpoint_servers`
    token       what OAuth2 gives out now; requests need it where `secured` is "oauth2"
    violations  what requests had that the dialect does not allow; a test that leaves some fails
    """

    url: str
    local: LocalModelInterface
    dialect: str
    like: str = ""
    secured: str = ""
    token: str = "token-1"
    token_lives_seconds: float = 3600
    version: str = "7"
    asked: list[Asked] = field(default_factory=list)
    tokens: list[Asked] = field(default_factory=list)
    twists: list[Twist] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    most_at_once: int = 0
    at_once: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def questions(self) -> list[Asked]:
        """The requests for predictions."""
        return [one for one in self.asked if one.method == "POST"]


@contextmanager
def model_endpoint(
    local: LocalModelInterface, dialect: str, *, context: ssl.SSLContext | None = None, **facts: Any
) -> Iterator[ModelEndpoint]:
    """Serve a model on a free port, with TLS where a context is given."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    url = f"{'https' if context else 'http'}://127.0.0.1:{server.server_address[1]}"
    endpoint = ModelEndpoint(url, local, dialect, **facts)
    server.endpoint = endpoint  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield endpoint
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert endpoint.violations == []


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 10
    disable_nagle_algorithm = True

    @property
    def endpoint(self) -> ModelEndpoint:
        return self.server.endpoint  # type: ignore[attr-defined, no-any-return]

    def handle(self) -> None:
        with suppress(OSError):  # clients that hang up, and handshakes that they refuse, are what some tests are about
            super().handle()

    def do_GET(self) -> None:
        self._serve("GET")

    def do_POST(self) -> None:
        self._serve("POST")

    def log_message(self, *_: Any) -> None:
        pass

    def _serve(self, method: str) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        asked = Asked(method, self.path, {name.lower(): value for name, value in self.headers.items()}, body)
        if self.path == "/oauth/token":
            self._answer(*self._token(asked), Twist())
            return
        with self.endpoint.lock:
            self.endpoint.asked.append(asked)
            self.endpoint.at_once += 1
            self.endpoint.most_at_once = max(self.endpoint.most_at_once, self.endpoint.at_once)
            twist = self.endpoint.twists.pop(0) if self.endpoint.twists and method == "POST" else Twist()
        try:
            time.sleep(twist.wait_seconds)
            self._answer(*self._content(asked), twist)
        finally:
            with self.endpoint.lock:
                self.endpoint.at_once -= 1

    def _content(self, asked: Asked) -> tuple[int, Any]:
        refused = self._stranger(asked)
        if refused is not None:
            return refused
        try:
            if asked.method == "POST":
                _check_headers(asked)
            speak = SERVERS[self.endpoint.like] if self.endpoint.like else SPEAKERS[self.endpoint.dialect]
            return 200, speak(self.endpoint, asked)
        except Refused as problem:
            if problem.status == 400:
                self.endpoint.violations.append(str(problem))
            return problem.status, problem.body(self.endpoint.dialect)

    def _stranger(self, asked: Asked) -> tuple[int, Any] | None:
        """Return the refusal of whoever does not say the right thing about itself. It echoes what it was told."""
        given = asked.headers.get("authorization", "")
        wanted = {
            "": given,
            "bearer": "Bearer s3cret-token",
            "basic": "Basic dXNlcjpzM2NyZXQtcGFzcw==",
            "oauth2": f"Bearer {self.endpoint.token}",
        }.get(self.endpoint.secured)
        key = asked.headers.get("x-api-key", "")
        if self.endpoint.secured == "api_key":
            wanted, given = "s3cret-key", key
        if given == wanted:
            return None
        return 401, {"error": {"code": "unauthenticated", "message": f"not with {given}", "retryable": False}}

    def _token(self, asked: Asked) -> tuple[int, Any]:
        self.endpoint.tokens.append(asked)
        form = parse_qs(asked.body.decode())
        if asked.headers.get("authorization") != "Basic Y2xpZW50LTE6czNjcmV0LWlk":
            return 401, {"error": "invalid_client", "error_description": asked.headers.get("authorization")}
        assert form == {"grant_type": ["client_credentials"], "scope": ["predict"]}, form
        assert asked.headers["content-type"] == "application/x-www-form-urlencoded"
        lives = self.endpoint.token_lives_seconds
        return 200, {"access_token": self.endpoint.token, "token_type": "Bearer", "expires_in": lives}

    def _answer(self, status: int, payload: Any, twist: Twist) -> None:
        if twist.drop:
            # Resets the connection instead of ending it.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            return
        if twist.change is not None and status == 200:
            payload = twist.change(payload)
        plain = payload.encode() if isinstance(payload, str) else json.dumps(payload).encode()
        body = plain if twist.body is None else twist.body
        self.send_response(twist.status if twist.status != 200 else status)
        for name, value in {"Content-Type": "application/json", "Content-Length": len(body), **twist.headers}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if not twist.drip_seconds:
            self.wfile.write(body)
            return
        for one in body:
            self.wfile.write(bytes([one]))
            self.wfile.flush()
            time.sleep(twist.drip_seconds)


def _check_headers(asked: Asked) -> None:
    headers = asked.headers
    expected = {"content-type": "application/json", "accept": "application/json", "accept-encoding": "identity"}
    wrong = {name: headers.get(name) for name, value in expected.items() if headers.get(name) != value}
    if wrong:
        raise Refused(f"headers {wrong}")
    if not headers.get("x-request-id") or headers["x-request-id"] != headers.get("idempotency-key"):
        raise Refused("expected X-Request-ID and Idempotency-Key")
    UUID(headers["x-request-id"])
    if len(asked.body) > 4 * MIB:
        raise Refused("more than 4 MiB")
