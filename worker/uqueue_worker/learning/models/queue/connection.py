"""The one place that imports the queue's client, on first use."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from uqueue_config.settings import Settings


class QueueJob(Protocol):
    """What an evaluation needs of `uqueue.Job`; states are `uqueue.JobStatus`."""

    id: str

    def status(self) -> Any: ...

    def result(self, timeout: float | None = None) -> Any: ...

    def cancel(self) -> Any: ...


class QueueClient(Protocol):
    """What it needs of `uqueue.Client`."""

    def submit_many(
        self,
        list_of_features: Iterable[Any],
        model: str = ...,
        *,
        idempotency_keys: Iterable[str] | None = None,
        expires: float | None = None,
        version: str | None = None,
    ) -> Sequence[QueueJob]: ...

    def model(self, name: str = ...) -> Any: ...

    def close(self) -> None: ...


def open_client(settings: Settings | None = None) -> QueueClient:
    """Return a client of the service that the settings name, the environment's unless given; nothing is opened yet."""
    from uqueue import Client

    return Client(settings)
