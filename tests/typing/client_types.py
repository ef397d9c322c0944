"""Checked by mypy, never run: what a user's type checker sees of the client."""

from __future__ import annotations

from typing import assert_type

import numpy as np
from numpy.typing import NDArray

import uqueue
from uqueue_config.learning.answers import RunDetails, RunList, RunStarted
from uqueue_config.learning.feedback import ModelPerformanceData
from uqueue_config.learning.requests import ShowScenario
from uqueue_config.learning.scenario import ScenarioDefinition


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


def learning(client: uqueue.Client) -> None:
    assert_type(client.learning.start_run({"max_cycles": 2}, idempotency_key="k"), RunStarted)
    assert_type(client.learning.wait_for_run("run", timeout=1), RunDetails)
    assert_type(client.learning.report("run", "csv").content, str)
    assert_type(client.learning.runs(limit=5).next_cursor, str | None)
    assert_type(client.learning.add_field_samples("run", samples=[]).taken, int)
    assert_type(client.learning.feedback("pool.avro"), ModelPerformanceData)
    assert_type(client.learning.ask(ShowScenario(scenario_id="s")), ScenarioDefinition)


async def learning_with_await(client: uqueue.AsyncClient) -> None:
    assert_type(await client.learning.runs(status="failed"), RunList)
    assert_type(await client.learning.ask(ShowScenario(scenario_id="s")), ScenarioDefinition)
