"""An observer of effects: Redis announces each outcome as it stores it, and the listener counts how often per job."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter

from redis.exceptions import RedisError

from uqueue_config.connections import connect
from uqueue_config.names import result_key


class Listener:
    """Counts until the block ends. What is announced while it reconnects is missed, so it hears at most everything."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="listener")
        self._ready = threading.Event()
        self.heard: Counter[str] = Counter()

    def __enter__(self) -> Listener:
        self._thread.start()
        self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.1):
            with contextlib.suppress(RedisError):
                self._listen()

    def _listen(self) -> None:
        with connect(self._url, retries=0) as connection, connection.pubsub() as channel:  # type: ignore[no-untyped-call]
            channel.psubscribe(result_key("*"))
            while not self._stop.is_set():
                message = channel.get_message(timeout=0.2)
                if message is None:
                    continue
                self._ready.set()
                if message["type"] == "pmessage":
                    self.heard[message["channel"].decode().removeprefix(result_key(""))] += 1
