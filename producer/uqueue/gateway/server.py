"""Runs the gateway in this process, until it is asked to end."""

from __future__ import annotations

import contextlib
import functools
import logging
import math
from types import FrameType
from typing import Any

import uvicorn

from uqueue.gateway import logs
from uqueue.gateway.app import create_app
from uqueue.gateway.protocol import BoundedProtocol
from uqueue.gateway.state import Gateway
from uqueue_config.settings import Settings

KEEP_ALIVE_SECONDS = 30


class Server(uvicorn.Server):
    """uvicorn that says where it listens, and tells the gateway when it is asked to end."""

    def __init__(self, config: uvicorn.Config, gateway: Gateway) -> None:
        super().__init__(config)
        self._gateway = gateway

    async def startup(self, sockets: list[Any] | None = None) -> None:
        await super().startup(sockets)
        for server in self.servers:
            for socket in server.sockets:
                address, port = socket.getsockname()[:2]
                keys = "wanted" if self._gateway.keys else "not wanted"
                logs.write(logging.INFO, "listening", address=address, port=port, keys=keys)

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
