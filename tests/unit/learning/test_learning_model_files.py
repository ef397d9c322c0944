"""Model files from anywhere: what is not on the list is refused, and nothing in it runs."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import sys
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import h5py
import joblib
import numpy as np
import pytest
import skops.io
from onnx import TensorProto, helper
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB

from builders.learning_models import CLASSES, FEATURES, samples, written
from uqueue_config.learning.model_manifest import (
    Feature,
    InvalidManifest,
    ModelManifest,
    Preprocessing,
    UncertaintyDeclaration,
)
from uqueue_worker.learning.errors import ModelIntegrity, ModelNotFitted, UnsupportedModelFormat
from uqueue_worker.learning.models.features import FeatureSpec, feature_matrix
from uqueue_worker.learning.models.local import LocalModelInterface
from uqueue_worker.learning.models.writing import write_version

ENDINGS = {"onnx": "onnx", "keras": "keras", "joblib": "joblib", "pickle": "pkl", "skops": "skops"}
MATRIX, _ = feature_matrix(samples(90, seed=7), FeatureSpec(FEATURES))
LABELS = [one["extracted_class_label"] for one in samples(90, seed=7)]


def saved(root: Path, kind: Any, data: bytes, **more: Any) -> ModelManifest:
    """Write a file as a version of the model air, with a manifest that fits."""
    manifest = ModelManifest(
        **{
            "model": "air",
            "version": "1",
            "format": kind,
            "file": f"model.{ENDINGS[kind]}",
            "sha256": hashlib.sha256(data).hexdigest(),
            "created": datetime.now(UTC),
            "classes": CLASSES,
            "feature_spec": FEATURES,
            **more,
        }
    )
    return write_version(root, manifest, data)


def interface(root: Path, **more: Any) -> LocalModelInterface:
    return LocalModelInterface(root=root, name="air", **more)


def dumped(kind: str, estimator: Any) -> bytes:
    if kind == "pickle":
        return pickle.dumps(estimator)
    if kind == "skops":
        return bytes(skops.io.dumps(estimator))
    packed = io.BytesIO()
    joblib.dump(estimator, packed)
    return packed.getvalue()


class Canary:
    """Pickled, it is a program that creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("kind", ["pickle", "joblib"])
def test_a_pickle_runs_only_where_three_conditions_hold(tmp_path: Path, kind: str) -> None:
    canary = tmp_path / "canary"
    data = dumped(kind, Canary(canary))
    manifest = saved(tmp_path, kind, data)
    folder = tmp_path / "air" / "1"
    with pytest.raises(UnsupportedModelFormat, match="allow_pickle is not set; save the model as ONNX"):
        interface(tmp_path).model()
    with pytest.raises(UnsupportedModelFormat, match="it is below no model root"):
        LocalModelInterface(folder, allow_pickle=True).model()
    (folder / manifest.file).write_bytes(data + b" ")
    with pytest.raises(ModelIntegrity, match="SHA-256"):
        interface(tmp_path, allow_pickle=True).model()
    assert not canary.exists()
    (folder / manifest.file).write_bytes(data)
    with pytest.raises(UnsupportedModelFormat, match="nothing that has predict_proba"):
        interface(tmp_path, allow_pickle=True).model()
    assert canary.exists()  # so that the refusals above were worth something


@pytest.mark.parametrize("kind", ["pickle", "joblib"])
def test_a_forest_of_scikit_learn_answers_by_its_trees(tmp_path: Path, kind: str) -> None:
    fitted = RandomForestClassifier(7, random_state=0).fit(MATRIX, LABELS)
    saved(tmp_path, kind, dumped(kind, fitted), uncertainty=UncertaintyDeclaration(method="ensemble", members=7))
    found = interface(tmp_path, allow_pickle=True).predict(dataset=samples(90, seed=7), model_version_tag=None)
    order = [list(fitted.classes_).index(name) for name in CLASSES]
    assert found.probabilities is not None
    assert np.abs(found.probabilities - fitted.predict_proba(MATRIX)[:, order]).max() < 1e-9
    assert found.epistemic is not None


