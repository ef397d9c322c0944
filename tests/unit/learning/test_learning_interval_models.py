"""Interval models evaluated here and through the queue's client: the same feedback, and what goes wrong."""

from __future__ import annotations

import shutil
import time
from concurrent.futures import CancelledError
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from builders import ensembles
from builders.artifacts import write_workspace
from builders.close_json import assert_close
from builders.ensembles import write_dataset
from builders.interval_models import FEATURES, SPEC, HereClient, interval_samples, small_workspace
from uqueue_config.classification import Classification
from uqueue_config.errors import (
    InvalidFeatures,
    JobCancelled,
    JobFailed,
    JobNotFinished,
    ModelInvalid,
    QueueFull,
    ServiceUnreachable,
    SourceError,
    UnknownModel,
    VersionNotServed,
)
from uqueue_config.learning.model_manifest import Feature
from uqueue_worker.artifacts import LocalFilesystemProvider
from uqueue_worker.learning.avro import read_samples
from uqueue_worker.learning.errors import (
    ActiveLearningError,
    DatasetNotFound,
    FeatureMismatch,
    ModelIntegrity,
    ModelNotFound,
    ModelVersionNotFound,
    PartialEvaluation,
    QueueTimeout,
)
from uqueue_worker.learning.models.intervals import IntervalModelInterface, LocalIntervals, QueueIntervals
from uqueue_worker.learning.models.queue import QueueOptions
from uqueue_worker.learning.strategies import STRATEGIES, make_strategy
from uqueue_worker.sample.buildings import FEATURES as FEATURE_NAMES
from uqueue_worker.sample.buildings import TARGETS as TARGET_NAMES
from uqueue_worker.sample.buildings import draw_buildings

SAMPLES = interval_samples(90)
SMALL = QueueOptions(chunk_rows=16, max_in_flight=3, deadline_seconds=20)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_workspace(tmp_path_factory.mktemp("intervals"))


def here(source: Any, spec: Any = SPEC, features: Any = FEATURES, *, queue: Any = SMALL, **place: Any) -> Any:
    return IntervalModelInterface(LocalIntervals(source, **place), spec, features, queue=queue)


def there(client: Any, *, queue: Any = SMALL, **more: Any) -> IntervalModelInterface:
    return IntervalModelInterface(QueueIntervals(client=client), SPEC, FEATURES, queue=queue, **more)


def evaluated(interface: Any, samples: Any = SAMPLES, tag: str | None = None) -> Any:
    return interface.get_model_performance_feedback(evaluation_dataset=samples, model_version_tag=tag)


def message(found: Any) -> dict[str, Any]:
    times = ("evaluated_at_utc", "duration_seconds")
    return {name: value for name, value in found.to_message().items() if name not in times}


def test_what_the_model_says_is_what_is_reported(workspace: Path) -> None:
    interface = here(workspace)
    found, said = evaluated(interface), interface.predict(SAMPLES, None)
    truth = np.array([one["sample_metadata"]["load"] or np.nan for one in SAMPLES])
    labelled = ~np.isnan(truth)
    inside = (said.lower <= truth) & (truth <= said.upper)
    assert found.overall_metrics["coverage"] == pytest.approx(inside[labelled].mean())
    assert found.n_misclassified == int((~inside & labelled).sum())
    assert found.model_version_evaluated == f"mccp-uq@{interface.list_versions()[0]}"
    assert found.uncertainty_method == "mc_dropout:12"
    assert found.overall_metrics["nominal_coverage"] == pytest.approx(0.9)
    assert set(found.sensor_specific_metrics) == {"U20_SPS30", "U26_Lepton35"}
    assert found.sensor_specific_metrics["U20_SPS30"].n_samples == int(labelled.sum())
    assert found.dataset_identifier.startswith("list#sha256:")
    sample = found.misclassified_samples[0]
    row = int(sample.raw_sample_id[1:])
    assert sample.model_extra["interval"] == [said.lower[row], said.upper[row]]
    assert sample.original_scenario_id == f"scenario-{row % 7}"
    assert (sample.sample_features_summary.method, len(sample.sample_features_summary.top_n_features)) == (
        "OCCLUSION",
        3,
    )
    assert sample.sensor_id in ("U20_SPS30", "U26_Lepton35")
    assert interface.health()["status"] == "ok"


