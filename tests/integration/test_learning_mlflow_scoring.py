"""The dialect `mlflow` against MLflow's own scoring server, with a forest that was trained and written here."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from builders.classifier_samples import CLASSES, FEATURES, samples
from builders.close_json import assert_close
from builders.scoring_server import MODULE, ONNX, scoring_servers, write_mlmodel
from uqueue_config.learning.model_manifest import ModelManifest
from uqueue_worker.learning.errors import EndpointContract, ModelVersionNotFound
from uqueue_worker.learning.models.local import LocalModelInterface
from uqueue_worker.learning.models.rest import ApiBasedModelInterface, Endpoint
from uqueue_worker.learning.models.training import ForestSettings, train
from uqueue_worker.learning.models.writing import write_forest

DATA = samples(600)
NOT_COMPARED = {"duration_seconds": None, "evaluated_at_utc": None}


@dataclass
class Served:
    local: LocalModelInterface
    manifest: ModelManifest
    tensors: str
    tables: str

    def api(self, url: str, **about: Any) -> ApiBasedModelInterface:
        endpoint = Endpoint(
            base_url=url, model="airguard", dialect="mlflow", **{"version": self.manifest.version, **about}
        )
        return ApiBasedModelInterface(endpoint, manifest=self.manifest)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    root = tmp_path_factory.mktemp("models")
    fitted = train(samples(300, seed=2), FEATURES, CLASSES, seed=1, settings=ForestSettings(n_estimators=15))
    manifest = write_forest(root, "airguard", fitted)
    folder = root / "airguard" / manifest.version
    copies: list[Path] = []
    for name, flavors in (("tensors", ONNX), ("tables", MODULE)):
        (root / name).mkdir()
        shutil.copy(folder / "model.onnx", root / name)
        copies.append(write_mlmodel(root / name, flavors))
    with scoring_servers(*copies) as urls:
        yield Served(LocalModelInterface(root=root, name="airguard"), manifest, *urls)


def test_members_through_mlflows_onnx_flavor(served: Served) -> None:
    there = served.api(served.tensors, input_name="features")
    found = there.get_model_performance_feedback(DATA, None)
    expected = served.local.get_model_performance_feedback(DATA, None)
    assert found.model_version_evaluated == expected.model_version_evaluated == served.manifest.reference
    assert found.uncertainty_method == "ensemble:15"
    assert_close(*({**one.to_message(), **NOT_COMPARED} for one in (found, expected)))
    assert there.health()["server"].startswith("mlflow 3.")


def test_probabilities_of_named_columns(served: Served) -> None:
    found = served.api(served.tables).predict(DATA, None)
    expected = served.local.predict(DATA, None)
    assert np.abs(found.probabilities - expected.probabilities).max() < 1e-6
    assert np.abs(found.total - expected.total).max() < 1e-6
    assert (found.epistemic, found.uncertainty_method) == (None, "single_model")


def test_what_mlflow_refuses_is_told_in_its_words(served: Served) -> None:
    dry = [{**one, "sample_metadata": {"U21_SHT85__relative_humidity_percent": -1.0}} for one in DATA[:3]]
    with pytest.raises(EndpointContract, match="status 400: BAD_REQUEST: Encountered an unexpected error"):
        served.api(served.tables).predict(dry, None)
    with pytest.raises(EndpointContract, match="no output nothing among members"):
        served.api(served.tensors, input_name="features", output_name="nothing").predict(DATA[:3], None)
    with pytest.raises(ModelVersionNotFound):
        served.api(served.tensors).predict(DATA[:3], "another")
