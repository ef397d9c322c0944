"""From an HTTP request to a question for the learning worker, and back."""

from __future__ import annotations

from typing import TypeVar

from fastapi import Response
from pydantic import BaseModel
from pydantic_core import to_json

from uqueue.gateway.problems import Problem
from uqueue.gateway.state import Gateway
from uqueue_config.learning.requests import Request as Asked

JSON = "application/json"
Answer = TypeVar("Answer", bound=BaseModel)


async def ask(gateway: Gateway, request: Asked[Answer]) -> Answer:
    """Return the learning worker's answer, waiting as long as a request may. Raises what it answers instead, and what
    `Learning` raises.
    """
    if gateway.stopping:
        raise Problem(503, "draining", "The gateway is about to end. Try again.", {"Retry-After": "1"})
    seconds = gateway.settings.gateway_wait_seconds.total_seconds()
    return await gateway.client.learning.ask(request, seconds)


def shown(answer: BaseModel, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return an answer as JSON."""
    return Response(to_json(answer.model_dump(mode="json")), status, headers, JSON)
