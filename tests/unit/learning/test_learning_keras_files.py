"""Keras files as classifiers: the archive and the legacy file, passes with dropout, and code that never runs."""

from __future__ import annotations

import hashlib
import io
import json
import warnings
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from builders.learning_models import CLASSES, FEATURES, samples
from uqueue_config.learning.model_manifest import ModelManifest, UncertaintyDeclaration
from uqueue_worker.learning.errors import ModelIntegrity, UnsupportedModelFormat
from uqueue_worker.learning.models.features import FeatureSpec, feature_matrix
from uqueue_worker.learning.models.local import LocalModelInterface
from uqueue_worker.learning.models.writing import write_version

PASSES = UncertaintyDeclaration(method="mc_dropout", members=8)
MATRIX, _ = feature_matrix(samples(40), FeatureSpec(FEATURES))


def network(*layers: Any) -> Any:
    import keras

    keras.utils.set_random_seed(0)
    kinds = keras.layers
    return keras.Sequential(
        [
            keras.Input((4,)),
            kinds.Rescaling(0.02),
            kinds.Dense(8, "relu"),
            *layers,
            kinds.Dropout(0.4),
            kinds.Dense(3, "softmax"),
        ]
    )


def data_of(model: Any, folder: Path, ending: str) -> bytes:
    path = folder / f"saved.{ending}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save(path)
    return path.read_bytes()


def interface(folder: Path, data: bytes, kind: Any, uncertainty: UncertaintyDeclaration) -> LocalModelInterface:
    manifest = ModelManifest(
        model="net",
        version="1",
        format=kind,
        file=f"model.{kind}",
        sha256=hashlib.sha256(data).hexdigest(),
        created=datetime.now(UTC),
        classes=CLASSES,
        feature_spec=FEATURES,
        uncertainty=uncertainty,
    )
    write_version(folder / "models", manifest, data)
    return LocalModelInterface(root=folder / "models", name="net")


@pytest.mark.parametrize("kind", ["keras", "h5"])
def test_a_network_answers_as_keras_does(tmp_path: Path, kind: str) -> None:
    model = network()
    held = interface(tmp_path, data_of(model, tmp_path, kind), kind, UncertaintyDeclaration())
    found = held.predict(dataset=samples(40), model_version_tag=None)
    assert found.probabilities is not None
    assert np.abs(found.probabilities - model(MATRIX, training=False).numpy()).max() < 1e-6
    assert (found.uncertainty_method, found.epistemic) == ("single_model", None)


def test_passes_with_dropout_are_members_and_the_same_ones_every_time(tmp_path: Path) -> None:
    held = interface(tmp_path, data_of(network(), tmp_path, "keras"), "keras", PASSES)
    first, second = (held.predict(dataset=samples(40), model_version_tag=None) for _ in range(2))
    assert first.uncertainty_method == "mc_dropout:8"
    assert first.epistemic is not None
    assert first.epistemic.max() > 0.01
    assert np.array_equal(first.probabilities, second.probabilities)  # type: ignore[arg-type]


def test_normalisation_over_batches_takes_no_part_in_passes(tmp_path: Path) -> None:
    import keras

    data = data_of(network(keras.layers.BatchNormalization()), tmp_path, "keras")
    with pytest.raises(UnsupportedModelFormat, match="BatchNormalization would take part"):
        interface(tmp_path, data, "keras", PASSES).model()


def repacked(data: bytes, change: Callable[[dict[str, bytes]], None]) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return packed.getvalue()


def test_code_and_classes_in_an_archive_are_refused(tmp_path: Path) -> None:
    import keras

    canary = tmp_path / "canary"
    with_code = data_of(network(keras.layers.Lambda(lambda values: values)), tmp_path, "keras")
    with pytest.raises(UnsupportedModelFormat, match="Lambda"):
        interface(tmp_path / "a", with_code, "keras", UncertaintyDeclaration()).model()

    def hostile(members: dict[str, bytes]) -> None:
        config = json.loads(members["config.json"])
        called = {"module": "builtins", "class_name": "open", "config": {"file": str(canary), "mode": "w"}}
        config["config"]["layers"].append({**called, "registered_name": None})
        members["config.json"] = json.dumps(config).encode()

    data = repacked(data_of(network(), tmp_path, "keras"), hostile)
    with pytest.raises(UnsupportedModelFormat, match="open"):
        interface(tmp_path / "b", data, "keras", UncertaintyDeclaration()).model()
    assert not canary.exists()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda members: members.update({"assets/x.bin": b"1"}), "other members"),
        (lambda members: members.pop("metadata.json"), "other members"),
        (lambda members: members.update({"config.json": b"no JSON"}), "not JSON"),
        (lambda members: members.update({"model.weights.h5": b"no HDF5"}), "weights are damaged"),
    ],
)
def test_a_damaged_archive_is_refused(tmp_path: Path, change: Any, told: str) -> None:
    data = repacked(data_of(network(), tmp_path, "keras"), change)
    with pytest.raises(ModelIntegrity, match=told):
        interface(tmp_path, data, "keras", UncertaintyDeclaration()).model()


def test_what_is_no_archive_and_what_is_no_ensemble_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelIntegrity, match=r"it is no \.keras archive"):
        interface(tmp_path / "a", b"bytes", "keras", UncertaintyDeclaration()).model()
    several = UncertaintyDeclaration(method="ensemble", members=3)
    with pytest.raises(UnsupportedModelFormat, match="save an ensemble as ONNX"):
        interface(tmp_path / "b", data_of(network(), tmp_path, "keras"), "keras", several).model()
