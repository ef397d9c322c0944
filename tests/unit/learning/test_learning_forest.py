"""The training hook, and the ONNX file that answers with every tree."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from builders.learning_models import CLASSES, FEATURES, forest, sample, samples, written
from uqueue_config.learning.model_manifest import ModelManifest
from uqueue_worker.learning.errors import DatasetFormat, EmptyDataset, FeatureMismatch, ModelNotFound
from uqueue_worker.learning.models.features import FeatureSpec, feature_matrix
from uqueue_worker.learning.models.forest_onnx import float32_threshold, forest_onnx
from uqueue_worker.learning.models.training import ForestSettings, train
from uqueue_worker.learning.models.writing import alias_version, model_ref, set_alias, write_forest, write_version


def members(data: bytes, matrix: Any) -> Any:
    return onnxruntime.InferenceSession(data).run(["members"], {"features": matrix})[0]


def test_the_file_answers_as_every_tree_of_scikit_learn_does() -> None:
    fitted = forest(trees=40, count=240)
    matrix, _ = feature_matrix(samples(700, seed=9, overlap=2.0), FeatureSpec(fitted.features))
    found, expected = members(forest_onnx(fitted), matrix), fitted.members(matrix)
    assert found.shape == (700, 40, 3)
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() < 1e-6
    assert np.abs(found.mean(axis=1) - fitted.forest.predict_proba(matrix)).max() < 1e-6


def test_values_at_a_threshold_go_the_way_that_they_go_in_scikit_learn() -> None:
    fitted = forest(trees=8)
    rows = []
    for tree in fitted.forest.estimators_:
        for feature, threshold in zip(tree.tree_.feature, tree.tree_.threshold, strict=True):
            if feature >= 0:
                near = np.float32(threshold)
                for value in (near, np.nextafter(near, np.float32(-np.inf)), np.nextafter(near, np.float32(np.inf))):
                    row = np.array([20.0, 2.0, 30.0, 50.0], dtype=np.float32)
                    row[feature] = value
                    rows.append(row)
    matrix = np.stack(rows)
    assert np.abs(members(forest_onnx(fitted), matrix) - fitted.members(matrix)).max() < 1e-6


def test_a_float32_threshold_is_never_above_the_one_it_stands_for() -> None:
    thresholds = np.array([0.1, 1 / 3, -0.1, 2.0, 1e30])
    found = float32_threshold(thresholds)
    assert (found.astype(np.float64) <= thresholds).all()
    assert (np.nextafter(found, np.float32(np.inf)).astype(np.float64) > thresholds).all()


def test_a_class_without_samples_has_a_column_of_zeros() -> None:
    seen = [one for one in samples(60) if one["extracted_class_label"] != "SMOKE"]
    fitted = train(seen, FEATURES, CLASSES, seed=0, settings=ForestSettings(5))
    matrix, _ = feature_matrix(samples(20), FeatureSpec(fitted.features))
    found = members(forest_onnx(fitted), matrix)
    assert (found[:, :, 1] == 0).all()
    assert np.abs(found - fitted.members(matrix)).max() < 1e-6


def test_training_is_a_function_of_samples_and_seed() -> None:
    one, two, other = (forest_onnx(train(samples(60), FEATURES, CLASSES, seed=seed)) for seed in (1, 1, 2))
    assert one == two
    assert one != other
    assert ForestSettings() == ForestSettings(n_estimators=120, min_samples_leaf=2, max_features=0.5)


def test_the_manifest_gets_the_constants_of_the_training_data() -> None:
    values = [(1.0, 1.0, 30.0, 40.0), (2.0, None, 30.0, 40.0), (6.0, 3.0, 30.0, 40.0)]
    made = [sample(number, CLASSES[number], row) for number, row in enumerate(values)]
    fitted = train([*made, *made], FEATURES, CLASSES, seed=0, settings=ForestSettings(2))
    particles, fields = fitted.features[:2]
    assert (particles.mean, particles.median, particles.impute, particles.unit) == (3.0, 2.0, 2.0, "ug/m3")
    assert particles.std == pytest.approx(np.std([1, 2, 6]))
    assert (fields.median, fields.impute) == (2.0, 2.0)
    assert fitted.training_data.n == 6
    assert fitted.training["samples_per_class"] == {"ARC": 2, "NORMAL": 2, "SMOKE": 2}


def test_raw_samples_train_the_same_model_and_unlabelled_ones_are_left_out() -> None:
    exported = samples(45)
    raw = [
        {
            "sensor_readings": one["sensor_readings_map"]["readings"],
            "labels": {"event_type": one["extracted_class_label"]},
            "sample_metadata": one["sample_metadata"],
        }
        for one in exported
    ]
    unlabelled = sample(99, None, (1.0, 1.0, 1.0, 1.0))
    unlabelled["ground_truth_labels"] = {"event_type": None}
    settings = ForestSettings(3)
    same = [
        forest_onnx(train(held, FEATURES, CLASSES, seed=0, settings=settings))
        for held in (exported, raw, [*exported, unlabelled])
    ]
    assert same[0] == same[1] == same[2]


def test_what_cannot_be_trained_on_is_said() -> None:
    with pytest.raises(EmptyDataset):
        train([], FEATURES, CLASSES, seed=0)
    with pytest.raises(DatasetFormat, match="labels that are no classes of the model: ARC"):
        train(samples(9), FEATURES, CLASSES[:2], seed=0)
    with pytest.raises(DatasetFormat, match="all of its samples are of the class NORMAL"):
        train(samples(9)[::3], FEATURES, CLASSES, seed=0)
    with pytest.raises(FeatureMismatch, match=r"elsewhere is missing in 100\.0%"):
        train(samples(9), ["elsewhere"], CLASSES, seed=0)


def test_a_version_is_named_by_its_key_and_written_once(tmp_path: Path) -> None:
    first = written(
        tmp_path, key="run 1, cycle 2", metrics={"macro_f1_score": 0.9}, parent_version="v0", dataset="start"
    )
    folder = tmp_path / "air" / first.version
    assert sorted(one.name for one in folder.iterdir()) == ["manifest.json", "model.onnx"]
    before = {one.name: one.stat().st_mtime_ns for one in folder.iterdir()}
    again = written(tmp_path, seed=1, key="run 1, cycle 2")
    assert again == first
    assert before == {one.name: one.stat().st_mtime_ns for one in folder.iterdir()}
    assert (first.parent_version, first.metrics, first.uncertainty.text) == (
        "v0",
        {"macro_f1_score": 0.9},
        "ensemble:12",
    )
    assert (first.training_data[0].name, first.training_data[0].n) == ("start", 90)
    assert ModelManifest.read((folder / "manifest.json").read_bytes()) == first
    assert sorted(one.name for one in (tmp_path / "air").iterdir()) == [first.version]


def test_without_a_key_the_content_names_the_version(tmp_path: Path) -> None:
    assert written(tmp_path).version == written(tmp_path).version
    assert written(tmp_path).version != written(tmp_path, seed=1).version


def test_writers_of_one_version_at_the_same_time_agree(tmp_path: Path) -> None:
    found: list[ModelManifest] = []
    threads = [
        threading.Thread(target=lambda: found.append(write_forest(tmp_path, "air", forest(), key="k")))
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6
    assert all(one == found[0] for one in found)
    assert [one.name for one in (tmp_path / "air").iterdir()] == [found[0].version]


def test_an_alias_names_a_version_and_the_others_stay(tmp_path: Path) -> None:
    one, two = written(tmp_path), written(tmp_path, seed=1)
    assert alias_version(tmp_path, "air", "production") is None
    set_alias(tmp_path, "air", "production", one.version)
    set_alias(tmp_path, "air", "latest", two.version)
    set_alias(tmp_path, "air", "production", two.version)
    assert json.loads((tmp_path / "air" / "aliases.json").read_text()) == {
        "latest": two.version,
        "production": two.version,
    }
    assert model_ref(tmp_path, "air", "production").sha == two.sha256
    assert alias_version(tmp_path, "none", "production") is None


def test_aliases_set_at_the_same_time_are_all_there(tmp_path: Path) -> None:
    version = written(tmp_path).version
    threads = [
        threading.Thread(target=set_alias, args=(tmp_path, "air", f"arm-{number}", version)) for number in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(json.loads((tmp_path / "air" / "aliases.json").read_text())) == 12


@pytest.mark.parametrize("alias", ["../x", "", ".hidden", "a/b", "a..b"])
def test_an_alias_is_a_name_and_no_path(tmp_path: Path, alias: str) -> None:
    version = written(tmp_path).version
    with pytest.raises(ValueError, match="an alias has letters"):
        set_alias(tmp_path, "air", alias, version)
    with pytest.raises(ValueError, match="is the name of a version"):
        set_alias(tmp_path, "air", version, version)


def test_a_model_is_a_name_and_no_path(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound):
        written(tmp_path / "root", model="../elsewhere")
    assert list(tmp_path.iterdir()) == []


def test_a_manifest_of_other_bytes_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="SHA-256 of another file"):
        write_version(tmp_path, written(tmp_path), b"other bytes")
