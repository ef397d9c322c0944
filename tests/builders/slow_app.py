"""The worker with a model that takes 8 s to load: `celery -A builders.slow_app worker`."""

from __future__ import annotations

import time

from uqueue_worker.app import app
from uqueue_worker.models import store

__all__ = ["app"]

_load = store.load_model


def _load_slowly(*args: object, **kwargs: object) -> object:
    time.sleep(8)
    return _load(*args, **kwargs)  # type: ignore[arg-type]


store.load_model = _load_slowly  # type: ignore[assignment]
