"""Puts the gateway together."""

from __future__ import annotations

import importlib.metadata
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Security
from fastapi.middleware.cors import CORSMiddleware
from fastapi.security import HTTPBearer

from uqueue.gateway import direct, events, health, inference, jobs, models, problems
from uqueue.gateway.documents import document
from uqueue.gateway.gate import Gate
from uqueue.gateway.learning import routes as learning
from uqueue.gateway.learning import scenarios
from uqueue.gateway.localization import admin, analytics
from uqueue.gateway.localization import routes as localization
from uqueue.gateway.localization.reload import reload_at_hangup
from uqueue.gateway.localization.service import Localizer
from uqueue.gateway.observe import Observe
from uqueue.gateway.page import routes as page
from uqueue.gateway.state import Gateway
from uqueue_config.settings import Settings

DESCRIPTION = (
    "Asynchronous predictions with calibrated intervals. Submit a job, poll it or hear its events, read its result. "
    "Every error is RFC 9457 problem+json."
)
_EXPOSED = ("Location", "Retry-After", "Preference-Applied", "X-Request-Id", "traceparent", "WWW-Authenticate")


def create_app(settings: Settings) -> FastAPI:
    """Return the application. Raises SettingsError where API keys are wanted and cannot be read, or webhook secrets.

    Nothing is opened before it starts to serve.
    """
    gateway = Gateway(settings)
    localizer = Localizer(gateway)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        if gateway.webhooks is not None:
            gateway.webhooks.start()
        async with reload_at_hangup(localizer):
            yield
        await localizer.close()
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
    app.state.localizer = localizer
    app.state.page = page.Page(gateway)
    keyed = [] if gateway.keys is None else [Security(HTTPBearer(auto_error=False, description="An API key."))]
    direct.add_submit(app, keyed)
    app.include_router(health.public)
    app.include_router(page.public)
    app.include_router(inference.health_router)
    # Routes are tried in their order, so what is asked for most comes first.
    for routes in (localization, jobs, events, models, inference, health, admin, page, learning, scenarios):
        app.include_router(routes.router, dependencies=keyed)
    for prefix in analytics.PREFIXES:
        app.include_router(analytics.router, prefix=prefix, dependencies=keyed)
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
            allow_methods=["GET", "POST", "PUT", "DELETE"],
            allow_headers=["*"],
            expose_headers=list(_EXPOSED),
        )
    app.add_middleware(Observe, gateway=gateway)
