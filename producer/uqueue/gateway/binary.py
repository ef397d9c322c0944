"""The binary tensor extension of the Open Inference Protocol, as Triton's clients use it unless told otherwise.

A body is then JSON and, after it, the bytes of the tensors in their order; the header below says how long the JSON is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine, MutableMapping, Sequence
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic_core import to_json

from uqueue.gateway.problems import Problem

HEADER = "Inference-Header-Content-Length"
MEDIA_TYPE = "application/octet-stream"
_JSON = b"application/json"


class BinaryRoute(APIRoute):
    """A route whose JSON may be followed by tensors, which are then in `request.state.binary`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handler(request: Request) -> Response:
            return await handle(await _unpacked(request))

        return handler


async def _unpacked(request: Request) -> Request:
    given, is_untyped = request.headers.get(HEADER), "content-type" not in request.headers
    # Triton's clients name no type. Nor need web pages, which may not send a prediction: but these name their origin.
    if given is None and not (is_untyped and "origin" not in request.headers):
        return request
    body = await request.body()
    length = len(body) if given is None else _length(given, len(body))
    request.state.binary = body[length:]
    headers = [(name, value) for name, value in request.scope["headers"] if name != b"content-type"]
    return Request({**request.scope, "headers": [*headers, (b"content-type", _JSON)]}, _once(body[:length]))


def _length(given: str, size: int) -> int:
    if not re.fullmatch(r"[0-9]{1,12}", given) or int(given) > size:
        raise Problem(400, "invalid_header", f"{HEADER}: expected a number of bytes, at most the {size} of the body.")
    return int(given)


def _once(body: bytes) -> Callable[[], Coroutine[Any, Any, MutableMapping[str, Any]]]:
    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive


def packed(answer: Any, tensors: Sequence[bytes]) -> Response:
    """Return an answer with its tensors after it, or plain JSON where there are none."""
    head = to_json(answer)
    if not tensors:
        return Response(head, media_type=_JSON.decode())
    return Response(b"".join((head, *tensors)), headers={HEADER: str(len(head))}, media_type=MEDIA_TYPE)
