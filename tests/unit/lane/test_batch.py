"""The lane's answers are those of ordinary tasks, byte for byte, and one bad job spoils no other."""

from __future__ import annotations

import base64
import json
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders.artifacts import mqnn_h5_bytes, write_workspace
from uqueue.submission import prepare
from uqueue_config.catalog import ModelSpec
from uqueue_config.envelope import celery_message, read_celery_message
from uqueue_config.errors import InvalidFeatures, InvalidMessage, JobTimeLimit, UnknownModel, UqueueError, from_wire
from uqueue_config.ledger import ClaimedJob
from uqueue_config.messages import PredictRequest
from uqueue_config.names import JobState
from uqueue_config.seeds import seed_from_job_id
from uqueue_config.settings import Settings
from uqueue_worker.artifacts import LocalFilesystemProvider
from uqueue_worker.lane.batch import Answer, Batch
from uqueue_worker.models import IntervalModel, load_interval_model
from uqueue_worker.models.catalog import Served, Wanted
from uqueue_worker.models.comparison import Comparisons
from uqueue_worker.units import in_target_units

NOTHING_WANTED: dict[str, str | None] = {}
SETTINGS = Settings(target_scale=(2.0, 0.5), target_offset=(1.0, 0.0), target_unit="kWh")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> IntervalModel:
    folder = tmp_path_factory.mktemp("workspace")
    write_workspace(folder, model=mqnn_h5_bytes(hidden=(32, 32)), delta=0.01)
    return load_interval_model(LocalFilesystemProvider(folder))


def job_for(features: Any, attempt: int = 1, **options: Any) -> ClaimedJob:
    [application] = prepare(SETTINGS, features, "mccp-uq", **options).applications
    return ClaimedJob(application.job_id, attempt, application.message)  # type: ignore[arg-type]


def answer(model: IntervalModel, jobs: list[ClaimedJob], settings: Settings = SETTINGS) -> dict[str, Answer]:
    served = Served(model, ModelSpec.of(settings))
    batch = Batch(
        settings, lambda request, job_id, wanted: served, lambda job_id, rows: lambda done: None, Comparisons()
    )
    return {answer.job_id: answer for group in batch.answers(jobs, NOTHING_WANTED) for answer in group}


def error_of(answer: Answer) -> UqueueError:
    return from_wire(json.loads(answer.error_json))


def test_every_kind_of_job_has_the_bytes_of_its_own_task(model: IntervalModel) -> None:
    rng = np.random.default_rng(5)
    tables = [rng.normal(size=(rows, 8)) for rows in (1, 1, 3, 1, 150, 1, 2)]
    tables[3] = tables[3] * 1e4  # far outside the training inputs: carries a warning
    jobs = [job_for(table, seed=seed) for table, seed in zip(tables, (None, 7, None, 1, 2, None, 9), strict=True)]
    jobs.append(job_for(tables[0], attempt=2))
    answers = answer(model, jobs)
    for job, table in zip(jobs, [*tables, tables[0]], strict=True):
        kwargs = read_celery_message(job.message)[1]
        seed = seed_from_job_id(job.id) if kwargs["seed"] is None else kwargs["seed"]
        encoding = "base64" if len(table) > 100 else "lists"
        own = in_target_units(model.predict(table, seed=seed), ModelSpec.of(SETTINGS)).to_message(encoding)  # type: ignore[arg-type]
        assert json.dumps(json.loads(answers[job.id].celery_meta)["result"]) == json.dumps(own)


def test_one_bad_job_spoils_no_other(model: IntervalModel) -> None:
    good = [job_for(np.zeros((1, 8))) for _ in range(3)]
    bad = {
        "not json": (ClaimedJob("a", 1, b"{"), InvalidMessage),
        "another task": (
            ClaimedJob("b", 1, celery_message("b", "os.system", {}, queue="q", argsrepr="").encode()),
            InvalidMessage,
        ),
        "wrong width": (job_for(np.zeros((1, 3))), InvalidFeatures),
    }
    answers = answer(model, [good[0], *(job for job, _ in bad.values()), *good[1:]])
    for job in good:
        assert answers[job.id].state == JobState.SUCCEEDED
    for job, error in bad.values():
        assert isinstance(error_of(answers[job.id]), error)


