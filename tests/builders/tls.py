"""TLS in front of a Redis that was built without it: real handshakes, ended in this process."""

from __future__ import annotations

import contextlib
import select
import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator
from typing import cast

import trustme


class TlsFront(socketserver.ThreadingTCPServer):
    """Accepts TLS and nothing else on a free port of 127.0.0.1, and passes what comes on to another port.

    `versions` holds the TLS version of every handshake that succeeded.
    """

    daemon_threads = True
    request_queue_size = 50

    def __init__(self, inner_port: int, certificate: trustme.LeafCert) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.inner_port = inner_port
        self.port = int(self.server_address[1])
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(self.context)
        self.versions: list[str] = []
        self.open_sockets: set[socket.socket] = set()

    def cut(self) -> None:
        """End every connection."""
        for one in list(self.open_sockets):
            with contextlib.suppress(OSError):
                socket.socket.shutdown(one, socket.SHUT_RDWR)


class _Connection(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        front = cast(TlsFront, self.server)
        self.request.settimeout(10)
        # A refused handshake and a connection that breaks are what some tests are about.
        with contextlib.suppress(OSError), front.context.wrap_socket(self.request, server_side=True) as outer:
            front.versions.append(str(outer.version()))
            with socket.create_connection(("127.0.0.1", front.inner_port)) as inner:
                front.open_sockets |= {outer, inner}
                try:
                    _pass_on(outer, inner)
                finally:
                    front.open_sockets -= {outer, inner}


def _pass_on(outer: ssl.SSLSocket, inner: socket.socket) -> None:
    while True:
        ready = [outer] if outer.pending() else select.select([outer, inner], [], [])[0]
        for source, target in ((outer, inner), (inner, outer)):
            if source in ready:
                data = source.recv(65536)
                if not data:
                    return
                target.sendall(data)


@contextlib.contextmanager
def tls_in_front_of(port: int, certificate: trustme.LeafCert) -> Iterator[TlsFront]:
    """Run a TlsFront for as long as the block runs."""
    with TlsFront(port, certificate) as front:
        thread = threading.Thread(target=front.serve_forever, args=(0.05,), name="tls-front")
        thread.start()
        try:
            yield front
        finally:
            front.shutdown()
            front.cut()
            thread.join()
