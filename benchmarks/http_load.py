"""A load of HTTP requests from many clients at a time, each on a connection of its own, and how long the answers took.

    python benchmarks/http_load.py URL --clients 100 --requests 20000 --body FILE [--header 'Name: value'] [--think 0.5]

Without a time to think each client asks again as soon as it has its answer. The client speaks just enough HTTP/1.1 to
keep it cheap: it shares the machine with what it measures. A request without an answer counts under status 0.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import math
import random
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import uvloop


@dataclass
class Load:
    """What came back: how many answers of which status, and the milliseconds of those with status 200."""

    seconds: float = 0.0
    statuses: dict[int, int] = field(default_factory=dict)
    invalid: int = 0
    milliseconds: list[float] = field(default_factory=list)

    def count(self, status: int) -> None:
        """Count an answer; 0 is the status of a request without one."""
        self.statuses[status] = self.statuses.get(status, 0) + 1

    @property
    def per_second(self) -> float:
        return len(self.milliseconds) / self.seconds if self.seconds else 0.0

    def percentile(self, share: float) -> float:
        """Return a nearest-rank percentile of the answers with status 200, NaN where there are none."""
        ordered = sorted(self.milliseconds)
        return ordered[max(0, math.ceil(share / 100 * len(ordered)) - 1)] if ordered else math.nan

    def summary(self) -> dict[str, object]:
        return {
            "requests": sum(self.statuses.values()),
            "statuses": {str(status): count for status, count in sorted(self.statuses.items())},
            "invalid": self.invalid,
            "seconds": round(self.seconds, 3),
            "per_second": round(self.per_second, 1),
            "mean_ms": round(sum(self.milliseconds) / len(self.milliseconds), 3) if self.milliseconds else None,
            **{f"p{share}_ms": round(self.percentile(share), 3) for share in (50, 95, 99) if self.milliseconds},
        }


@dataclass
class Plan:
    """What clients send. `think_seconds` is how long they wait on average before each request, `is_valid` sees each
    answer of status 200, head and body.
    """

    requests: deque[bytes]
    is_valid: Callable[[bytes], bool] = lambda answer: True
    think_seconds: float = 0.0


class Client(asyncio.Protocol):
    """Sends one request after the other."""

    def __init__(self, load: Load, plan: Plan) -> None:
        self._load, self._plan = load, plan
        self._received = bytearray()
        self._whole = 0
        self._sent_at = 0.0
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._next()

    def data_received(self, data: bytes) -> None:
        self._received += data
        if not self._whole:
            head = self._received.find(b"\r\n\r\n")
            if head < 0:
                return
            self._whole = head + 4 + _length(bytes(self._received[:head]))
        if len(self._received) >= self._whole:
            self._answered(time.perf_counter())

    def connection_lost(self, error: Exception | None) -> None:
        if self._sent_at:
            self._load.count(0)
        if not self.ended.done():
            self.ended.set_result(None)

    def _answered(self, now: float) -> None:
        status = int(self._received[9:12])
        self._load.count(status)
        if status == 200:
            if self._plan.is_valid(bytes(self._received)):
                self._load.milliseconds.append((now - self._sent_at) * 1000)
            else:
                self._load.invalid += 1
        self._received.clear()
        self._whole, self._sent_at = 0, 0.0
        self._next()

    def _next(self) -> None:
        if self._plan.think_seconds:
            seconds = self._plan.think_seconds * random.uniform(0, 2)
            asyncio.get_running_loop().call_later(seconds, self._send)
        else:
            self._send()

    def _send(self) -> None:
        if not self._plan.requests:
            self._transport.close()
            return
        self._sent_at = time.perf_counter()
        self._transport.write(self._plan.requests.popleft())


def _length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line[15:])
    return 0


def request_bytes(url: str, body: bytes, headers: Sequence[str] = (), method: str = "POST") -> bytes:
    """Return one request as it goes over the wire."""
    parts = urlsplit(url)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    lines = [
        f"{method} {path} HTTP/1.1",
        f"Host: {parts.netloc}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    ]
    return "\r\n".join([*lines, *headers, "", ""]).encode() + body


def run(url: str, plan: Plan, *, clients: int) -> Load:
    """Send all requests from this many clients."""
    return uvloop.run(_run(url, plan, clients))


async def _run(url: str, plan: Plan, clients: int) -> Load:
    parts, load = urlsplit(url), Load()
    loop = asyncio.get_running_loop()

    async def client() -> None:
        while plan.requests:
            try:
                _, one = await loop.create_connection(lambda: Client(load, plan), parts.hostname, parts.port)
            except OSError:
                load.count(0)
                plan.requests.popleft()
            else:
                await one.ended

    gc.disable()
    started = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    load.seconds = time.perf_counter() - started
    gc.enable()
    return load


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("url")
    options.add_argument("--clients", type=int, default=100)
    options.add_argument("--requests", type=int, default=10_000)
    options.add_argument("--body", type=Path, required=True, help="a file with the body of every request")
    options.add_argument("--think", type=float, default=0.0, help="seconds a client waits before each request")
    options.add_argument("--header", action="append", default=[], help="'Name: value'; may be given again")
    given = options.parse_args()
    one = request_bytes(given.url, given.body.read_bytes(), given.header)
    load = run(given.url, Plan(deque([one] * given.requests), think_seconds=given.think), clients=given.clients)
    print(json.dumps(load.summary(), indent=2))
    return 0 if set(load.statuses) == {200} else 1


if __name__ == "__main__":
    sys.exit(main())
