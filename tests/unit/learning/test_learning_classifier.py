"""A classifier of the catalog: its folder of versions, its checks, what it answers and how that travels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from builders.ensembles import CLASSES, FEATURES, NAME, members_of, point, tiny_ensemble, write_version
from builders.onnx_models import model_bytes
from uqueue_config.answers import read_answer
from uqueue_config.catalog import Catalog
from uqueue_config.classification import Classification
from uqueue_config.errors import (
    ArtifactMismatch,
    InvalidDeclaration,
    InvalidFeatures,
    InvalidMessage,
    ModelInvalid,
    ModelNotAvailable,
    SettingsError,
    UnsafeArtifact,
)
from uqueue_config.settings import Settings
from uqueue_config.sources import VersionsFolder, parse_versions_folder
from uqueue_worker.artifacts.cache import ArtifactCache
from uqueue_worker.artifacts.classifier_folder import ClassifierFolder
from uqueue_worker.artifacts.onnx_child import try_ensemble
from uqueue_worker.classification import Classifier, classifier, load_classifier
from uqueue_worker.classification.classifier import EnsembleShape
from uqueue_worker.learning.uncertainty import uncertainties

SHAPE = EnsembleShape(len(FEATURES), 5, len(CLASSES))


def folder(root: Path, version: str = "@production") -> ClassifierFolder:
    return ClassifierFolder(VersionsFolder(root, version), NAME)


def rows(count: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(size=(count, len(FEATURES))).astype(np.float32)


@pytest.fixture
def loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Classifier:
    monkeypatch.setattr(classifier, "probe_ensemble", lambda data, shape, *, file: None)
    write_version(tmp_path, aliases=["production"])
    return load_classifier(folder(tmp_path).load())


def test_probabilities_are_means_and_uncertainty_is_that_of_the_library(loaded: Classifier) -> None:
    table = rows(300)
    found = loaded.predict(table)
    members = members_of(table)
    assert found.probabilities == pytest.approx(members.mean(axis=1), abs=1e-6)
    assert found.probabilities.sum(axis=1) == pytest.approx(np.ones(300), abs=1e-12)
    expected = uncertainties(members.transpose(1, 0, 2))
    for part in ("total", "epistemic", "aleatoric", "disagreement"):
        assert getattr(found, part) == pytest.approx(getattr(expected, part), abs=1e-6)
    assert (found.method, found.model_version, found.classes) == ("ensemble:5", "1", CLASSES)
    assert found.labels == [CLASSES[number] for number in members.mean(axis=1).argmax(axis=1)]


def test_an_answer_has_the_same_bytes_alone_and_in_company(loaded: Classifier) -> None:
    tables = [rows(size, seed) for seed, size in enumerate((128, 1, 7, 128))]
    together = loaded.predict_together(np.concatenate(tables), [len(table) for table in tables])
    for table, found in zip(tables, together, strict=True):
        assert isinstance(found, Classification)
        assert found.to_message("base64") == loaded.predict(table).to_message("base64")


def test_many_rows_are_run_part_by_part(loaded: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loaded.session, "_rows_per_run", 64)
    done: list[int] = []
    found = loaded.predict(rows(150), on_progress=done.append)
    assert done == [64, 128]
    assert found.probabilities == pytest.approx(members_of(rows(150)).mean(axis=1), abs=1e-6)


def test_scaling_is_what_the_manifest_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classifier, "probe_ensemble", lambda data, shape, *, file: None)
    write_version(tmp_path, preprocessing={"scaling": "standard"}, aliases=["production"])
    table = rows(5)
    found = load_classifier(folder(tmp_path).load()).predict(table)
    standard = (table.astype(np.float64) - 0.1) / 2.0
    assert found.probabilities == pytest.approx(members_of(standard).mean(axis=1), abs=1e-6)


def test_a_single_model_knows_its_total_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classifier, "probe_ensemble", lambda data, shape, *, file: None)
    write_version(tmp_path, members=1, aliases=["production"])
    found = load_classifier(folder(tmp_path).load()).predict(rows(3))
    assert found.method == "single_model"
    assert (found.epistemic, found.aleatoric, found.disagreement) == (None, None, None)
    again = Classification.from_message(json.loads(json.dumps(found.to_message())))
    assert again.epistemic is None
    assert (again.total == found.total).all()


def test_what_does_not_fit_the_model_is_refused(loaded: Classifier) -> None:
    with pytest.raises(InvalidFeatures, match="expected 4 columns, got 3"):
        loaded.predict([[0.0] * 3])
    with pytest.raises(InvalidFeatures, match="a classifier has no targets"):
        loaded.predict(rows(1), target_dim=2)


@pytest.mark.parametrize("encoding", ["lists", "base64"])
def test_a_message_carries_every_number_exactly(loaded: Classifier, encoding: Any) -> None:
    found = loaded.predict(rows(128))
    text = json.dumps(found.to_message(encoding))
    again = read_answer(json.loads(text))
    assert isinstance(again, Classification)
    for name in ("probabilities", "total", "epistemic", "aleatoric", "disagreement"):
        assert getattr(again, name).tobytes() == getattr(found, name).tobytes()
    assert (again.model, again.classes, again.method) == (found.model, found.classes, found.method)
    assert len(text) < 64 * 1024


@pytest.mark.parametrize(
    "damage",
    [
        {"schema": 2},
        {"kind": "intervals"},
        {"total": None},
        {"total": [0.5]},
        {"classes": ["A", "B"]},
        {"probabilities": {"dtype": "<f8", "shape": [2, 3], "data": "AAAA"}},
        {"model": None},
    ],
)
def test_a_message_that_is_none_is_refused(loaded: Classifier, damage: dict[str, Any]) -> None:
    with pytest.raises(InvalidMessage):
        Classification.from_message(loaded.predict(rows(2)).to_message() | damage)


def test_an_alias_names_the_version_to_serve(tmp_path: Path) -> None:
    write_version(tmp_path, "1", aliases=["production", "latest"])
    write_version(tmp_path, "2", seed=1, aliases=["latest"])
    production, latest, first = folder(tmp_path), folder(tmp_path, "@latest"), folder(tmp_path, "1")
    assert production.version() == first.version() != latest.version()
    assert production.get_model_path() == tmp_path / NAME / "1" / "model.onnx"
    before = production.version()
    point(tmp_path, "production", "2")
    assert production.version() == latest.version() == production.load().version
    assert production.fetch(before) == first.load()
    assert production.fetch("0" * 16) is None
    (tmp_path / NAME / "aliases.json").unlink()
    write_version(tmp_path, "0", seed=2, created="2026-04-01T00:00:00Z")
    assert latest.version() == folder(tmp_path, "0").version(), "where no alias says so, the one that was made last"
    found = production.fetch(before)
    assert found is not None
    assert found.version == before


def test_a_version_survives_in_the_cache(tmp_path: Path) -> None:
    write_version(tmp_path / "models", aliases=["production"])
    pair = folder(tmp_path / "models").load()
    cache = ArtifactCache(tmp_path / "cache")
    cache.put(pair)
    assert cache.get(NAME, pair.version) == pair
    assert sorted(path.name for path in cache.place(NAME, pair.version).iterdir()) == [
        "manifest.json",
        "model.onnx",
        "pair.json",
    ]


@pytest.mark.parametrize(
    ("aliases", "error", "said"),
    [
        (None, ModelNotAvailable, r"aliases\.json is missing"),
        ({"latest": "1"}, ModelNotAvailable, "the alias production in .* is missing"),
        ({"production": "../1"}, ModelInvalid, "which is no version"),
        ({"production": "/etc"}, ModelInvalid, "which is no version"),
        ({"production": 1}, ModelInvalid, "which is no version"),
        ({"production": "7"}, ModelNotAvailable, r"7/model\.onnx and .*7/manifest\.json is missing"),
        ([1], ModelInvalid, "no JSON object of aliases"),
        ("{", ModelInvalid, "no JSON object of aliases"),
    ],
)
def test_aliases_that_name_no_version(tmp_path: Path, aliases: Any, error: type[Exception], said: str) -> None:
    write_version(tmp_path)
    if aliases is not None:
        text = aliases if isinstance(aliases, str) else json.dumps(aliases)
        (tmp_path / NAME / "aliases.json").write_text(text)
    with pytest.raises(error, match=said):
        folder(tmp_path).load()


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"sha256": "0" * 64}, ArtifactMismatch, "its sha256 is"),
        ({"classes": CLASSES[:2]}, ModelInvalid, r"output 'members' .* expected float32 \[batch, 5, 2\]"),
        ({"uncertainty": {"method": "ensemble", "members": 6}}, ModelInvalid, r"expected float32 \[batch, 6, 3\]"),
        ({"feature_spec": [{"path": "a"}]}, ModelInvalid, r"input 'features' .* expected float32 \[batch, 1\]"),
        ({"format": "pickle", "file": "model.pkl"}, InvalidDeclaration, "workers serve the format onnx"),
        ({"file": "other.onnx"}, InvalidDeclaration, r"in model\.onnx; it names onnx, in other\.onnx"),
        ({"version": "9"}, InvalidDeclaration, "it is that of airguard 9, and lies in airguard/1"),
        ({"model": "other"}, InvalidDeclaration, "it is that of other 1"),
        ({"classes": None}, InvalidDeclaration, "classes"),
        ({"classes": ["A", "A"]}, InvalidDeclaration, "every class once"),
        ({"surprise": 1}, InvalidDeclaration, "surprise"),
    ],
)
def test_a_manifest_that_is_not_the_models_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], error: type[Exception], said: str
) -> None:
    monkeypatch.setattr(classifier, "probe_ensemble", lambda data, shape, *, file: None)
    model = tiny_ensemble()
    target = write_version(tmp_path, model=model, aliases=["production"])
    manifest = json.loads((target / "manifest.json").read_text()) | changes
    (target / "manifest.json").write_text(json.dumps({k: v for k, v in manifest.items() if v is not None}))
    with pytest.raises(error, match=said):
        load_classifier(folder(tmp_path).load())


def simple(*nodes: Any, **parts: Any) -> bytes:
    inputs = parts.pop("inputs", {"features": ["batch", SHAPE.features]})
    outputs = parts.pop("outputs", {"members": ["batch", SHAPE.members, SHAPE.classes]})
    return model_bytes(list(nodes), parts, inputs, outputs)


def constant_members(*values: float) -> bytes:
    """Return a model that gives every member these probabilities."""
    from onnx import helper

    return simple(
        helper.make_node("MatMul", ["features", "nothing"], ["zero"]),
        helper.make_node("Reshape", ["zero", "shape"], ["zeros"]),
        helper.make_node("Add", ["zeros", "values"], ["members"]),
        nothing=np.zeros((SHAPE.features, SHAPE.members * SHAPE.classes), np.float32),
        shape=np.array([-1, SHAPE.members, SHAPE.classes], np.int64),
        values=np.array(values, np.float32),
    )


def test_models_that_answer_no_probabilities_are_refused() -> None:
    from onnx import helper

    softmax = helper.make_node("Softmax", ["features"], ["members"], axis=-1)
    refusals = {
        "holds what is no probability": constant_members(-0.5, 1.0, 0.5),
        "do not sum to 1": constant_members(0.5, 0.25, 0.125),
        "is no probability": constant_members(float("nan"), 0.5, 0.5),
        "expected an output members; it has probabilities": simple(
            helper.make_node("Softmax", ["features"], ["probabilities"], axis=-1), outputs={"probabilities": [2, 3]}
        ),
        "expected one input, features; it has table": simple(
            helper.make_node("Softmax", ["table"], ["members"], axis=-1), inputs={"table": ["batch", 4]}
        ),
        "has a batch axis of 8": simple(softmax, inputs={"features": [8, 4]}),
        r"a trial run of 1 rows failed|expected float32 \[batch, 5, 3\]": simple(
            softmax, outputs={"members": ["batch", 4]}
        ),
    }
    for said, data in refusals.items():
        with pytest.raises(ModelInvalid, match=said):
            try_ensemble(data, SHAPE, file="model.onnx")
    try_ensemble(constant_members(0.25, 0.25, 0.5), SHAPE, file="model.onnx")


def test_a_hostile_file_is_refused_before_it_is_loaded(tmp_path: Path) -> None:
    """By the process of its own, through the checks that all ONNX files pass."""
    import onnx
    from onnx import TensorProto

    model = onnx.load_from_string(tiny_ensemble())
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    write_version(tmp_path, model=model.SerializeToString(), aliases=["production"])
    with pytest.raises(UnsafeArtifact, match="another file for its weights"):
        load_classifier(folder(tmp_path).load())


@pytest.mark.parametrize("text", ["models", "/m?version=", "/m?alias=x", "/m?version=../x", "/m?version=@", "s3://b/m"])
def test_sources_that_are_no_folder_of_versions(text: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"classifiers .* come from a folder of versions"):
        parse_versions_folder(text)
    (tmp_path / "models.toml").write_text(f'[models.{NAME}]\nengine = "onnx-classifier"\nsource = "/m?version=.."\n')
    with pytest.raises(SettingsError, match="folder of versions"):
        Catalog.load(Settings(models=tmp_path / "models.toml"))


def test_the_catalog_knows_classifiers(tmp_path: Path) -> None:
    assert str(parse_versions_folder("/m?version=@latest")) == "/m?version=@latest"
    path = tmp_path / "models.toml"
    path.write_text(f'[models.{NAME}]\nengine = "onnx-classifier"\n')
    spec = Catalog.load(Settings(models=path, workspace_root=tmp_path)).models[NAME]
    assert spec.source == str(tmp_path), "so that the name of a version can be added"
    path.write_text(f'[models.{NAME}]\nengine = "onnx-classifier"\nsource = "/m"\nshadow = {{source = "/n"}}\n')
    with pytest.raises(SettingsError, match=r"a classifier .* has none; use a canary"):
        Catalog.load(Settings(models=path))
