"""The REST dialects against the servers that they are made for: `make test-servers`, which downloads those servers.

MLServer, KServe's Python server and NVIDIA's Triton serve one small classifier of fourteen features.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from builders.close_json import assert_close
from builders.waiting import eventually
from servers.served.ensemble import Ensemble
from servers.starting import ModelServer, environment, model_server
from uqueue_config.learning.feedback import ModelPerformanceData
from uqueue_config.learning.model_manifest import ModelManifest
from uqueue_worker.learning.demo.drawing import draw
from uqueue_worker.learning.demo.story import CLASSES, FEATURE_SPEC
from uqueue_worker.learning.errors import (
    EndpointContract,
    EndpointUnavailable,
    ModelNotFound,
    ModelVersionNotFound,
)
from uqueue_worker.learning.models.features import FeatureSpec
from uqueue_worker.learning.models.in_process import function_model
from uqueue_worker.learning.models.local import LocalModelInterface
from uqueue_worker.learning.models.predictions import Predictions
from uqueue_worker.learning.models.rest import ApiBasedModelInterface, Endpoint
from uqueue_worker.learning.models.rest.evaluations import UNSAID, Timing
from uqueue_worker.learning.models.sample_table import read_table

pytestmark = pytest.mark.timeout(600)
DATA = draw(600, seed=11)
VERSIONS = ("6", "7")
NOT_COMPARED = ("duration_seconds", "evaluated_at_utc", "warnings", "model_version_evaluated")
SPLIT = ("epistemic_uncertainty_score", "aleatoric_uncertainty_score", "disagreement_score")


class Way(NamedTuple):
    """A server and how it is spoken to; `said` is the version that its answers name."""

    kind: str
    dialect: str
    said: str
    versioned: bool


WAYS = {
    "mlserver": Way("mlserver", "oip_v2", "7", True),
    "triton": Way("triton", "oip_v2", "7", True),
    "kserve-v2": Way("kserve", "oip_v2", "unknown", False),
    "kserve-v1": Way("kserve", "tfserving", "unknown", False),
}


class Town:
    """All servers, the local model of each version, and their files."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.files = [write_weights(folder / f"{version}.npz", int(version)) for version in VERSIONS]
        self.local = {file.stem: local(file) for file in self.files}
        self.manifest: ModelManifest = self.local["7"].model().manifest
        kinds = sorted({way.kind for way in WAYS.values()})
        pythons = {kind: stack.enter_context(environment(kind)) for kind in kinds}
        self.servers: dict[str, ModelServer] = {
            kind: stack.enter_context(model_server(kind, python, self.files, CLASSES))
            for kind, python in pythons.items()
        }

    def api(self, way: Way, manifest: ModelManifest | None = None, **settings: Any) -> ApiBasedModelInterface:
        timing = settings.pop("timing", None)
        about = {"model": "airguard", **settings}
        endpoint = Endpoint(base_url=self.servers[way.kind].url, dialect=way.dialect, **about)
        return ApiBasedModelInterface(endpoint, manifest=manifest or self.manifest, timing=timing)


def write_weights(file: Path, seed: int) -> Path:
    """Write an ensemble of drawn layers over columns as the data have them."""
    spec = FeatureSpec.of(function_model(np.asarray, CLASSES, FEATURE_SPEC).manifest)
    columns = read_table(DATA, spec, identifier="data", label=None).matrix.astype(np.float64)
    draws = np.random.default_rng(seed)
    weights = draws.normal(size=(5, len(FEATURE_SPEC), len(CLASSES)))
    offsets = draws.normal(size=(5, 1, len(CLASSES)))
    np.savez(file, weights=weights, offsets=offsets, mean=columns.mean(axis=0), std=columns.std(axis=0) + 1e-3)
    return file


def local(file: Path) -> LocalModelInterface:
    members = Ensemble(file).members
    model = function_model(members, CLASSES, FEATURE_SPEC, members=5, name="airguard", version=file.stem)
    return LocalModelInterface.of(model)


def with_wind(sample: dict[str, Any], wind: float | None) -> dict[str, Any]:
    return {**sample, "sample_metadata": {**sample["sample_metadata"], "U24_FT205__wind_speed_mps": wind}}


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    with ExitStack() as stack:
        yield Town(tmp_path_factory.mktemp("weights"), stack)


