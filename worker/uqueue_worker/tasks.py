"""Celery's entry points. Each decodes, calls one plain function, and returns its answer."""

from __future__ import annotations

from typing import Any

from celery.exceptions import Ignore

from uqueue_config.errors import UqueueError
from uqueue_config.names import DEFAULT_MODEL, Task
from uqueue_worker import process
from uqueue_worker.app import app
from uqueue_worker.jobs import JobHasEnded


@app.task(name=Task.PREDICT.value, bind=True, throws=(UqueueError,))  # type: ignore[untyped-decorator]
def predict(self: Any, **kwargs: Any) -> dict[str, Any]:
    """Answer one prediction job; the keyword arguments are those of `PredictRequest`."""
    try:
        return process.current().answer(self.request.id, kwargs)
    except JobHasEnded as ended:
        raise Ignore(str(ended)) from None


@app.task(name=Task.POLL_ARTIFACTS.value, throws=(UqueueError,))  # type: ignore[untyped-decorator]
def poll_artifacts(model: str = DEFAULT_MODEL, scheduled: bool = False) -> dict[str, Any]:
    """Look at the artifacts of a model or track; make a good new pair the version that every process should serve.

    Of several looks that are `scheduled` within an interval one acts, so that any number of beats may run.
    """
    return process.current().poll(model, scheduled=scheduled)
