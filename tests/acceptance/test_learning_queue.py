"""A classifier on the queue: served by ordinary workers, evaluated chunk by chunk, the same numbers as here."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from builders.close_json import assert_close
from builders.ensembles import CLASSES, FEATURES, NAME, members_of, point, write_dataset, write_version
from builders.service import RunningService, running_service
from builders.waiting import eventually
from uqueue import Classification, JobState
from uqueue_config.errors import InvalidFeatures, VersionNotServed
from uqueue_config.learning.feedback import ModelPerformanceData
from uqueue_config.learning.references import ModelRef
from uqueue_worker.learning.engine.parts import NotYet
from uqueue_worker.learning.errors import ModelVersionNotFound, QueueTimeout
from uqueue_worker.learning.models.evaluation import EvaluationOptions
from uqueue_worker.learning.models.local import LocalModelInterface
from uqueue_worker.learning.models.queue import Progress, QueueBackedModelInterface, QueueEvaluator, QueueOptions

SAMPLES = 700
TIMES = ("evaluated_at_utc", "duration_seconds")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with models/airguard/{1,2} and two data sets."""
    root = tmp_path_factory.mktemp("classifier")
    write_version(root / "models", "1", aliases=["production"])
    write_version(root / "models", "2", seed=1)
    write_dataset(root / "pool.avro", SAMPLES)
    write_dataset(root / "other.avro", SAMPLES, seed=5)
    return root


def service_of(folder: Path, root: Path, *, concurrency: int = 2, beat: bool = True, **env: str) -> Any:
    folder.mkdir(exist_ok=True)
    (folder / "models.toml").write_text(
        f'[models.{NAME}]\nengine = "onnx-classifier"\nsource = "{root / "models"}"\n', encoding="utf-8"
    )
    env = {"UQUEUE_MODELS": str(folder / "models.toml"), **env}
    return running_service(folder / "service", concurrency=concurrency, beat=beat, env=env)