def test_the_queue_gives_the_same_dropout_included(workspace: Path) -> None:
    client = HereClient(workspace)
    queue = there(client)
    assert_close(message(evaluated(queue)), message(evaluated(here(workspace))))
    assert client.most_open <= 3
    assert {job.options["version"] for job in client.jobs} == {client.model_here.identity.version}
    evaluation = [job for job in client.jobs if len(job.features) <= 16][:6]
    assert len({job.options["seed"] for job in evaluation}) == 6
    keys = [job.options["idempotency_key"] for job in client.jobs]
    assert len(set(keys)) == len(keys)
    again = HereClient(workspace)
    evaluated(there(again))
    assert [job.options["idempotency_key"] for job in again.jobs] == keys
    assert evaluated(there(again, seed=1)).overall_metrics != evaluated(queue).overall_metrics
    one, other = (place.explain(SAMPLES[:5]) for place in (queue, here(workspace)))
    assert one == other
    assert len(one) == 5


def test_what_one_pass_says_is_not_split(workspace: Path) -> None:
    found = evaluated(here(workspace, forward_mode="deterministic"))
    assert found.uncertainty_method == "single_model"
    sample = found.uncertain_samples[0]
    assert (sample.epistemic_uncertainty_score, sample.aleatoric_uncertainty_score) == (None, None)
    split = evaluated(here(workspace)).uncertain_samples[0]
    assert 0 < split.epistemic_uncertainty_score < split.uncertainty_score
    assert split.epistemic_uncertainty_score + split.aleatoric_uncertainty_score == pytest.approx(
        split.uncertainty_score
    )


def test_units_of_the_service(workspace: Path) -> None:
    plain = here(workspace).predict(SAMPLES, None)
    scaled = here(workspace, target_scale=(1.0, 10.0), target_offset=(0.0, 3.0)).predict(SAMPLES, None)
    assert scaled.lower == pytest.approx(plain.lower * 10 + 3)
    assert scaled.spread == pytest.approx(plain.spread * 10, rel=1e-5)


def test_each_target(workspace: Path) -> None:
    cold, heat = (here(workspace, SPEC.model_copy(update={"output": output})) for output in (0, 1))
    assert not np.allclose(cold.predict(SAMPLES, None).lower, heat.predict(SAMPLES, None).lower)
    assert heat.predict(SAMPLES, None).lower.tolist() == here(workspace).predict(SAMPLES, None).lower.tolist()
    with pytest.raises(ActiveLearningError, match="outputs names 1 targets, the model has 2"):
        evaluated(here(workspace, SPEC.model_copy(update={"output": 0, "outputs": ("only",)})))


def test_one_folder_with_both_files_and_any_provider(workspace: Path, tmp_path: Path) -> None:
    for file in workspace.glob("*/mccp-uq/*"):
        shutil.copy(file, tmp_path)
    expected = message(evaluated(here(workspace)))
    assert message(evaluated(here(tmp_path))) == expected
    assert message(evaluated(here(LocalFilesystemProvider(workspace)))) == expected


class Away(LocalFilesystemProvider):
    def version(self) -> str:
        raise SourceError(source="s3://models", reason="it does not answer")


def test_a_source_that_is_away(workspace: Path) -> None:
    with pytest.raises(ActiveLearningError, match="s3://models cannot be used: it does not answer") as raised:
        evaluated(here(Away(workspace)))
    assert not isinstance(raised.value, ModelIntegrity)


@pytest.mark.parametrize("explanation", ["OCCLUSION", "PERMUTATION"])  # SHAP takes seconds to load
def test_every_explanation(workspace: Path, explanation: Any) -> None:
    interface = replace_options(here(workspace), explanation=explanation, max_uncertain=3, max_misclassified=3)
    summary = evaluated(interface).misclassified_samples[0].sample_features_summary
    assert summary.method == explanation
    assert all(one.importance_score for one in summary.top_n_features)


def test_crossed_bounds_are_empty_intervals(tmp_path: Path) -> None:
    found = evaluated(here(small_workspace(tmp_path, q_hat=np.array([0.0, -50.0]))))
    assert found.overall_metrics["coverage"] == 0.0
    assert found.overall_metrics["mean_interval_width"] == 0.0
    assert {one.confidence_of_prediction for one in found.misclassified_samples} == {1.0}
    assert any("90 intervals have lower > upper" in warning for warning in found.warnings)


def test_every_strategy_reads_it(workspace: Path) -> None:
    found = evaluated(here(workspace))
    for name in STRATEGIES:
        spots = make_strategy(name).identify_weaknesses(found)
        assert {spot.type for spot in spots} >= {"misclassified_region", "low_recall_class"}, name


