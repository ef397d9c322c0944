"""A proxy in front of an HTTP server that notes every request and breaks the answers it is told to break."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

NOT_FORWARDED = {"connection", "content-length", "keep-alive", "transfer-encoding"}


@dataclass(frozen=True)
class Fault:
    """What becomes of one answer.

    status, body  are sent instead of it, where status is set
    keep_bytes    of the body are sent, then the connection ends
    flip          changes one byte of the body
    hang          sends nothing for as long as the proxy runs
    drop          ends the connection without a word
    slow_seconds  pass before the request goes on to the server
    late_seconds  pass before the answer, which is that of the server at once, goes back
    """

    status: int | None = None
    body: bytes = b""
    keep_bytes: int | None = None
    flip: bool = False
    hang: bool = False
    drop: bool = False
    slow_seconds: float = 0.0
    late_seconds: float = 0.0


Choice = Callable[[str, str], Fault | None]


@dataclass
class FaultProxy:
    """A running proxy; set `fault(method, path)` to choose what breaks.

    `requests` are (method, path, status) of those that were answered, `arrivals` (method, path) of all there were.
    """

    target: str
    url: str = ""
    fault: Choice = lambda method, path: None
    requests: list[tuple[str, str, int]] = field(default_factory=list)
    arrivals: list[tuple[str, str]] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)

    def break_all(self, fault: Fault) -> None:
        self.fault = lambda method, path: fault

    def break_path(self, part: str, fault: Fault, *, times: int = 1_000_000) -> None:
        """Break the first answers about paths that contain `part`."""
        left = [fault] * min(times, 1000)

        def choose(method: str, path: str) -> Fault | None:
            return left.pop() if part in path and left else None

        self.fault = choose

    def mend(self) -> None:
        self.fault = lambda method, path: None

    def seen(self, method: str, part: str) -> int:
        """Return how many requests there were whose path contains `part`."""
        return sum(one[0] == method and part in one[1] for one in self.requests)


@contextmanager
def fault_proxy(target: str) -> Iterator[FaultProxy]:
    """Run a proxy in front of the server at this URL."""
    proxy = FaultProxy(target)

    class Handler(_Handler):
        shared = proxy

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda request, address: None  # type: ignore[method-assign]
    proxy.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    shared: FaultProxy
    protocol_version = "HTTP/1.1"

    def handle_one_request(self) -> None:
        with suppress(ConnectionError):
            super().handle_one_request()

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.shared.arrivals.append((self.command, self.path))
        fault = self.shared.fault(self.command, self.path) or Fault()
        if fault.drop:
            self.close_connection = True
            return
        if fault.hang or (fault.slow_seconds and self.shared.closing.wait(fault.slow_seconds)):
            self.shared.closing.wait()
            self.close_connection = True
            return
        status, headers, content = self._forward(body) if fault.status is None else (fault.status, [], fault.body)
        self.shared.requests.append((self.command, self.path, status))
        if fault.late_seconds and self.shared.closing.wait(fault.late_seconds):
            self.close_connection = True
            return
        if fault.flip and content:
            content = bytes([content[0] ^ 1]) + content[1:]
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        if status != 304:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD" and status != 304:
            self.wfile.write(content[: fault.keep_bytes])
        self.close_connection = fault.keep_bytes is not None

    do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = _serve

    def _forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        target = urlsplit(self.shared.target)
        connection = http.client.HTTPConnection(target.hostname or "", target.port, timeout=30)
        try:
            headers = {name: value for name, value in self.headers.items() if name.lower() not in NOT_FORWARDED}
            connection.request(self.command, self.path, body=body or None, headers=headers)
            answer = connection.getresponse()
            kept = [pair for pair in answer.getheaders() if pair[0].lower() not in NOT_FORWARDED]
            return answer.status, kept, answer.read()
        finally:
            connection.close()

    def log_message(self, format: str, *args: object) -> None:
        pass
