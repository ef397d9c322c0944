"""A way to a server that can be cut as a firewall cuts it: nobody is refused, nothing is closed, nothing arrives."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from collections.abc import Iterator


class Firewall:
    """Forwards 127.0.0.1:`port` to a server. What was connected when it was cut never hears of the server again."""

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(0)
        self.port: int = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        self._fillers: list[socket.socket] = []
        self._generation = 0
        self._passing = threading.Event()
        self._closing = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        self._passing.set()
        self._thread(self._accept)

    def cut(self) -> None:
        """From now on nothing passes. The system drops requests to connect once the queue for them is full."""
        self._generation += 1
        self._passing.clear()
        while len(self._fillers) < 50:
            filler = socket.socket()
            self._fillers.append(filler)
            filler.settimeout(0.2)
            try:
                filler.connect(("127.0.0.1", self.port))
            except TimeoutError:
                return
        raise AssertionError("the queue of connections is never full")

    def restore(self) -> None:
        """Let new connections pass."""
        for filler in self._fillers:
            filler.close()
        self._fillers.clear()
        self._passing.set()

    def close(self) -> None:
        self._closing.set()
        self._passing.set()
        for one in (self._listener, *self._fillers, *self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        for thread in self._threads:
            thread.join(5)

    def _accept(self) -> None:
        while not self._closing.is_set():
            self._passing.wait()
            with contextlib.suppress(OSError, ValueError):  # closed meanwhile
                if select.select([self._listener], [], [], 0.05)[0] and self._passing.is_set():
                    self._connect(self._listener.accept()[0])

    def _connect(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(("127.0.0.1", self._server_port))
        except OSError:
            client.close()
            raise
        self._open += (client, server)
        for source, target in ((client, server), (server, client)):
            self._thread(self._forward, source, target, self._generation)

    def _forward(self, source: socket.socket, target: socket.socket, generation: int) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if generation == self._generation:
                    target.sendall(data)
        if generation == self._generation:
            with contextlib.suppress(OSError):
                target.shutdown(socket.SHUT_RDWR)

    def _thread(self, target: object, *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()


@contextlib.contextmanager
def firewall(server_port: int) -> Iterator[Firewall]:
    """Run one in front of a server of this host."""
    one = Firewall(server_port)
    one.start()
    try:
        yield one
    finally:
        one.close()