def test_a_model_nobody_serves_fails_only_its_own_jobs(model: IntervalModel) -> None:
    def model_for(request: PredictRequest, job_id: str, wanted: Wanted) -> Served:
        raise UnknownModel(model=request.model, served="mccp-uq")

    batch = Batch(SETTINGS, model_for, lambda job_id, rows: lambda done: None, Comparisons())
    job = job_for(np.zeros((1, 8)))
    [[one]] = list(batch.answers([job], NOTHING_WANTED))
    assert isinstance(error_of(one), UnknownModel)


def test_a_batch_beyond_its_time_is_answered_job_by_job(model: IntervalModel) -> None:
    impatient = Settings(soft_time_limit_seconds=timedelta(microseconds=1))
    answers = answer(model, [job_for(np.zeros((1, 8))) for _ in range(3)], impatient)
    assert all(isinstance(error_of(one), JobTimeLimit) for one in answers.values())


def envelope(**changes: Any) -> bytes:
    message = json.loads(celery_message("id", "uqueue.predict", {"features": [[1.0]]}, queue="q", argsrepr=""))
    for path, value in changes.items():
        target = message
        *parents, last = path.split("__")
        for parent in parents:
            target = target[parent]
        target[last] = value
    return json.dumps(message).encode()


HOSTILE: dict[str, bytes] = {
    "empty": b"",
    "not json": b"\x80\x04cos\nsystem\n.",
    "half": envelope()[:-20],
    "a list": b"[1,2,3]",
    "a number": b"7",
    "null": b"null",
    "nothing in it": b"{}",
    "deep nesting": b"[" * 100_000,
    "deep body": envelope(body="[" * 100_000),
    "no headers": envelope(headers=None),
    "headers a list": envelope(headers=[1]),
    "no task": envelope(headers={}),
    "task a number": envelope(headers__task=5),
    "pickle content": envelope(**{"content-type": "application/x-python-serialize"}),
    "yaml content": envelope(**{"content-type": "application/x-yaml"}),
    "properties a text": envelope(properties="x"),
    "body a number": envelope(body=5),
    "body not json": envelope(body="nope"),
    "body not base64": envelope(body="@@", properties__body_encoding="base64"),
    "unknown body encoding": envelope(properties__body_encoding="rot13"),
    "body with one part": envelope(body="[[]]"),
    "positional arguments": envelope(body="[[1], {}, {}]"),
    "keyword arguments a list": envelope(body="[[], [], {}]"),
    "callback": envelope(body='[[], {}, {"callbacks": [{"task": "os.system"}]}]'),
    "chain": envelope(body='[[], {}, {"chain": [{"task": "x"}]}]'),
    "chord": envelope(body='[[], {}, {"chord": {"task": "x"}}]'),
    "eta": envelope(headers__eta="9999-01-01T00:00:00"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_envelopes_are_refused(case: str) -> None:
    with pytest.raises(InvalidMessage):
        read_celery_message(HOSTILE[case])


def test_what_stock_celery_sends_is_read() -> None:
    body = base64.b64encode(
        b'[[], {"features": [[1]]}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]'
    )
    message = envelope(body=body.decode(), properties__body_encoding="base64")
    assert read_celery_message(message) == ("uqueue.predict", {"features": [[1]]})


@given(st.binary(max_size=200) | st.integers(0, len(envelope()) - 1).flatmap(lambda at: st.just(envelope()[:at])))
def test_no_bytes_escape_as_another_error(message: bytes) -> None:
    try:
        read_celery_message(message)
    except InvalidMessage:
        return
    assert message == envelope()
