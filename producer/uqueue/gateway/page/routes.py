"""`/` for browsers, and what the page is made of. With API keys, data is shown to those with the scope read only."""

from __future__ import annotations

import asyncio
import hashlib
import importlib.metadata
import importlib.resources
from functools import cache
from string import Template
from typing import Annotated, cast

from fastapi import APIRouter, Depends, Request, Response
from pydantic_core import to_json

from uqueue.gateway.keys import KeyEntry
from uqueue.gateway.page.look import Looker, View
from uqueue.gateway.page.markup import Html
from uqueue.gateway.page.parts import NAMES, parts
from uqueue.gateway.state import Gateway, needs

FILES = {"page.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg+xml"}
#: Answered without a key.
FILE_PATHS = frozenset(f"/page/{name}" for name in FILES)
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
_REFRESH = Html('<noscript><meta http-equiv="refresh" content="10"></noscript>')
_STILL = Html('<noscript><a href="?refresh=off">Stop refreshing</a></noscript>')
_GO_ON = Html('<noscript><a href="?">Refresh by itself</a></noscript>')
_FOR_EVER = "public, max-age=31536000, immutable"

public = APIRouter(include_in_schema=False)
router = APIRouter(include_in_schema=False)


class Page:
    """The page of one gateway."""

    def __init__(self, gateway: Gateway) -> None:
        self.wants_keys = gateway.keys is not None
        self._looker = Looker(gateway)
        self._made: tuple[View, dict[str, Html]] | None = None

    async def parts(self) -> dict[str, Html]:
        """Return what changes, made once for all who look at the same time."""
        view = await self._looker.look()
        if self._made is None or self._made[0] is not view:
            self._made = view, await asyncio.to_thread(parts, view)  # some milliseconds, which jobs do not wait for
        return self._made[1]


async def _page(request: Request) -> Page:
    return cast(Page, request.app.state.page)


ThePage = Annotated[Page, Depends(_page)]


def wants_page(accept: str | None) -> bool:
    """Return whether an Accept header asks for HTML rather than JSON, as browsers' do. Programs that take anything get
    JSON."""
    html, json = _weight(accept or "", "text/html"), _weight(accept or "", "application/json")
    return html > 0 and html >= json


def _weight(accept: str, kind: str) -> float:
    for one in accept.split(","):
        name, *parameters = (part.strip().lower() for part in one.split(";"))
        if name == kind:
            weights = [text[2:] for text in parameters if text.startswith("q=")]
            try:
                return float(weights[0]) if weights else 1.0
            except ValueError:
                return 0.0
    return 0.0


async def whole_page(request: Request) -> Response:
    """Return the page. Where a key is wanted and did not come, it asks for one and shows nothing else."""
    page, caller = await _page(request), cast(KeyEntry | None, request.state.caller)
    is_open = not page.wants_keys or (caller is not None and caller.allows("read"))
    found = await page.parts() if is_open else dict.fromkeys(NAMES, Html(""))
    refreshes = is_open and request.query_params.get("refresh") != "off"
    text = Template(_text("page.html")).substitute(
        found,
        **{name.replace(".", "_"): _digest(name) for name in FILES},
        version=importlib.metadata.version("uqueue"),
        ask=_text("ask.html") if page.wants_keys else "",
        hidden="" if is_open else " hidden",
        refresh=_REFRESH if refreshes else "",
        still=_STILL if refreshes else _GO_ON if is_open else "",
    )
    headers = {"Content-Security-Policy": POLICY, "Vary": "Accept"}
    return Response(text, headers=headers, media_type="text/html")


@router.get("/page/parts", dependencies=[needs("read")])
async def page_parts(page: ThePage) -> Response:
    """Return the parts of the page that change: a JSON object of HTML by name."""
    return Response(to_json(await page.parts()), media_type="application/json")


async def _file(request: Request) -> Response:
    name = request.url.path.rpartition("/")[2]
    return Response(_text(name), headers={"Cache-Control": _FOR_EVER}, media_type=FILES[name])


for _path in sorted(FILE_PATHS):
    public.add_api_route(_path, _file)


@cache
def _text(name: str) -> str:
    return (importlib.resources.files(__package__) / name).read_text(encoding="utf-8")


@cache
def _digest(name: str) -> str:
    """Return what tells this version of a file from others, so that browsers may keep it."""
    return hashlib.sha256(_text(name).encode()).hexdigest()[:12]
