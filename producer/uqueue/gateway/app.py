"""Puts the gateway together."""

from __future__ import annotations

import importlib.metadata
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Security
from fastapi.middleware.cors import CORSMiddleware
from fastapi.security import HTTPBearer

from uqueue.gateway import events, health, inference, jobs, models, problems
from uqueue.gateway.documents import document
from uqueue.gateway.gate import Gate
from uqueue.gateway.observe import Observe
from uqueue.gateway.state import Gateway
from uqueue_config.settings import Settings

DESCRIPTION = (
    "Asynchronous predictions with calibrated intervals. Submit a job, poll it or hear its events, read its result. "
    "Every error is RFC 9457 problem+json."
)
_EXPOSED = ("Location", "Retry-After", "Preference-Applied", "X-Request-Id", "traceparent", "WWW-Authenticate")


def create_app(settings: Settings) -> FastAPI:
    """Return the application. Raises SettingsError where API keys are wanted and cannot be read.

    Nothing is opened before the first request.
    """
    gateway = Gateway(settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await gateway.close()

    app = FastAPI(
        title="uqueue",
        version=importlib.metadata.version("uqueue"),
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,  # these two pages load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        exception_handlers=problems.handlers(),
    )
    app.state.gateway = gateway
    keyed = [] if gateway.keys is None else [Security(HTTPBearer(auto_error=False, description="An API key."))]
    app.include_router(health.public)
    app.include_router(inference.health_router)
    for routes in (jobs, events, models, inference, health):
        app.include_router(routes.router, dependencies=keyed)
    app.openapi = lambda: document(app)  # type: ignore[method-assign]
    _wrap(app, gateway)
    return app


def _wrap(app: Any, gateway: Gateway) -> None:
    """Put the middleware around the routes; the last is the outermost."""
    app.add_middleware(Gate, gateway=gateway)
    if origins := gateway.settings.gateway_cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(origins),
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["*"],
            expose_headers=list(_EXPOSED),
        )
    app.add_middleware(Observe, gateway=gateway)
