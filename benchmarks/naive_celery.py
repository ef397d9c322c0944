"""The rival of `jobs.py`: the Celery app one writes in an afternoon, with our model and kernel inside.

The model is loaded once per process; features and answer travel as JSON; results are stored; nothing else is done.
"""

from __future__ import annotations

import os
from typing import Any

from celery import Celery
from celery.signals import worker_process_init

from uqueue_worker.artifacts import LocalFilesystemProvider
from uqueue_worker.models import IntervalModel, load_interval_model

url = os.environ["NAIVE_BROKER_URL"]
app = Celery("naive", broker=url, backend=url)
loaded: list[IntervalModel] = []


@worker_process_init.connect
def load(**_: Any) -> None:
    loaded.append(load_interval_model(LocalFilesystemProvider(os.environ["NAIVE_WORKSPACE"])))


@app.task(name="naive.predict")
def predict(features: list[list[float]], seed: int) -> dict[str, Any]:
    return loaded[0].predict(features, seed=seed).to_message()