def test_versions(workspace: Path, tmp_path: Path) -> None:
    version = here(workspace).list_versions()[0]
    assert evaluated(here(workspace), tag=version).model_version_evaluated == f"mccp-uq@{version}"
    client = HereClient(workspace)
    for tag in (None, "stable", version):
        assert evaluated(there(client), tag=tag).model_version_evaluated == f"mccp-uq@{version}"
    assert there(client).list_versions() == [version]
    assert there(client).health() == {"status": "ok", "model": f"mccp-uq@{version}", "processes": 1}
    for interface in (here(workspace), there(client)):
        with pytest.raises(ModelVersionNotFound):
            evaluated(interface, tag="@another")
    with pytest.raises(ModelNotFound, match="is missing"):
        evaluated(here(tmp_path))
    assert here(tmp_path).health()["status"] == "failing"
    small_workspace(tmp_path)
    (tmp_path / "models/mccp-uq/model.h5").write_bytes(b"not an H5 file")
    with pytest.raises(ModelIntegrity):
        evaluated(here(tmp_path))


def test_samples_that_do_not_fit(workspace: Path) -> None:
    with pytest.raises(FeatureMismatch, match="expected 3 columns, got 2"):
        evaluated(here(workspace, features=FEATURES[:2]))
    with pytest.raises(FeatureMismatch, match="every column of the model once"):
        here(workspace, features=[FEATURES[0], FEATURES[0]])
    holes = interval_samples(20)
    holes[3]["sample_metadata"]["distance"] = None
    with pytest.raises(FeatureMismatch, match=r"distance is missing in 5\.0%"):
        evaluated(here(workspace), holes)
    features = [*FEATURES[:2], Feature(path=FEATURES[2], impute=1.5)]
    lenient = IntervalModelInterface(LocalIntervals(workspace), SPEC, features, max_missing_rate=0.1)
    found, said = evaluated(lenient, holes), lenient.predict(holes, None)
    assert found.model_extra["missing_rates"] == {FEATURES[2]: 0.05}
    holes[3]["sample_metadata"]["distance"] = 1.5
    assert said.lower.tolist() == lenient.predict(holes, None).lower.tolist()
    holes[3]["sample_metadata"]["load"] = "much"
    with pytest.raises(FeatureMismatch, match="load is text and no number"):
        evaluated(here(workspace), holes)


def test_files(workspace: Path, tmp_path: Path) -> None:
    path = write_dataset(tmp_path / "pool.avro", 40)
    target, *features = ensembles.FEATURES
    spec = SPEC.model_copy(update={"target": target})
    given = [Feature(path=feature, impute=0.5) for feature in features]
    interface = IntervalModelInterface(
        LocalIntervals(workspace), spec, given, data_roots=[tmp_path], max_missing_rate=0.5
    )
    found = evaluated(interface, str(path))
    assert found.n_samples == 40
    assert found.dataset_identifier.startswith("pool.avro#sha256:")
    assert (
        message(evaluated(interface, read_samples(path))).items()
        >= {name: value for name, value in message(found).items() if name != "dataset_identifier"}.items()
    )
    with pytest.raises(DatasetNotFound):
        evaluated(here(workspace), str(path))


def test_a_full_queue_is_waited_for(workspace: Path) -> None:
    def trouble(call: int, options: dict[str, Any]) -> None:
        if call in (2, 3):
            raise QueueFull(queue="predictions", limit=1, accepted=0, asked=1, retry_after_seconds=1)
        if call == 5:
            raise ServiceUnreachable(service="Redis", url="redis://there", reason="it is away")

    client = HereClient(workspace, trouble=trouble)
    assert message(evaluated(there(client))) == message(evaluated(here(workspace)))


def test_a_job_that_another_evaluation_gave_up_is_sent_again(workspace: Path) -> None:
    def outcome(number: int, answer: Any) -> Any:
        return JobCancelled(job_id="job-0") if number == 0 else answer

    client = HereClient(workspace, outcome=outcome)
    assert message(evaluated(there(client))) == message(evaluated(here(workspace)))
    first, again = client.jobs[0], client.jobs[3]
    assert first.options["seed"] == again.options["seed"]
    assert first.options["idempotency_key"] != again.options["idempotency_key"]


