"""Evaluations through a queue that lives in this process: failures, earlier jobs, a full queue, and sums of chunks."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from builders.ensembles import CLASSES, NAME, labelled_samples, write_dataset, write_version
from uqueue_config.errors import (
    InvalidFeatures,
    JobAbandoned,
    JobCancelled,
    JobExpired,
    JobNotFinished,
    ModelInvalid,
    ModelOutputInvalid,
    QueueFull,
    ResultExpired,
    UnknownModel,
    UqueueError,
    VersionNotServed,
)
from uqueue_config.names import JobState
from uqueue_config.sources import VersionsFolder
from uqueue_worker.artifacts.classifier_folder import ClassifierFolder
from uqueue_worker.classification import Classifier, classifier, load_classifier
from uqueue_worker.learning.errors import (
    DatasetFormat,
    EmptyDataset,
    FeatureMismatch,
    ModelIntegrity,
    ModelNotFound,
    ModelVersionNotFound,
    PartialEvaluation,
    QueueTimeout,
)
from uqueue_worker.learning.models.evaluation import EvaluationOptions, build_feedback
from uqueue_worker.learning.models.features import FeatureSpec
from uqueue_worker.learning.models.predictions import Predictions
from uqueue_worker.learning.models.queue import QueueBackedModelInterface, QueueOptions
from uqueue_worker.learning.models.queue.chunks import part_of
from uqueue_worker.learning.models.queue.gathered import Gathered
from uqueue_worker.learning.models.queue.merge import Merging, feedback
from uqueue_worker.learning.models.queue.pinned import PinnedModel
from uqueue_worker.learning.models.sample_table import read_table

Ending = UqueueError | None


@dataclass
class Job:
    """A job that has ended, with an answer or an error; or has not."""

    id: str
    answer: Any
    error: Ending
    finished_at: datetime
    cancelled: bool = False

    def status(self) -> Any:
        open_ = isinstance(self.error, JobNotFinished)
        return SimpleNamespace(state=JobState.RUNNING if open_ else JobState.SUCCEEDED, finished_at=self.finished_at)

    def result(self, timeout: float | None = None) -> Any:
        if self.error is not None:
            raise self.error
        return self.answer

    def cancel(self) -> Any:
        self.cancelled = True
        return self.status()


class Queue:
    """Answers at once with a model of this process. `ends(number)` says with which error a new job ends, `refuses`
    with which error the next submissions are refused, `known` are jobs of earlier evaluations by their keys."""

    def __init__(self, model: Classifier, ends: Callable[[int], Ending] = lambda number: None) -> None:
        self._model = model
        self._ends = ends
        self.refuses: list[UqueueError] = []
        self.jobs: dict[str, Job] = {}
        self.most_open = 0

    def submit(self, features: Any, model: str = "", **options: Any) -> Job:
        if self.refuses:
            raise self.refuses.pop()
        key = options["idempotency_key"]
        assert (model, options["version"]) == (NAME, self._model.identity.version)
        if key not in self.jobs:
            answer = self._model.predict(features)
            self.jobs[key] = Job(str(len(self.jobs)), answer, self._ends(len(self.jobs)), datetime.now(UTC))
        return self.jobs[key]

    def submit_many(
        self, list_of_features: Any, model: str = "", *, idempotency_keys: Any, **options: Any
    ) -> list[Job]:
        pairs = zip(list_of_features, idempotency_keys, strict=True)
        return [self.submit(features, model, idempotency_key=key, **options) for features, key in pairs]

    def model(self, name: str = "") -> Any:
        raise UnknownModel(model=name, served="none")

    def close(self) -> None:
        pass


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Classifier:
    monkeypatch.setattr(classifier, "probe_ensemble", lambda data, shape, *, file: None)
    write_version(tmp_path, aliases=["production"], uncertainty=UNCERTAINTY)
    return load_classifier(ClassifierFolder(VersionsFolder(tmp_path), NAME).load())


UNCERTAINTY = {"method": "ensemble", "members": 5, "conformal_q": 0.8}


def interface(root: Path, client: Queue, on_progress: Any = lambda progress: None, **rules: Any) -> Any:
    queue = QueueOptions(chunk_rows=10, **rules)
    given: dict[str, Any] = {"client": client, "data_roots": [root], "queue": queue, "on_progress": on_progress}
    return QueueBackedModelInterface(root=root, name=NAME, **given)


def evaluated(root: Path, client: Queue, count: int = 100, **rules: Any) -> Any:
    samples = list(labelled_samples(count, plain=True))
    asked = interface(root, client, **rules)
    return asked.get_model_performance_feedback(evaluation_dataset=samples, model_version_tag=None)


def failing(*numbers: int, error: UqueueError | None = None) -> Callable[[int], Ending]:
    wrong = error or ModelOutputInvalid(model=NAME, version="1", reason="no probability")
    return lambda number: wrong if number in numbers else None


def test_only_occlusion_goes_through_the_queue(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="through the queue it is OCCLUSION, got 'PERMUTATION'"):
        QueueBackedModelInterface(root=tmp_path, name=NAME, options=EvaluationOptions(explanation="PERMUTATION"))


def test_a_few_failed_chunks_are_told_and_left_out(model: Classifier, tmp_path: Path) -> None:
    found = evaluated(tmp_path, Queue(model, failing(3)), max_failed_fraction=0.1)
    assert (found.n_samples, found.n_failed) == (100, 10)
    assert sum(metrics.support or 0 for metrics in found.per_class_metrics.values()) == 90
    assert "10 of 100 samples could not be evaluated" in found.warnings
    assert "1 chunks failed in the queue: 1 with model_output_invalid" in found.warnings
    said = interface(tmp_path, Queue(model, failing(3)), max_failed_fraction=0.1).predict(
        list(labelled_samples(100, plain=True)), "1"
    )
    assert said.failed == tuple(range(30, 40))


@pytest.mark.parametrize(("count", "chunks"), [(100, [0]), (100, list(range(10))), (5, [0])])
def test_too_many_failed_chunks_are_no_evaluation(
    model: Classifier, tmp_path: Path, count: int, chunks: list[int]
) -> None:
    with pytest.raises(PartialEvaluation) as caught:
        evaluated(tmp_path, Queue(model, failing(*chunks)), count)
    assert caught.value.context == {"failed": min(10 * len(chunks), count), "samples": count, "limit": count // 50}


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (UnknownModel(model=NAME, served="other"), ModelNotFound),
        (VersionNotServed(model=NAME, version="1", reason="gone"), ModelVersionNotFound),
        (InvalidFeatures(reason="expected 9 columns, got 4"), FeatureMismatch),
        (ModelInvalid(file="model.onnx", reason="broken"), ModelIntegrity),
    ],
)
def test_what_no_chunk_can_be_answered_with_ends_the_evaluation(
    model: Classifier, tmp_path: Path, error: UqueueError, raised: type[UqueueError]
) -> None:
    queue = Queue(model, lambda number: error)
    with pytest.raises(raised):
        evaluated(tmp_path, queue, max_in_flight=4)
    assert sum(job.cancelled for job in queue.jobs.values()) >= 3, "those that were open"


def test_jobs_that_an_earlier_evaluation_gave_up_are_passed_over(model: Classifier, tmp_path: Path) -> None:
    queue = Queue(model, lambda number: JobAbandoned(job_id="1", attempts=3) if number < 10 else None)
    with pytest.raises(PartialEvaluation):
        evaluated(tmp_path, queue)
    for job in queue.jobs.values():
        job.finished_at -= timedelta(minutes=1)
    assert evaluated(tmp_path, queue).n_failed == 0
    assert len(queue.jobs) >= 20


@pytest.mark.parametrize("error", [JobCancelled(job_id="1"), JobExpired(job_id="1")])
def test_jobs_that_another_evaluation_ends_meanwhile_are_sent_again(
    model: Classifier, tmp_path: Path, error: UqueueError
) -> None:
    queue = Queue(model, lambda number: error if number < 10 else None)
    assert evaluated(tmp_path, queue).n_failed == 0
    always = Queue(model, lambda number: error)
    with pytest.raises(PartialEvaluation):
        evaluated(tmp_path, always, 5)
    assert len(always.jobs) == 21


def test_results_that_have_lapsed_are_computed_again(model: Classifier, tmp_path: Path) -> None:
    queue = Queue(model)
    first = evaluated(tmp_path, queue)
    jobs = len(queue.jobs)
    for job in queue.jobs.values():
        job.error = ResultExpired(job_id=job.id, state="succeeded")
    again = evaluated(tmp_path, queue)
    assert again.confusion_matrix == first.confusion_matrix
    assert len(queue.jobs) == 2 * jobs


def test_a_full_queue_is_waited_for(model: Classifier, tmp_path: Path) -> None:
    queue = Queue(model)
    full = QueueFull(queue="predictions", limit=1, accepted=0, asked=1, retry_after_seconds=1)
    queue.refuses = [full] * 2
    assert evaluated(tmp_path, queue).n_samples == 100
    queue.refuses = [full] * 1000
    with pytest.raises(QueueTimeout, match=r"within 0\.2 s: The queue predictions is full"):
        evaluated(tmp_path, queue, deadline_seconds=0.2)


def test_a_job_that_does_not_end_meets_the_deadline(model: Classifier, tmp_path: Path) -> None:
    waiting = JobNotFinished(job_id="7", state="running", timeout_seconds="1")
    queue = Queue(model, lambda number: waiting)
    with pytest.raises(QueueTimeout, match="job 7 is running; the open ones were cancelled"):
        evaluated(tmp_path, queue, max_in_flight=4)
    assert [job.cancelled for job in queue.jobs.values()] == [True] * 4
    handle = interface(tmp_path, queue).submit_feedback(evaluation_dataset=str(write_dataset(tmp_path / "d.avro", 30)))
    assert handle.poll() == "running"
    with pytest.raises(TimeoutError):
        handle.result(0.1)
    late = interface(tmp_path, queue).feedback_handle(handle.to_message() | {"deadline_seconds": 1e-6})
    assert late.poll() == "failed"
    with pytest.raises(QueueTimeout):
        late.result()


def test_explanations_that_fail_cost_the_explanations_only(model: Classifier, tmp_path: Path) -> None:
    found = evaluated(
        tmp_path, Queue(model, lambda number: None if number < 10 else JobAbandoned(job_id="1", attempts=3))
    )
    assert any("explanations failed" in warning for warning in found.warnings)
    assert found.uncertain_samples[0].sample_features_summary.method == "NONE"
    path = write_dataset(tmp_path / "d.avro", 100, plain=True)
    queue = Queue(model, lambda number: None if number < 10 else JobAbandoned(job_id="1", attempts=3))
    handle = interface(tmp_path, queue).submit_feedback(evaluation_dataset=path, model_version_tag="1")
    assert handle.result(5).uncertain_samples[0].sample_features_summary.method == "NONE"


def test_a_file_is_read_no_further_than_what_is_in_flight(
    model: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from uqueue_worker.learning.models import datasets

    read = itertools.count()
    ahead: list[int] = []
    path = write_dataset(tmp_path / "d.avro", 300, plain=True)
    original = datasets.iter_samples

    def counted(part: Path, **options: Any) -> Any:
        for sample in original(part, **options):
            next(read)
            yield sample

    def note(progress: Any) -> None:
        ahead.append(int(repr(read)[6:-1]) - progress.samples_done)

    monkeypatch.setattr(datasets, "iter_samples", counted)
    asked = interface(tmp_path, Queue(model), max_in_flight=3, on_progress=note)
    asked.get_model_performance_feedback(evaluation_dataset=path, model_version_tag=None)
    assert max(ahead) <= 3 * 10


def test_columns_are_decoded_once(model: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from uqueue_worker.learning.models import datasets

    path, folder = write_dataset(tmp_path / "d.avro", 100), tmp_path / "columns"
    asked = QueueBackedModelInterface(
        root=tmp_path, name=NAME, client=Queue(model), data_roots=[tmp_path], columns_folder=folder
    )

    def evaluation() -> dict[str, Any]:
        found = asked.get_model_performance_feedback(evaluation_dataset=path, model_version_tag=None).to_message()
        return {name: value for name, value in found.items() if name not in ("evaluated_at_utc", "duration_seconds")}

    next(iter(asked.chunks(path, asked.pinned(None)).tables))
    assert list(folder.iterdir()) == [], "one that was not read to its end is not kept"
    first = evaluation()
    (kept,) = folder.iterdir()
    (kept.parent / "short.jsonl").write_bytes(kept.read_bytes()[:-20])
    assert folder.stat().st_mode & 0o077 == 0

    def refuse(part: Path, **options: Any) -> Any:
        raise AssertionError("decoded again")

    original = datasets.iter_samples
    monkeypatch.setattr(datasets, "iter_samples", refuse)
    assert evaluation() == first
    (kept.parent / "short.jsonl").replace(kept)
    with pytest.raises(AssertionError, match="decoded again"):
        evaluation()
    monkeypatch.setattr(datasets, "iter_samples", original)
    assert evaluation() == first


def test_data_that_cannot_be_evaluated(model: Classifier, tmp_path: Path) -> None:
    asked = interface(tmp_path, Queue(model))
    with pytest.raises(EmptyDataset):
        asked.get_model_performance_feedback(evaluation_dataset=[], model_version_tag=None)
    samples = [{**sample, "sample_metadata": {}} for sample in labelled_samples(30, plain=True)]
    with pytest.raises(FeatureMismatch, match=r"is missing in 100\.0%"):
        asked.get_model_performance_feedback(evaluation_dataset=samples, model_version_tag=None)
    with pytest.raises(DatasetFormat, match="sample 1: it has no sample_id"):
        asked.get_model_performance_feedback(evaluation_dataset=[samples[0], {}], model_version_tag=None)
    with pytest.raises(TypeError, match="the path of a file"):
        asked.submit_feedback(evaluation_dataset=samples)
    assert asked.health()["status"] == "failing"


@pytest.mark.parametrize("seed", range(6))
def test_chunks_add_up_to_the_whole(model: Classifier, tmp_path: Path, seed: int) -> None:
    """With labels that the model does not know, labels missing, readings missing, and ids that come twice."""
    generator = np.random.default_rng(seed)
    spec = FeatureSpec.of(model.manifest)
    table = read_table(list(labelled_samples(400, seed=seed)), spec)
    pinned = PinnedModel.find(tmp_path, NAME, None)
    options = EvaluationOptions(
        uncertainty_threshold=[0.0, 0.6][seed % 2],
        max_uncertain=[30, None, 7][seed % 3],
        max_misclassified=[None, 20][seed % 2],
        max_per_class=[None, 5][seed // 3],
        uncertainty_score=("total", "least_confidence", "margin")[seed % 3],
    )
    parts, merging, first = [], Merging(pinned, spec, options), 0
    while first < len(table):
        size = int(generator.integers(1, 60))
        part = part_of(table, slice(first, first + size))
        answer = model.predict(part.matrix)
        merging.add(part, answer)
        parts.append(
            Predictions.from_probabilities(
                answer.probabilities,
                CLASSES,
                model_version=f"{NAME}@1",
                uncertainty_method="ensemble:5",
                total=answer.total,
                epistemic=answer.epistemic,
                aleatoric=answer.aleatoric,
                disagreement=answer.disagreement,
            )
        )
        first += size
    conformal_q = model.manifest.uncertainty.conformal_q
    expected = build_feedback(table, Predictions.joined(parts), options=options, conformal_q=conformal_q).to_message()
    merged = merging.merged(table.identifier, 0.02)
    found = feedback(merged, pinned, spec, options, None, 1.0).to_message()
    found["duration_seconds"] = expected.get("duration_seconds")
    expected["duration_seconds"] = expected.get("duration_seconds")
    found["evaluated_at_utc"] = expected["evaluated_at_utc"]
    for name in ("log_loss", "brier", "ece"):
        assert found["overall_metrics"].pop(name) == pytest.approx(expected["overall_metrics"].pop(name), abs=1e-12)
    assert found == expected
    assert any("do not know" in one or "does not know" in one for one in found["warnings"])
    assert any("the id of another one" in one for one in found["warnings"])


def test_chunks_that_are_alike_are_put_together_in_their_order(model: Classifier) -> None:
    table = read_table(list(labelled_samples(40, seed=1)), FeatureSpec.of(model.manifest))
    parts = [part_of(table, slice(first, first + 16)) for first in range(0, 40, 16)]
    gathered = Gathered()
    for part in parts:
        answer = model.predict(part.matrix)
        assert gathered.fits(part, answer)
        gathered.add(part, answer)
    assert gathered.rows == 40
    assert not gathered.fits(replace(table, sensors=("another",)), answer)
    assert not gathered.fits(table, replace(answer, disagreement=None))
    whole, said = gathered.take()
    assert gathered.rows == 0
    assert gathered.fits(replace(table, sensors=("another",)), answer)
    assert whole.values.tobytes() == table.values.tobytes()
    assert whole.present.tolist() == table.present.tolist()
    for name in ("ids", "labels", "scenario_ids", "seconds", "sensors"):
        assert getattr(whole, name) == getattr(table, name)
    assert (
        said.probabilities.tobytes()
        == np.concatenate([model.predict(one.matrix).probabilities for one in parts]).tobytes()
    )
    assert len(said.disagreement) == 40


def test_a_failed_chunk_keeps_its_place_between_others(model: Classifier, tmp_path: Path) -> None:
    path = write_dataset(tmp_path / "d.avro", 100, plain=True)
    queue = Queue(model, lambda number: JobAbandoned(job_id="1", attempts=3) if number == 4 else None)
    asked = interface(tmp_path, queue, max_failed_fraction=0.2)
    shown: list[int] = []
    asked.on_progress = lambda progress: shown.append(progress.samples_done)
    found = asked.get_model_performance_feedback(evaluation_dataset=path, model_version_tag=None)
    assert (found.n_samples, found.n_failed) == (100, 10)
    assert [done for done in shown if done < 100] == list(range(10, 100, 10))
    assert not {sample.raw_sample_id for sample in found.uncertain_samples} & {f"sample-{n:06d}" for n in range(40, 50)}
