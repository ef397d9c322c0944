"""What the lane counts of the batches that it answers."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from builders.artifacts import mqnn_h5_bytes, write_workspace
from uqueue.submission import prepare
from uqueue_config.catalog import ModelSpec
from uqueue_config.figures import Sums
from uqueue_config.figures.definitions import COUNTERS_KEY
from uqueue_config.ledger import ClaimedJob
from uqueue_config.settings import Settings
from uqueue_worker.artifacts import LocalFilesystemProvider
from uqueue_worker.counts import MOST_LOOKED_UP, CountedBatch, Counts
from uqueue_worker.lane.batch import Answer
from uqueue_worker.models import IntervalModel, load_interval_model
from uqueue_worker.models.catalog import Served
from uqueue_worker.models.comparison import Comparisons

SETTINGS = Settings()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> IntervalModel:
    folder = tmp_path_factory.mktemp("workspace")
    write_workspace(folder, model=mqnn_h5_bytes(hidden=(32, 32)), delta=0.01)
    return load_interval_model(LocalFilesystemProvider(folder))


def job_for(features: Any, attempt: int = 1) -> ClaimedJob:
    [application] = prepare(SETTINGS, features, "mccp-uq").applications
    return ClaimedJob(application.job_id, attempt, application.message)  # type: ignore[arg-type]


def counted(model: IntervalModel, jobs: list[ClaimedJob]) -> tuple[list[Answer], Sums]:
    served = Served(model, ModelSpec.of(SETTINGS))
    batch = CountedBatch(SETTINGS, lambda *_: served, lambda job_id, rows: lambda done: None, Comparisons())
    batch.counts = Counts()
    answers = [answer for group in batch.answers(jobs, {}) for answer in group]
    batch.counts._sort()
    parcel = batch.counts._outbox.parcel()
    assert parcel.keys[3:] == (COUNTERS_KEY,)
    pairs = parcel.args[7:]
    fields = {str(pairs[at]).encode(): str(pairs[at + 1]).encode() for at in range(0, len(pairs), 2)}
    return answers, Sums(fields)


def test_each_job_counts_once_under_its_version_and_outcome(model: IntervalModel) -> None:
    good = np.zeros((1, 8))
    jobs = [job_for(good) for _ in range(6)]
    jobs += [job_for([[1.0, 2.0]]), job_for(np.zeros((150, 8))), job_for(good, attempt=2)]
    jobs.append(ClaimedJob("broken", 1, b"{"))
    answers, sums = counted(model, jobs)
    outcomes = Counter(answer.state for answer in answers)
    assert outcomes == {"succeeded": 8, "failed": 2}
    assert sums.values("uqueue_tasks_total") == {("uqueue.predict", state): n for state, n in outcomes.items()}
    durations = {one.labels: one.count for one in sums.distributions("uqueue_task_duration_seconds")}
    assert durations == {("uqueue.predict", "succeeded"): 8, ("uqueue.predict", "failed"): 2}
    version = model.identity.version
    # No model was asked for the message that could not be read.
    assert sums.values("uqueue_predictions_total") == {(version, "succeeded"): 8, (version, "failed"): 1}


def test_jobs_that_have_to_be_answered_one_by_one_are_not_counted_twice(
    model: IntervalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise RuntimeError("together it does not work")

    monkeypatch.setattr(IntervalModel, "predict_together", fail)
    _, sums = counted(model, [job_for(np.zeros((1, 8))) for _ in range(3)])
    assert sums.total("uqueue_predictions_total") == 3
    (inference,) = sums.distributions("uqueue_model_inference_seconds")
    assert inference.count == 3


def test_few_jobs_stand_for_all_that_were_claimed() -> None:
    counts = Counts()
    for number in range(500):
        counts.claimed([ClaimedJob(f"{number}-{place}", 1, b"") for place in range(7)])
    assert len(counts._claimed) == MOST_LOOKED_UP
    assert sum(jobs for _, jobs in counts._claimed) == 3500
    late = sum(int(job_id.split("-")[0]) >= 250 for job_id, _ in counts._claimed)
    assert 10 <= late <= 54  # neither the first nor the last only; chance leaves this once in 10 million runs


def test_a_job_that_was_started_before_says_nothing_of_the_queue() -> None:
    counts = Counts()
    counts.claimed([ClaimedJob("a", 2, b"")])
    assert counts._claimed == []