def test_a_linear_model_is_explained_by_its_coefficients(tmp_path: Path) -> None:
    mean, std = MATRIX.mean(axis=0), MATRIX.std(axis=0)
    features = tuple(
        feature.model_copy(update={"mean": float(mean[at]), "std": float(std[at])})
        for at, feature in enumerate(FEATURES)
    )
    numbers = [CLASSES.index(label) for label in LABELS]
    fitted = LogisticRegression().fit((MATRIX - mean) / std, numbers)
    scaling = Preprocessing(scaling="standard")
    saved(tmp_path, "skops", dumped("skops", fitted), feature_spec=features, preprocessing=scaling)
    found = interface(tmp_path)
    explained = found.explain(samples(90, seed=7), top_n=4)
    said = found.predict(dataset=samples(90, seed=7), model_version_tag=None)
    assert said.uncertainty_method == "single_model"
    assert said.epistemic is None
    assert {one.method for one in explained} == {"COEFFICIENT"}
    scores = {one.feature_path: one.importance_score for one in explained[0].top_n_features}
    expected = fitted.coef_[said.predicted[0], 0] * (MATRIX[0, 0] - mean[0]) / std[0]
    assert scores[FEATURES[0].name] == pytest.approx(expected, rel=1e-4)


def test_types_that_skops_does_not_trust_are_refused(tmp_path: Path) -> None:
    fitted = GaussianNB().fit(MATRIX, LABELS)
    fitted.note = Canary(tmp_path)
    saved(tmp_path / "a", "skops", dumped("skops", fitted))
    with pytest.raises(UnsupportedModelFormat, match=r"types that are not trusted: .*Canary"):
        interface(tmp_path / "a").model()
    forest = RandomForestClassifier(2, random_state=0).fit(MATRIX, LABELS)
    two = UncertaintyDeclaration(method="ensemble", members=2)
    saved(tmp_path / "b", "skops", dumped("skops", forest), uncertainty=two)
    with pytest.raises(UnsupportedModelFormat, match=r"not trusted: sklearn\.tree\._tree\.Tree"):
        interface(tmp_path / "b").model()


def test_a_model_that_was_never_trained_says_so(tmp_path: Path) -> None:
    saved(tmp_path, "skops", dumped("skops", LogisticRegression()))
    with pytest.raises(ModelNotFitted):
        interface(tmp_path).model()


def test_a_model_with_other_members_or_classes_than_its_manifest_is_refused(tmp_path: Path) -> None:
    fitted = RandomForestClassifier(3, random_state=0).fit(MATRIX, LABELS)
    three = UncertaintyDeclaration(method="ensemble", members=3)
    four = three.model_copy(update={"members": 4})
    saved(tmp_path / "a", "joblib", dumped("joblib", fitted), uncertainty=four)
    with pytest.raises(UnsupportedModelFormat, match="says ensemble:4 and it has 3 members"):
        interface(tmp_path / "a", allow_pickle=True).model()
    saved(tmp_path / "b", "joblib", dumped("joblib", fitted), uncertainty=three, classes=("NORMAL", "SMOKE"))
    with pytest.raises(UnsupportedModelFormat, match="knows a class 'ARC'"):
        interface(tmp_path / "b", allow_pickle=True).model()


def test_a_folder_without_a_manifest_is_no_version(tmp_path: Path) -> None:
    version = written(tmp_path).version
    (tmp_path / "air" / version / "manifest.json").unlink()
    for held in (interface(tmp_path), LocalModelInterface(tmp_path / "air" / version)):
        with pytest.raises(ModelIntegrity, match=r"it has no manifest\.json"):
            held.model(version)
    assert interface(tmp_path).list_versions() == []


def test_an_altered_file_is_not_loaded(tmp_path: Path) -> None:
    version = written(tmp_path).version
    file = tmp_path / "air" / version / "model.onnx"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(ModelIntegrity, match="its SHA-256 is not the one in the manifest"):
        interface(tmp_path).model(version)
    file.unlink()
    with pytest.raises(ModelIntegrity, match="it is not there"):
        interface(tmp_path).model(version)


def test_links_that_leave_the_root_are_not_followed(tmp_path: Path) -> None:
    version = written(tmp_path / "elsewhere").version
    source = tmp_path / "elsewhere" / "air" / version
    root = tmp_path / "root"
    (root / "air" / "copied").mkdir(parents=True)
    (root / "air" / version).symlink_to(source)
    with pytest.raises(ModelIntegrity, match="outside of the model root"):
        interface(root).model(version)
    told = json.loads((source / "manifest.json").read_text()) | {"version": "copied"}
    (root / "air" / "copied" / "manifest.json").write_text(json.dumps(told))
    (root / "air" / "copied" / "model.onnx").symlink_to(source / "model.onnx")
    with pytest.raises(ModelIntegrity, match="outside of the model root"):
        interface(root).model("copied")


