"""What takes requests from the queue `alm` as the learning worker does, without Celery: in a thread."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from pydantic import BaseModel
from structlog.testing import capture_logs

from uqueue_config.connections import connect
from uqueue_config.envelope import read_for_celery
from uqueue_config.learning.names import PRESENCE_KEY, LearningQueue
from uqueue_config.learning.requests import Request
from uqueue_config.settings import Settings
from uqueue_worker.learning.asked import Presence, serve

Answering = Callable[[Request[Any]], BaseModel]


class Answerer:
    """Takes and answers requests one after another until it is stopped. `log` is what it logged."""

    def __init__(self, settings: Settings, answering: Answering) -> None:
        self._settings, self._answering = settings, answering
        self._stopping = threading.Event()
        self.log: list[Any] = []

    def run(self) -> None:
        with connect(self._settings.broker) as queue, connect(self._settings.result_store) as records:
            while not self._stopping.is_set():
                popped: Any = queue.brpop([LearningQueue.ALM.value], timeout=0.1)
                if popped is not None:
                    _, kwargs = read_for_celery(popped[1])
                    serve(kwargs, self._answering, records)

    def stop(self) -> None:
        self._stopping.set()


@contextmanager
def answering(settings: Settings, answer: Answering, workers: int = 1) -> Iterator[Answerer]:
    """Answer requests in threads of this process, and say that a learning worker is there."""
    answerer = Answerer(settings, answer)
    with connect(settings.result_store) as connection, capture_logs() as answerer.log:  # not on stdout
        presence = Presence(connection)
        presence.start()
        threads = [threading.Thread(target=answerer.run) for _ in range(workers)]
        for thread in threads:
            thread.start()
        try:
            yield answerer
        finally:
            answerer.stop()
            for thread in threads:
                thread.join()
            presence.stop()
            connection.delete(PRESENCE_KEY)
