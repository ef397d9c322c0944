"""A steady stream of HTTP requests, one after the other: what the localization demo keeps flowing meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from itertools import cycle
from typing import Any, Self

from uqueue.cli.asking import post
from uqueue.cli.traffic import Tally
from uqueue_config.errors import UqueueError

REQUESTS_PER_SECOND = 10
ANSWER_SECONDS = 30.0


class HttpTraffic:
    """Posts these bodies in turn from a thread within a `with` block, past the cache; ends with the last answer."""

    def __init__(self, url: str, bodies: Sequence[dict[str, Any]]) -> None:
        self.tally = Tally()
        self._url = url
        self._bodies = [{**body, "cache_enabled": False} for body in bodies]
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="http-traffic", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()

    def _run(self) -> None:
        due = time.monotonic()
        for body in cycle(self._bodies):
            if self._ending.wait(max(0.0, due - time.monotonic())):
                return
            due = max(due + 1 / REQUESTS_PER_SECOND, time.monotonic())
            self._ask(body)

    def _ask(self, body: dict[str, Any]) -> None:
        started = time.monotonic()
        try:
            answer = post(self._url, body, timeout=ANSWER_SECONDS)
        except UqueueError as error:
            self.tally.failures.append(error.message)
        else:
            self.tally.answered[answer["model_version"]] += 1
        self.tally.slowest_seconds = max(self.tally.slowest_seconds, time.monotonic() - started)