@pytest.fixture(scope="module")
def service(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    with service_of(tmp_path_factory.mktemp("queue"), root) as running:
        yield running


def on_the_queue(service: RunningService, root: Path, **options: Any) -> QueueBackedModelInterface:
    given: dict[str, Any] = {"client": service.client, "data_roots": [root], **options}
    return QueueBackedModelInterface(root=root / "models", name=NAME, **given)


def rows(count: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(size=(count, len(FEATURES))).astype(np.float32)


def classified(service: RunningService, table: Any, version: str | None = None) -> Classification:
    found = service.client.submit(table, NAME, version=version).result(timeout=30)
    assert isinstance(found, Classification)
    return found


@contextmanager
def stopped(service: RunningService) -> Iterator[None]:
    """Have no worker process do anything."""
    processes = service.worker_processes()
    for process in processes:
        process.suspend()
    try:
        yield
    finally:
        for process in processes:
            process.resume()


def assert_same(found: Any, expected: Any) -> None:
    """Compare feedback or explanations: numbers to 1e-6, everything else but the time exactly."""
    messages = (found.to_message(), expected.to_message())
    one, other = ({name: value for name, value in said.items() if name not in TIMES} for said in messages)
    assert_close(one, other)


def test_jobs_pins_and_refusals(service: RunningService) -> None:
    table = rows(200)
    found = classified(service, table)
    assert found.probabilities == pytest.approx(members_of(table).mean(axis=1), abs=1e-6)
    assert (found.model_version, found.method, found.classes) == ("1", "ensemble:5", CLASSES)
    other = classified(service, table, version="2")
    assert other.model_version == "2"
    assert classified(service, table, version=other.model.version).model_version == "2", "by its content"
    assert classified(service, table, version="@production").model.version == found.model.version
    with pytest.raises(InvalidFeatures, match="4 columns, got 3"):
        service.client.submit([[0.0] * 3], NAME).result(timeout=30)
    with pytest.raises(VersionNotServed, match="9"):
        classified(service, table, version="9")
    status = service.client.model(NAME)
    assert {process.engine for process in status.processes} == {"onnx-classifier"}
    assert {process.version for process in status.processes} == {found.model.version}


def test_ordinary_tasks_give_the_same_bytes(service: RunningService, root: Path, tmp_path: Path) -> None:
    tables = [rows(size, seed) for seed, size in enumerate((1, 7, 128, 1200))]
    jobs = [service.client.submit(table, NAME) for table in tables]
    on_the_lane = [service.client._await(job.id, 30) for job in jobs]
    with service_of(tmp_path, root, concurrency=1, beat=False, UQUEUE_LANE="off") as ordinary:
        for table, expected in zip(tables, on_the_lane, strict=True):
            assert ordinary.client._await(ordinary.client.submit(table, NAME).id, 30) == expected


@pytest.mark.parametrize("as_list", [False, True], ids=["file", "list"])
def test_the_feedback_is_that_of_the_local_interface(service: RunningService, root: Path, as_list: bool) -> None:
    from uqueue_worker.learning.avro import read_samples

    dataset: Any = read_samples(root / "pool.avro") if as_list else str(root / "pool.avro")
    options = EvaluationOptions(max_uncertain=40, max_misclassified=30, max_per_class=12, max_explained=15)
    told: list[Progress] = []
    local = LocalModelInterface(root=root / "models", name=NAME, data_roots=[root], options=options)
    queue = on_the_queue(service, root, options=options, on_progress=told.append)
    expected = local.get_model_performance_feedback(evaluation_dataset=dataset, model_version_tag=None)
    found = queue.get_model_performance_feedback(evaluation_dataset=dataset, model_version_tag=None)
    assert isinstance(found, ModelPerformanceData)
    assert_same(found, expected)
    assert found.n_samples == SAMPLES
    assert found.sensor_specific_metrics
    assert found.uncertain_samples[0].sample_features_summary is not None
    done = [one.samples_done for one in told if not one.explaining]
    assert done == sorted(done)
    assert done[-1] == SAMPLES
    assert max(one.jobs_in_flight for one in told) < queue.queue.max_in_flight


def test_predictions_and_explanations_are_those_of_the_local_interface(service: RunningService, root: Path) -> None:
    local = LocalModelInterface(root=root / "models", name=NAME, data_roots=[root])
    queue = on_the_queue(service, root)
    found, expected = (one.predict(str(root / "pool.avro"), "2") for one in (queue, local))
    assert found.probabilities == pytest.approx(expected.probabilities, abs=1e-6)
    assert (found.predicted == expected.predicted).all()
    assert (found.model_version, found.classes) == (expected.model_version, expected.classes)
    from uqueue_worker.learning.avro import read_samples

    some = read_samples(root / "pool.avro")[:5]
    for one, other in zip(queue.explain(some), local.explain(some), strict=True):
        assert_same(one, other)
    assert queue.list_versions() == ["1", "2"]
    assert queue.health() == {"status": "ok", "model": f"{NAME}@1", "processes": 2}


def test_every_sample_is_reported_where_the_engine_asks_for_it(service: RunningService, root: Path) -> None:
    queue = on_the_queue(service, root, queue=QueueOptions(max_in_flight=4))
    options = EvaluationOptions(max_uncertain=None, max_misclassified=None, max_explained=10)
    local = LocalModelInterface(root=root / "models", name=NAME, data_roots=[root], options=options)
    model, dataset = ModelRef(name=NAME, version="2"), str(write_dataset(root / "fresh.avro", SAMPLES, seed=7))

    def asked_once_more() -> Any:  # in a process of its own, as far as an evaluator can tell
        return QueueEvaluator(queue, explained=10).evaluate(dataset, model, n_samples=SAMPLES, every_sample=True)

    with stopped(service):
        assert isinstance(asked_once_more(), NotYet)
    found: Any = None
    deadline = time.monotonic() + 30
    while found is None or isinstance(found, NotYet):
        assert time.monotonic() < deadline
        found = asked_once_more()
        time.sleep(0.05)
    assert len(found.uncertain_samples) == SAMPLES
    expected = local.get_model_performance_feedback(evaluation_dataset=dataset, model_version_tag="2")
    assert_same(found, expected)


class Noting:
    """The client, and a note of what was submitted."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.jobs: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def submit_many(self, *args: Any, **options: Any) -> Any:
        jobs = self._client.submit_many(*args, **options)
        self.jobs += jobs
        return jobs


def test_a_second_evaluation_computes_nothing(service: RunningService, root: Path) -> None:
    dataset, found = str(root / "pool.avro"), []
    first, again = Noting(service.client), Noting(service.client)
    for client in (first, again):
        queue = on_the_queue(service, root, client=client)
        found.append(queue.get_model_performance_feedback(evaluation_dataset=dataset, model_version_tag="1"))
    assert_same(found[1], found[0])
    assert [job.id for job in again.jobs] == [job.id for job in first.jobs]
    statuses = [job.status() for job in again.jobs]
    assert {status.attempts for status in statuses} == {1}
    assert max(status.created_at for status in statuses) < found[1].evaluated_at_utc


def test_a_handle_goes_on_where_another_left_off(service: RunningService, root: Path) -> None:
    queue = on_the_queue(service, root, queue=QueueOptions(max_in_flight=2))
    handle = queue.submit_feedback(evaluation_dataset=str(root / "other.avro"), model_version_tag="1")
    assert handle.poll() == "running"
    message = handle.to_message()
    again = on_the_queue(service, root).feedback_handle(message)
    found = again.result(30)
    assert again.poll() == "done"
    expected = queue.get_model_performance_feedback(
        evaluation_dataset=str(root / "other.avro"), model_version_tag="production"
    )
    assert_same(found, expected)
    assert handle.cancel() is True
    assert handle.poll() == "cancelled"


def test_the_deadline_cancels_what_is_open(service: RunningService, root: Path) -> None:
    queue = on_the_queue(service, root, queue=QueueOptions(deadline_seconds=1.5, max_in_flight=4))
    client = Noting(service.client)
    queue._client = client  # type: ignore[assignment]
    with stopped(service), pytest.raises(QueueTimeout, match=r"within 1\.5 s"):
        queue.get_model_performance_feedback(evaluation_dataset=str(root / "other.avro"), model_version_tag="2")
    assert len(client.jobs) == 4
    eventually(lambda: all(job.status().state.terminal for job in client.jobs), "all are over")
    states = {job.status().state for job in client.jobs}
    assert states <= {JobState.CANCELLED, JobState.SUCCEEDED}
    assert JobState.CANCELLED in states
    found = on_the_queue(service, root).get_model_performance_feedback(
        evaluation_dataset=str(root / "other.avro"), model_version_tag="2"
    )
    assert (found.n_samples, found.n_failed) == (SAMPLES, 0)


def test_a_version_that_is_not_there(service: RunningService, root: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelVersionNotFound):
        on_the_queue(service, root).get_model_performance_feedback(
            evaluation_dataset=str(root / "pool.avro"), model_version_tag="9"
        )
    write_version(tmp_path, "3", seed=3)
    elsewhere = QueueBackedModelInterface(root=tmp_path, name=NAME, client=service.client, data_roots=[root])
    with pytest.raises(ModelVersionNotFound, match="3 in the queue"):
        elsewhere.get_model_performance_feedback(evaluation_dataset=str(root / "pool.avro"), model_version_tag="3")


def test_a_killed_process_and_a_moved_alias_change_nothing(service: RunningService, root: Path) -> None:
    local = LocalModelInterface(root=root / "models", name=NAME, data_roots=[root])
    dataset = str(write_dataset(root / "third.avro", 1500, seed=9))
    expected = local.get_model_performance_feedback(evaluation_dataset=dataset, model_version_tag="1")
    killed: list[int] = []

    def disturb(progress: Progress) -> None:
        if progress.samples_done > 300 and not killed:
            killed.append(service.worker_processes()[1].pid)
            service.worker_processes()[1].kill()
            point(root / "models", "production", "2")

    queue = on_the_queue(service, root, on_progress=disturb, queue=QueueOptions(max_in_flight=8))
    stopping, asked = threading.Event(), []

    def keep_asking() -> None:
        while not stopping.is_set():
            asked.append(classified(service, rows(3)).model_version)

    thread = threading.Thread(target=keep_asking)
    thread.start()
    try:
        found = queue.get_model_performance_feedback(evaluation_dataset=dataset, model_version_tag=None)
        assert_same(found, expected)
        assert killed
        eventually(lambda: asked[-5:] == ["2"] * 5, "beat found the moved alias")
    finally:
        stopping.set()
        thread.join()
        point(root / "models", "production", "1")
    assert set(asked) == {"1", "2"}
