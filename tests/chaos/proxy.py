"""A proxy between workers and Redis that loses replies: the request goes through, the answer does not come back."""

from __future__ import annotations

import contextlib
import hashlib
import random
import select
import socket
import socketserver
import threading
from collections import Counter
from collections.abc import Iterator
from typing import cast

from uqueue_config.ledger import source

#: What a request that may lose its reply holds: the script's digest.
SCRIPTS = {hashlib.sha1(source(name).encode()).hexdigest().encode(): name for name in ("claim", "commit")}
#: How long Redis gets to do what it was asked before the connection is cut.
SWALLOW_SECONDS = 0.02


class CuttingProxy(socketserver.ThreadingTCPServer):
    """Listens on a free port of 127.0.0.1. `share` is the probability that a claim or commit loses its reply.

    `cuts` counts connections that were cut, by the script whose reply was lost.
    """

    daemon_threads = True
    request_queue_size = 50

    def __init__(self, inner_port: int, share: float) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.inner_port = inner_port
        self.url = f"redis://127.0.0.1:{self.server_address[1]}/0"
        self.share = share
        self.cuts: Counter[str] = Counter()


class _Connection(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        front = cast(CuttingProxy, self.server)
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", front.inner_port)) as inner:
            inner.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            lost = _pass_on(self.request, inner, front)
            if lost:
                _swallow(self.request, inner)
                front.cuts[lost] += 1


def _pass_on(outer: socket.socket, inner: socket.socket, front: CuttingProxy) -> str:
    """Pass bytes on in both directions until one side ends, or until a reply is to be lost: then return of what."""
    while True:
        for source_socket in select.select([outer, inner], [], [])[0]:
            data = source_socket.recv(262_144)
            if not data:
                return ""
            if source_socket is inner:
                outer.sendall(data)
                continue
            inner.sendall(data)
            asked = [name for digest, name in SCRIPTS.items() if b"EVALSHA" in data and digest in data]
            if asked and random.random() < front.share:
                return asked[-1]


def _swallow(outer: socket.socket, inner: socket.socket) -> None:
    """Go on with the request and drop the replies, until nothing has come for a moment."""
    while True:
        ready = select.select([outer, inner], [], [], SWALLOW_SECONDS)[0]
        if not ready:
            return
        for source_socket in ready:
            data = source_socket.recv(262_144)
            if not data:
                return
            if source_socket is outer:
                inner.sendall(data)


@contextlib.contextmanager
def cutting_proxy(inner_port: int, share: float) -> Iterator[CuttingProxy]:
    """Run a CuttingProxy for as long as the block runs."""
    with CuttingProxy(inner_port, share) as front:
        thread = threading.Thread(target=front.serve_forever, args=(0.05,), name="cutting-proxy")
        thread.start()
        try:
            yield front
        finally:
            front.shutdown()
            thread.join()