@pytest.fixture(params=list(WAYS))
def way(request: pytest.FixtureRequest) -> Way:
    return WAYS[request.param]


def compared(feedback: ModelPerformanceData, *, split: bool) -> dict[str, Any]:
    """Return a message without what no two evaluations share, and without what only members tell unless `split`."""
    message = {name: value for name, value in feedback.to_message().items() if name not in NOT_COMPARED}
    if not split:
        message["uncertainty_method"] = "single_model"
        for one in [*message["uncertain_samples"], *message["misclassified_samples"]]:
            one |= dict.fromkeys(SPLIT)
    return message


def test_they_say_what_the_local_interface_says(town: Town, way: Way) -> None:
    expected = town.local["7"].get_model_performance_feedback(DATA, None)
    found = town.api(way).get_model_performance_feedback(DATA, None)
    split = way.dialect == "oip_v2"
    assert_close(compared(found, split=split), compared(expected, split=split))
    assert found.model_version_evaluated == f"airguard@{way.said}"
    assert (UNSAID in found.warnings) == (way.said == "unknown")
    assert found.misclassified_samples[0].sample_features_summary is not None


@pytest.mark.parametrize("batch_rows", [1, 7, 256])
def test_batches_of_any_size(town: Town, way: Way, batch_rows: int) -> None:
    data = DATA[:100] if batch_rows == 1 else DATA
    found = town.api(way, batch_rows=batch_rows).predict(data, None)
    assert np.abs(found.probabilities - town.local["7"].predict(data, None).probabilities).max() < 1e-6


def test_ten_thousand_samples(town: Town, way: Way) -> None:
    data = [{**one, "sample_id": f"{one['sample_id']}-{turn}"} for turn in range(17) for one in DATA]
    began = time.monotonic()
    found = town.api(way).predict(data, None)
    print(f"{way.kind} {way.dialect}: {len(data)} samples in {time.monotonic() - began:.1f} s")
    assert np.abs(found.probabilities - town.local["7"].predict(data, None).probabilities).max() < 1e-6


def test_versions(town: Town, way: Way) -> None:
    there = town.api(way)
    assert there.list_versions() == (["7"] if way.kind == "triton" else [])  # MLServer's metadata name none
    if not way.versioned:
        refused = EndpointContract if way.dialect == "oip_v2" else ModelVersionNotFound
        with pytest.raises(refused, match=r"has no version 7|versioning not supported yet"):
            there.predict(DATA[:5], "7")
        return
    for version in VERSIONS if way.kind == "mlserver" else ["7"]:
        found = there.predict(DATA, version)
        assert found.model_version == f"airguard@{version}"
        assert np.abs(found.probabilities - town.local[version].predict(DATA, None).probabilities).max() < 1e-6
    for version in ("99", "production"):
        with pytest.raises(ModelVersionNotFound, match=f"airguard has no version {version}"):
            there.predict(DATA[:5], version)


def test_health(town: Town, way: Way) -> None:
    assert town.api(way).health()["status"] == "ok"
    other = town.api(way, model="nobody").health()
    assert (other["status"], other["error_code"]) == ("failing", "model_not_found")
    strange = town.api(way, version="99").health()
    refused = "endpoint_contract" if way == WAYS["kserve-v2"] else "model_version_not_found"
    assert (strange["status"], strange["error_code"]) == ("failing", refused)
    if way.versioned:
        assert town.api(way, version="7").health()["status"] == "ok"


def test_what_they_refuse_is_told_in_their_words(town: Town, way: Way) -> None:
    with pytest.raises(ModelNotFound, match="nobody"):
        town.api(way, model="nobody").predict(DATA[:5], None)
    narrow = town.manifest.model_copy(update={"feature_spec": town.manifest.feature_spec[:13]})
    error, words = {
        "triton": (EndpointContract, r"status 400.*Expected \[-1,14\], got \[5,13\]"),
        "kserve": (EndpointUnavailable, "status 500: ValueError : operands could not be broadcast"),
        "mlserver": (EndpointUnavailable, "status 500"),
    }[way.kind]
    with pytest.raises(error, match=words):
        town.api(way, narrow).predict(DATA[:5], None)
    if way.dialect == "oip_v2":
        with pytest.raises(
            EndpointContract, match=r"no output other among members|unexpected inference output 'other'"
        ):
            town.api(way, output_name="other").predict(DATA[:5], None)
    assert town.api(way).predict(DATA[:5], None).probabilities is not None