def test_some_rows_may_fail(workspace: Path) -> None:
    def outcome(number: int, answer: Any) -> Any:
        return JobFailed(job_id="job", reason="it did not work") if number == 1 else answer

    def nothing(interface: IntervalModelInterface) -> Any:
        return evaluated(replace_options(interface, max_explained=0))

    with pytest.raises(PartialEvaluation, match="16 of 90"):
        nothing(there(HereClient(workspace, outcome=outcome)))
    lenient = replace(SMALL, max_failed_fraction=0.2)
    found = nothing(there(HereClient(workspace, outcome=outcome), queue=lenient))
    assert (found.n_samples, found.n_failed) == (90, 16)
    assert not {f"s{number:04d}" for number in range(16, 32)} & {one.raw_sample_id for one in found.uncertain_samples}
    assert any(warning.startswith("1 chunks failed: 1 with ") for warning in found.warnings)


def replace_options(interface: IntervalModelInterface, **options: Any) -> IntervalModelInterface:
    interface.options = replace(interface.options, **options)
    return interface


@pytest.mark.parametrize(
    ("error", "raised", "said"),
    [
        (UnknownModel(model="mccp-uq", served="none"), ModelNotFound, "in the queue"),
        (VersionNotServed(model="mccp-uq", version="1", reason="gone"), ModelVersionNotFound, "in the queue"),
        (InvalidFeatures(reason="expected 4 columns"), FeatureMismatch, "expected 4 columns"),
        (ModelInvalid(file="model.h5", reason="it is broken"), ModelIntegrity, "it is broken"),
        (JobNotFinished(job_id="j", state="queued", timeout_seconds="1"), QueueTimeout, "job j is queued"),
        (ServiceUnreachable(service="Redis", url="redis://there", reason="it is away"), QueueTimeout, "it is away"),
    ],
)
def test_errors_of_all_chunks(workspace: Path, error: Any, raised: Any, said: str) -> None:
    client = HereClient(workspace, outcome=lambda number, answer: error)
    with pytest.raises(raised, match=said):
        evaluated(there(client))
    assert len(client.jobs) == 3
    assert all(job.cancelled for job in client.jobs)


def test_answers_of_something_else(workspace: Path) -> None:
    def another(number: int, answer: Any) -> Any:
        return replace(answer, model=replace(answer.model, version="0" * 16))

    def fewer(number: int, answer: Any) -> Any:
        return client.model_here.part(type("Whole", (), {"prediction": answer, "far": answer.failed})(), 0, 3, 0)

    def other_unit(number: int, answer: Any) -> Any:
        return replace(answer, unit="kWh" if number else None)

    for outcome, said in (
        (another, "another version"),
        (fewer, "answered 3 rows, and was asked 16"),
        (other_unit, "different forward modes or units"),
        (lambda number, answer: object.__new__(Classification), "another kind of model"),
    ):
        client = HereClient(workspace, outcome=outcome)
        with pytest.raises(ModelIntegrity, match=said):
            evaluated(there(client))


def test_the_deadline_and_cancelling(workspace: Path) -> None:
    def never(call: int, options: dict[str, Any]) -> None:
        raise QueueFull(queue="predictions", limit=1, accepted=0, asked=1, retry_after_seconds=1)

    short = there(HereClient(workspace, trouble=never), queue=replace(SMALL, deadline_seconds=0.2))
    with pytest.raises(QueueTimeout, match=r"within 0\.2 s"):
        evaluated(short)

    def slowly(number: int, answer: Any) -> Any:
        time.sleep(0.05)
        return answer

    client = HereClient(workspace, outcome=slowly)
    handle = there(client).submit_feedback(evaluation_dataset=interval_samples(500))
    assert handle.cancel() is True
    with pytest.raises(CancelledError):
        handle.result(10)
    assert len(client.jobs) < 10
    assert all(job.asked or job.cancelled for job in client.jobs)
    done = here(workspace).submit_feedback(evaluation_dataset=SAMPLES)
    assert message(done.result(20)) == message(evaluated(here(workspace)))


def test_the_example_of_the_documentation_runs(tmp_path: Path) -> None:
    text = (Path(__file__).parents[3] / "docs" / "learning" / "models.md").read_text(encoding="utf-8")
    block = text.partition("\n## Interval models\n")[2].partition("```py\n")[2].partition("```")[0]
    write_workspace(tmp_path)
    buildings = draw_buildings(600, np.random.default_rng(0))
    (tmp_path / "sample").mkdir()
    for name, header, rows in (
        ("fresh_rows.csv", FEATURE_NAMES, buildings.features),
        ("fresh_targets.csv", TARGET_NAMES, buildings.targets),
    ):
        np.savetxt(tmp_path / "sample" / name, rows, delimiter=",", header=",".join(header), comments="")
    found: dict[str, Any] = {}
    exec(block.replace("/tmp/sample", str(tmp_path)), found)
    assert found["feedback"].n_samples == 500
    assert found["feedback"].misclassified_samples
