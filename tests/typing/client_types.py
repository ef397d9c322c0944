"""Checked by mypy, never run: what a user's type checker sees of the client."""

from __future__ import annotations

from typing import assert_type

import numpy as np
from numpy.typing import NDArray

import uqueue


def plain(client: uqueue.Client) -> None:
    job = client.submit([[1.0]], seed=1, idempotency_key="k", expires=3.0, target_dim=1)
    assert_type(job, uqueue.Job)
    assert_type(job.id, str)
    assert_type(client.submit_many([[[1.0]]]), list[uqueue.Job])
    assert_type(job.status(), uqueue.JobStatus)
    assert_type(job.status().state, uqueue.JobState)
    prediction = job.result(timeout=1)
    assert_type(prediction, uqueue.IntervalPrediction)
    assert_type(prediction.lower, NDArray[np.float64])
    assert_type(prediction.intervals, NDArray[np.float64])
    assert_type(prediction.model.version, str)
    assert_type(client.models(), list[uqueue.ModelStatus])
    assert_type(client.reload("mccp-uq"), uqueue.ReloadReport)


async def with_await(client: uqueue.AsyncClient) -> None:
    job = await client.submit([[1.0]])
    assert_type(job, uqueue.AsyncJob)
    assert_type(await job.result(), uqueue.IntervalPrediction)
    assert_type(await job.cancel(), uqueue.JobStatus)
    assert_type(await client.models(), list[uqueue.ModelStatus])