def test_a_model_whose_answer_is_no_number(town: Town, way: Way) -> None:
    with pytest.raises(EndpointContract, match=r"finite numbers only|no JSON, or JSON with NaN"):
        town.api(way).predict([DATA[0], with_wind(DATA[1], -1.0)], None)


def test_a_reading_that_is_no_number_is_not_sent(town: Town, way: Way) -> None:
    data = [with_wind(DATA[number], wind) for number, wind in enumerate((float("nan"), float("inf"), 1e300, None))]
    found = town.api(way).predict([*data, *DATA[4:100]], None).probabilities
    expected = town.local["7"].predict([*data, *DATA[4:100]], None).probabilities
    assert np.abs(found - expected).max() < 1e-6


def test_a_server_that_ends_in_the_middle(town: Town, way: Way) -> None:
    with ended_in_the_middle(town, way, retries=0) as asked:
        with pytest.raises(EndpointUnavailable, match=r"no connection|the connection broke"):
            asked.result(60)
        down = town.api(way, retries=0).health()
        assert (down["status"], down["error_code"]) == ("failing", "endpoint_unavailable")


def test_a_server_that_comes_back_before_the_tries_are_used_up(town: Town, way: Way) -> None:
    back = threading.Event()

    async def until_it_is_back(seconds: float) -> None:
        await asyncio.to_thread(back.wait, 100)

    with ended_in_the_middle(town, way, retries=1, timing=Timing(sleep=until_it_is_back)) as asked:
        town.servers[way.kind].start()
        back.set()
        expected = town.local["7"].predict(DATA, None).probabilities
        assert np.abs(asked.result(60).probabilities - expected).max() < 1e-6


@contextmanager
def ended_in_the_middle(town: Town, way: Way, **settings: Any) -> Iterator[Future[Predictions]]:
    """Give the predictions of a server that was killed before it had answered half of the batches."""
    server, n_batches = town.servers[way.kind], -(-len(DATA) // 16)
    before = server.calls
    server.slow(True)
    there = town.api(way, batch_rows=16, concurrency=1, **settings)
    with ThreadPoolExecutor(1) as thread:
        try:
            asked = thread.submit(there.predict, DATA, None)
            eventually(lambda: server.calls > before + 5, "it is asked")
            server.kill()
            assert server.calls < before + n_batches // 2
            server.slow(False)
            yield asked
        finally:
            server.slow(False)
            if not server.runs:
                server.start()


def test_mlservers_own_runtime_for_scikit_learn(town: Town) -> None:
    members = Ensemble(town.files[-1]).members
    first = function_model(lambda rows: members(rows)[:, 0], CLASSES, FEATURE_SPEC, name="linear")
    expected = LocalModelInterface.of(first).predict(DATA, None)
    there = town.api(WAYS["mlserver"], first.manifest, model="linear", output_name="predict_proba")
    found = there.predict(DATA, None)
    assert np.abs(found.probabilities - expected.probabilities).max() < 1e-6
    assert found.model_version == "linear@unknown"
    labels = town.api(WAYS["mlserver"], first.manifest, model="linear").predict(DATA, None)
    assert (labels.labels, labels.probabilities) == (expected.labels, None)


def test_a_model_with_several_named_outputs(town: Town) -> None:
    expected = town.local["7"].predict(DATA, None).probabilities
    for settings in ({}, {"output_name": "probabilities"}):
        found = town.api(WAYS["kserve-v1"], model="named", **settings).predict(DATA, None)
        assert np.abs(found.probabilities - expected).max() < 1e-6
    with pytest.raises(EndpointContract, match="no output other among probabilities, scores"):
        town.api(WAYS["kserve-v1"], model="named", output_name="other").predict(DATA[:5], None)
