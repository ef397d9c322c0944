"""The local model interface: versions, aliases, data sets, and every method."""

from __future__ import annotations

import asyncio
import shutil
import threading
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from builders.learning_models import CLASSES, FEATURES, forest, samples, written
from builders.learning_scenarios import a_generator, a_scenario
from uqueue_config.learning.feedback import ModelPerformanceData
from uqueue_config.learning.model_manifest import ModelManifest
from uqueue_worker.learning.errors import (
    DatasetFormat,
    DatasetNotFound,
    EmptyDataset,
    FeatureMismatch,
    ModelNotFound,
    ModelVersionNotFound,
)
from uqueue_worker.learning.models.evaluation import EvaluationOptions
from uqueue_worker.learning.models.features import FeatureSpec, feature_matrix
from uqueue_worker.learning.models.in_process import function_model
from uqueue_worker.learning.models.local import LocalModelInterface
from uqueue_worker.learning.models.training import ForestSettings, train
from uqueue_worker.learning.models.writing import set_alias, write_forest
from uqueue_worker.learning.strategies import make_strategy

SENSED = (
    "sensor_readings_map.readings.U19_TFSGS.voc_channel_4_phenol_ppb",
    "sensor_readings_map.readings.U29_TFEMF.ac_field_strength_microteslas",
    "sensor_readings_map.readings.U26_Lepton35.thermal_image_celsius|max",
    "sensor_readings_map.readings.U26_Lepton35.thermal_image_celsius|p95",
    "sample_metadata.U21_SHT85__air_temperature_celsius",
)
EVENTS = ("corona_discharge", "early_combustion", "normal_baseline_operation")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two versions of a model, the first of them in production."""
    folder = tmp_path_factory.mktemp("models")
    one = written(folder, key="one", conformal_q=0.8)
    written(folder, seed=1, key="two")
    set_alias(folder, "air", "production", one.version)
    return folder


@pytest.fixture(scope="module")
def versions(root: Path) -> list[ModelManifest]:
    return [written(root, key="one"), written(root, seed=1, key="two")]


@pytest.fixture(scope="module")
def interface(root: Path) -> LocalModelInterface:
    return LocalModelInterface(root=root, name="air")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """Samples of the simulator, as a list and as two parts in a folder."""
    folder = tmp_path_factory.mktemp("data")
    generator = a_generator(folder / "pool", seed=4)
    families = ("CoronaDischarge", "EarlyCombustion", "BaselineOperation")
    exported = []
    for part in range(2):
        raw = generator.generate_training_dataset(
            scenarios=[a_scenario(name) for name in families], samples_per_scenario=12, seed=part
        )
        name = f"part-{part}"
        assert generator.export(raw, "avro", name) == str(folder / "pool" / f"{name}.avro")
        exported += generator.export(raw, "list_of_dicts", name)  # type: ignore[arg-type,operator]
    return folder, exported


def comparable(feedback: ModelPerformanceData) -> dict[str, Any]:
    told = feedback.to_message()
    return {name: told[name] for name in told.keys() - {"dataset_identifier", "evaluated_at_utc", "duration_seconds"}}


def test_feedback_is_whole(interface: LocalModelInterface, versions: list[ModelManifest]) -> None:
    found = interface.get_model_performance_feedback(
        evaluation_dataset=samples(120, seed=5, overlap=1.5), model_version_tag=None
    )
    assert found.model_version_evaluated == versions[0].reference
    assert (found.n_samples, found.uncertainty_method, found.classes) == (120, "ensemble:12", CLASSES)
    assert 0.6 < found.overall_metrics["accuracy"] < 1
    assert found.n_misclassified == len(found.misclassified_samples)
    assert found.feature_spec_fingerprint == versions[0].feature_spec_fingerprint
    first = found.uncertain_samples[0]
    assert None not in (first.epistemic_uncertainty_score, first.disagreement_score, first.ambiguity_score)
    assert first.sensor_id in {"U20_SPS30", "U29_TFEMF", "U26_Lepton35", "U21_SHT85"}
    assert first.sample_features_summary is not None
    assert first.sample_features_summary.method == "OCCLUSION"
    assert make_strategy("region").identify_weaknesses(found)


def test_predictions_are_those_of_the_trained_forest(interface: LocalModelInterface) -> None:
    made = samples(700, seed=6)
    found = interface.predict(dataset=made, model_version_tag=None)
    matrix, _ = feature_matrix(made, FeatureSpec(forest().features))
    assert found.probabilities is not None
    assert np.abs(found.probabilities - forest().forest.predict_proba(matrix)).max() < 1e-6
    assert found.labels == [CLASSES[number] for number in found.probabilities.argmax(axis=1)]


def test_a_version_an_alias_and_the_default_name_versions(
    interface: LocalModelInterface, versions: list[ModelManifest], root: Path
) -> None:
    first, second = (one.version for one in versions)
    assert interface.list_versions() == [first, second]
    tags = (None, "production", "latest", first, second)
    found = [interface.model(tag).manifest.version for tag in tags]
    assert found == [first, first, second, first, second]
    assert LocalModelInterface(root=root, name="air", default_version=second).model().manifest.version == second


@pytest.mark.parametrize("tag", ["nobody", "../air", "..", "", "v1/../v1", "/etc", ".", "a\x00b", "x" * 300])
def test_a_tag_that_names_no_version_is_refused(interface: LocalModelInterface, tag: str) -> None:
    with pytest.raises(ModelVersionNotFound):
        interface.predict(dataset=samples(3), model_version_tag=tag)


@pytest.mark.parametrize("name", ["nobody", "../models", "..", ".", "", "air/.."])
def test_a_model_that_is_not_there_is_not_found(root: Path, name: str) -> None:
    with pytest.raises(ModelNotFound):
        LocalModelInterface(root=root, name=name).predict(dataset=samples(3), model_version_tag=None)


def test_a_moved_alias_is_followed_and_both_versions_stay_in_memory(tmp_path: Path) -> None:
    one, two = written(tmp_path), written(tmp_path, seed=1)
    set_alias(tmp_path, "air", "production", one.version)
    interface = LocalModelInterface(root=tmp_path, name="air", loaded_models=2)
    first = interface.model()
    set_alias(tmp_path, "air", "production", two.version)
    assert interface.model().manifest == two
    set_alias(tmp_path, "air", "production", one.version)
    assert interface.model() is first


def test_only_the_versions_used_last_stay_in_memory(root: Path, versions: list[ModelManifest]) -> None:
    interface = LocalModelInterface(root=root, name="air", loaded_models=1)
    first = interface.model(versions[0].version)
    interface.model(versions[1].version)
    assert interface.model(versions[0].version) is not first
    assert interface.health()["loaded"] == [versions[0].version]


def test_many_threads_load_a_version_once(root: Path) -> None:
    interface = LocalModelInterface(root=root, name="air")
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(interface.model())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(one) for one in found}) == 1


def test_a_path_names_one_version(root: Path, versions: list[ModelManifest], tmp_path: Path) -> None:
    folder = root / "air" / versions[1].version
    for path in (folder, folder / "model.onnx"):
        interface = LocalModelInterface(path)
        assert interface.list_versions() == [versions[1].version]
        assert interface.model(versions[1].version).manifest == versions[1]
        with pytest.raises(ModelVersionNotFound):
            interface.model("latest")
    with pytest.raises(ModelNotFound):
        LocalModelInterface(tmp_path / "nothing").model()
    with pytest.raises(ValueError, match="give model_path, or root and name"):
        LocalModelInterface(folder, root=root)


def test_health_says_what_is_wrong(interface: LocalModelInterface, root: Path, versions: list[ModelManifest]) -> None:
    assert interface.health() | {"loaded": []} == {
        "status": "ok",
        "model": versions[0].reference,
        "format": "onnx",
        "loaded": [],
    }
    failing = LocalModelInterface(root=root, name="nobody").health()
    assert (failing["status"], failing["error_code"]) == ("failing", "model_not_found")


def test_a_file_a_folder_of_parts_and_a_list_give_the_same_feedback(
    recorded: tuple[Path, list[dict[str, Any]]], tmp_path: Path
) -> None:
    folder, exported = recorded
    fitted = train(exported[::2], SENSED, EVENTS, seed=0, settings=ForestSettings(10))
    manifest = write_forest(tmp_path, "events", fitted)
    options = EvaluationOptions(max_uncertain=None)
    interface = LocalModelInterface(root=tmp_path, name="events", data_roots=[folder], options=options)
    listed = interface.get_model_performance_feedback(evaluation_dataset=exported, model_version_tag=manifest.version)
    assert listed.overall_metrics["accuracy"] > 0.8
    assert (listed.n_samples, listed.to_message()["missing_rates"]) == (72, {})
    parts = interface.get_model_performance_feedback(evaluation_dataset=str(folder / "pool"), model_version_tag=None)
    assert comparable(parts) == comparable(listed)
    assert parts.dataset_identifier is not None
    assert parts.dataset_identifier.startswith("pool#sha256:")
    one = interface.get_model_performance_feedback(
        evaluation_dataset=str(folder / "pool" / "part-0.avro"), model_version_tag=None
    )
    half = interface.get_model_performance_feedback(evaluation_dataset=exported[:36], model_version_tag=None)
    assert comparable(one) == comparable(half)
    assert listed.sensor_specific_metrics is not None
    assert {"U19_TFSGS", "U21_SHT85", "U26_Lepton35"} <= listed.sensor_specific_metrics.keys()


def test_files_are_read_below_the_roots_only(
    recorded: tuple[Path, list[dict[str, Any]]], root: Path, tmp_path: Path
) -> None:
    folder, _ = recorded
    roots = tmp_path / "data"
    roots.mkdir()
    interface = LocalModelInterface(root=root, name="air", data_roots=[roots])
    (roots / "link.avro").symlink_to(folder / "pool" / "part-0.avro")
    (roots / "parts").mkdir()
    (roots / "parts" / "link.avro").symlink_to(folder / "pool" / "part-0.avro")
    beyond = (folder / "pool", roots / ".." / "models", roots / "link.avro", roots / "parts", roots / "none.avro")
    for path in beyond:
        with pytest.raises(DatasetNotFound):
            interface.predict(dataset=str(path), model_version_tag=None)
    with pytest.raises(DatasetNotFound):
        LocalModelInterface(root=root, name="air").predict(
            dataset=str(folder / "pool" / "part-0.avro"), model_version_tag=None
        )


def test_data_sets_that_are_none_are_refused(root: Path, tmp_path: Path) -> None:
    interface = LocalModelInterface(root=root, name="air", data_roots=[tmp_path])
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.avro").write_text("no container")
    for given in (str(tmp_path / "empty"), str(tmp_path / "text.avro"), {"a": 1}, 7):
        with pytest.raises(DatasetFormat):
            interface.predict(dataset=given, model_version_tag=None)  # type: ignore[arg-type]
    with pytest.raises(EmptyDataset):
        interface.predict(dataset=[], model_version_tag=None)


def test_samples_without_the_features_are_a_mismatch(interface: LocalModelInterface) -> None:
    made = samples(4)
    for one in made[:3]:
        one["sensor_readings_map"]["readings"]["U29_TFEMF"] = None
    with pytest.raises(FeatureMismatch, match=r"U29_TFEMF.field_strength is missing in 75\.0%"):
        interface.get_model_performance_feedback(evaluation_dataset=made, model_version_tag=None)


def test_explanations_of_any_samples(interface: LocalModelInterface) -> None:
    found = interface.explain(samples(5), top_n=2)
    assert [one.method for one in found] == ["OCCLUSION"] * 5
    assert {len(one.top_n_features) for one in found} == {2}
    with pytest.raises(TypeError, match="there is no option depth"):
        interface.explain(samples(5), depth=2)


def test_an_event_loop_can_wait_for_feedback(interface: LocalModelInterface) -> None:
    made = samples(30)
    found = asyncio.run(
        interface.aget_model_performance_feedback(evaluation_dataset=made, model_version_tag="production")
    )
    assert comparable(found) == comparable(
        interface.get_model_performance_feedback(evaluation_dataset=made, model_version_tag="production")
    )


def test_a_handle_follows_an_evaluation(interface: LocalModelInterface) -> None:
    handle = interface.submit_feedback(evaluation_dataset=samples(30))
    assert handle.result(30).n_samples == 30
    assert (handle.poll(), handle.cancel()) == ("done", False)
    failed = interface.submit_feedback(evaluation_dataset=[])
    with pytest.raises(EmptyDataset):
        failed.result(30)
    assert failed.poll() == "failed"


def test_a_cancelled_evaluation_ends_before_its_next_batch() -> None:
    started, go_on = threading.Event(), threading.Event()
    batches = []

    def waiting(matrix: Any) -> Any:
        batches.append(len(matrix))
        started.set()
        assert go_on.wait(30)
        return np.full((len(matrix), 3), 1 / 3)

    interface = LocalModelInterface.of(function_model(waiting, CLASSES, FEATURES))
    handle = interface.submit_feedback(evaluation_dataset=samples(1200))
    assert started.wait(30)
    assert (handle.poll(), handle.cancel()) == ("running", True)
    go_on.set()
    with pytest.raises(CancelledError):
        handle.result(30)
    assert (handle.poll(), batches) == ("cancelled", [512])


def test_a_function_is_a_model(tmp_path: Path) -> None:
    model = function_model(lambda matrix: np.full((len(matrix), 3), 1 / 3), CLASSES, FEATURES)
    found = LocalModelInterface.of(model).get_model_performance_feedback(
        evaluation_dataset=samples(9), model_version_tag=None
    )
    assert (found.uncertainty_method, found.model_version_evaluated) == ("single_model", "in_process@1")
    assert found.uncertain_samples[0].uncertainty_score == pytest.approx(1)
    assert found.uncertain_samples[0].epistemic_uncertainty_score is None


def test_a_version_that_is_removed_is_gone(tmp_path: Path) -> None:
    version = written(tmp_path).version
    interface = LocalModelInterface(root=tmp_path, name="air")
    interface.model(version)
    shutil.rmtree(tmp_path / "air" / version)
    with pytest.raises(ModelVersionNotFound):
        interface.model(version)