@pytest.mark.parametrize("aliases", ['{"production": "../../etc"}', '{"production": 7}', "[]", "no JSON"])
def test_aliases_that_are_none_are_refused(tmp_path: Path, aliases: str) -> None:
    written(tmp_path)
    (tmp_path / "air" / "aliases.json").write_text(aliases)
    with pytest.raises(ModelIntegrity):
        interface(tmp_path).model()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"file": "../model.onnx"}, "file"),
        ({"file": "/etc/model.onnx"}, "file"),
        ({"file": "model.pkl"}, "ends with .onnx"),
        ({"sha256": "0"}, "sha256"),
        ({"classes": ["A", "A"]}, "every class once"),
        ({"feature_spec": []}, "feature_spec"),
        ({"feature_spec": [{"path": "a b"}]}, "names joined by dots"),
        ({"feature_spec": [{"path": "a"}, {"path": "a"}]}, "every feature once"),
        ({"feature_spec": [{"path": "a|max", "reducer": "mean"}]}, "its reducer max is not the mean"),
        ({"uncertainty": {"method": "single_model", "members": 3}}, "expected 1 for a single model"),
        ({"format": "exe"}, "format"),
        ({"code": "import os"}, "code"),
        ({"version": "other"}, "it is the manifest of air@other"),
    ],
)
def test_a_manifest_that_cannot_be_is_refused_with_what_is_wrong(tmp_path: Path, change: Any, told: str) -> None:
    version = written(tmp_path).version
    path = tmp_path / "air" / version / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ModelIntegrity, match=told):
        interface(tmp_path).model(version)


def test_a_manifest_says_everything_that_is_wrong_at_once() -> None:
    with pytest.raises(InvalidManifest, match=r"(?s)classes.*feature_spec"):
        ModelManifest.read('{"model": "air", "classes": 3, "feature_spec": 7}')
    assert Feature(path="sensor_readings_map.S.f|max").name == "sensor_readings_map.readings.S.f|max"


def test_a_file_that_is_no_onnx_model_is_refused(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    saved(tmp_path, "onnx", pickle.dumps(Canary(canary)))
    with pytest.raises(ModelIntegrity, match="it is no ONNX model"):
        interface(tmp_path).model()
    assert not canary.exists()


def test_an_onnx_model_of_another_shape_is_refused(tmp_path: Path) -> None:
    told = written(tmp_path / "a")
    data = (tmp_path / "a" / "air" / told.version / "model.onnx").read_bytes()
    saved(tmp_path / "b", "onnx", data, uncertainty=UncertaintyDeclaration(method="ensemble", members=5))
    with pytest.raises(ModelIntegrity, match="output 'members'"):
        interface(tmp_path / "b").model()


def test_operators_that_are_not_of_onnx_itself_are_refused(tmp_path: Path) -> None:
    node = helper.make_node("Anything", ["features"], ["members"], domain="com.example")
    ports = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", *shape])
        for name, shape in (("features", [4]), ("members", [1, 3]))
    ]
    model = helper.make_model(
        helper.make_graph([node], "g", ports[:1], ports[1:]), opset_imports=[helper.make_opsetid("com.example", 1)]
    )
    saved(tmp_path, "onnx", model.SerializeToString())
    with pytest.raises(UnsupportedModelFormat, match="operators of the domain"):
        interface(tmp_path).model()


@pytest.mark.parametrize(("kind", "module"), [("onnx", "onnxruntime"), ("skops", "skops.io"), ("keras", "keras")])
def test_without_its_library_a_format_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    data = _archive() if kind == "keras" else b"anything"
    saved(tmp_path, kind, data)
    with pytest.raises(UnsupportedModelFormat, match=r'not installed here: pip install "uqueue\['):
        interface(tmp_path).model()


def _archive() -> bytes:
    """Return a Keras archive that is harmless, and of no use."""
    weights = io.BytesIO()
    with h5py.File(weights, "w"):
        pass
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("config.json", '{"class_name": "Sequential", "config": {"layers": []}}')
        archive.writestr("metadata.json", "{}")
        archive.writestr("model.weights.h5", weights.getvalue())
    return packed.getvalue()
