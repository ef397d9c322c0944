"""The worker whose lane has ended while its processes live on: `celery -A builders.deaf_app worker`."""

from __future__ import annotations

from uqueue_worker.app import app
from uqueue_worker.lane import Lane

__all__ = ["app"]


def _end(self: Lane) -> None:
    """Run the lane's thread: not at all."""


Lane._run = _end  # type: ignore[method-assign]
