"""Runs the gateway in this process, until it is asked to end."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import logging
import math
import os
import socket
from types import FrameType
from typing import Any

import uvicorn

from uqueue.gateway import logs
from uqueue.gateway.app import create_app
from uqueue.gateway.protocol import BoundedProtocol
from uqueue.gateway.state import Gateway
from uqueue_config.settings import Settings

KEEP_ALIVE_SECONDS = 30
#: How long a socket that no longer listens takes to be closed.
CLOSING_SECONDS = 0.05
#: How many objects are made, and not freed, between two looks for garbage; Python's own number is 700.
GARBAGE_LOOKS = 20_000


class Server(uvicorn.Server):
    """uvicorn that says where it listens, and tells the gateway when it is asked to end."""

    def __init__(self, config: uvicorn.Config, gateway: Gateway) -> None:
        super().__init__(config)
        self._gateway = gateway

    async def startup(self, sockets: list[Any] | None = None) -> None:
        await super().startup(sockets)
        # Requests leave hardly any cycles: to look for some 30 times less often saves a third of the time.
        gc.collect()
        gc.freeze()
        gc.set_threshold(GARBAGE_LOOKS)
        for server in self.servers:
            for listening in server.sockets:
                address, port = listening.getsockname()[:2]
                keys = "wanted" if self._gateway.keys else "not wanted"
                logs.write(logging.INFO, "listening", address=address, port=port, keys=keys)

    async def shutdown(self, sockets: list[Any] | None = None) -> None:
        await self._take_waiting()
        await super().shutdown(sockets)

    async def _take_waiting(self) -> None:
        """Stop listening, and take the connections that the kernel has accepted already: it would reset them."""
        listening = [socket.socket(fileno=os.dup(one.fileno())) for server in self.servers for one in server.sockets]
        for server in self.servers:
            server.close()
        await asyncio.sleep(CLOSING_SECONDS)
        waiting: list[socket.socket] = []
        for one in listening:
            with one, contextlib.suppress(OSError):  # there is none left
                one.setblocking(False)
                while True:
                    waiting.append(one.accept()[0])
        for connection in waiting:
            connection.setblocking(False)
            with contextlib.suppress(OSError):  # its client has gone
                await asyncio.get_running_loop().connect_accepted_socket(self._protocol, connection)

    def _protocol(self) -> Any:
        make: Any = self.config.http_protocol_class
        return make(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._gateway.stopping = True
        super().handle_exit(sig, frame)


def run(settings: Settings) -> bool:
    """Serve until SIGTERM or SIGINT, then finish the requests in work; False where it could not listen.

    Raises SettingsError where API keys are wanted and cannot be read.
    """
    logs.configure(settings.log_level, settings.log_format)
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        host=settings.gateway_address,
        port=settings.gateway_port,
        http=functools.partial(BoundedProtocol, head_seconds=settings.gateway_body_seconds.total_seconds()),  # type: ignore[arg-type]
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=math.ceil(settings.shutdown_seconds.total_seconds()),
    )
    server = Server(config, app.state.gateway)
    with contextlib.suppress(SystemExit):  # uvicorn's way to say that it could not listen; its log says why
        server.run()
    return server.started
