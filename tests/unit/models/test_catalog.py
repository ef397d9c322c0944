"""Which model answers a job: by name, share, version; and which of them stay loaded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from builders.artifacts import mqnn_h5_bytes, write_workspace
from uqueue_config.catalog import Catalog
from uqueue_config.errors import UnknownModel, VersionNotServed
from uqueue_config.messages import PredictRequest
from uqueue_config.settings import Settings
from uqueue_worker.artifacts import ArtifactCache, LocalFilesystemProvider
from uqueue_worker.models.catalog import ModelCatalog
from uqueue_worker.models.comparison import Comparisons
from uqueue_worker.models.store import LoadOptions, ModelState, ModelStore

FEATURES = np.zeros((1, 8), np.float32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with three workspaces, each of which holds models `a` and `b`."""
    for place, number in (("stable", 1), ("canary", 2), ("shadow", 3)):
        for name in ("a", "b"):
            write_workspace(tmp_path / place, model=mqnn_h5_bytes(seed=number, hidden=(4,)), name=name)
    return tmp_path


def models(folder: Path, text: str, memory_bytes: int | None = None) -> ModelCatalog:
    (folder / "models.toml").write_text(text.replace("FOLDER", str(folder)))
    catalog = Catalog.load(Settings.load({"UQUEUE_MODELS": str(folder / "models.toml")}))
    cache = ArtifactCache(folder / "cache")

    def open_store(spec, track, source):  # type: ignore[no-untyped-def]
        provider = LocalFilesystemProvider(source, spec.name)
        options = LoadOptions(engine="numpy")
        return ModelStore(spec.name, provider, cache, options, track=track, on_demand=spec.on_demand)

    found = ModelCatalog(catalog, open_store, memory_bytes)
    for store in found.stores.values():
        if not store.on_demand:
            store.start(None)
    return found


def request(model: str = "a", **options: str) -> PredictRequest:
    return PredictRequest.of(FEATURES, model, **options)  # type: ignore[arg-type]


CANARY = """
[models.a]
source = "FOLDER/stable"
canary = { source = "FOLDER/canary", share = 0.5 }
"""


def test_a_name_nobody_serves_is_refused(folder: Path) -> None:
    catalog = models(folder, CANARY)
    with pytest.raises(UnknownModel, match="mccp-uq"):
        catalog.serve(request("mccp-uq"), "job", {})
    with pytest.raises(UnknownModel):
        catalog.store("a@shadow")


def test_a_share_of_the_jobs_is_answered_by_the_canary_and_a_key_always_by_the_same(folder: Path) -> None:
    catalog = models(folder, CANARY)
    stable, canary = (catalog.stores[track].version for track in ("a", "a@canary"))
    served = [catalog.serve(request(), f"job-{number}", {}).model.identity.version for number in range(2000)]
    assert set(served) == {stable, canary}
    assert 900 < served.count(canary) < 1100, "4.5 standard deviations"
    same = {catalog.serve(request(sticky_key="robot 7"), f"job-{number}", {}).model for number in range(50)}
    assert len(same) == 1
    assert catalog.serve(request(version="canary"), "job", {}).model.identity.version == canary
    assert catalog.serve(request(version="stable"), "job", {}).model.identity.version == stable


def test_without_its_canary_the_stable_version_answers_all(folder: Path) -> None:
    (folder / "canary/models/a/model.h5").write_bytes(b"broken")
    catalog = models(folder, CANARY)
    served = {catalog.serve(request(), f"job-{number}", {}).model.identity.version for number in range(50)}
    assert served == {catalog.stores["a"].version}


def test_a_version_by_its_content_is_loaded_beside_the_one_that_serves(folder: Path) -> None:
    catalog = models(folder, CANARY)
    old = catalog.stores["a"].version
    assert old is not None
    write_workspace(folder / "stable", model=mqnn_h5_bytes(seed=9, hidden=(4,)), name="a")
    assert catalog.stores["a"].examine().outcome == "moved"
    assert catalog.serve(request(version=old), "job", {}).model.identity.version == old, "from the cache"
    assert catalog.serve(request(version="stable"), "job", {}).model.identity.version != old
    pinned = catalog.serve(request(version=old), "job", {}).model
    assert catalog.serve(request(version=old), "another", {}).model is pinned, "loaded once"
    for number in range(20):
        with pytest.raises(VersionNotServed):
            catalog.serve(request(version=f"{number:016x}"), "job", {})
    assert catalog.serve(request(version=old), "another", {}).model is pinned, "names that are none push nothing out"


@pytest.mark.parametrize("version", ["0" * 16, "@production", "2026-11-21"])
def test_a_version_that_cannot_be_had_is_a_sentence(folder: Path, version: str) -> None:
    with pytest.raises(VersionNotServed, match=f"Version {version} of model a cannot be had"):
        models(folder, CANARY).serve(request(version=version), "job", {})


def test_a_canary_that_is_not_there_is_a_sentence(folder: Path) -> None:
    with pytest.raises(VersionNotServed, match="the model has no canary"):
        models(folder, '[models.a]\nsource = "FOLDER/stable"').serve(request(version="canary"), "job", {})


def test_the_shadow_comes_with_the_stable_version_only(folder: Path) -> None:
    catalog = models(folder, CANARY + '\n[models.a.shadow]\nsource = "FOLDER/shadow"')
    served = catalog.serve(request(version="stable"), "job", {})
    assert served.shadow is catalog.stores["a@shadow"].model
    assert catalog.serve(request(version="canary"), "job", {}).shadow is None


def test_models_on_demand_are_loaded_by_their_first_job_and_make_room(folder: Path) -> None:
    on_demand = "".join(f'[models.{name}]\nsource = "FOLDER/stable"\nload = "on-demand"\n' for name in "ab")
    size = len(mqnn_h5_bytes(seed=1, hidden=(4,)))
    catalog = models(folder, on_demand, memory_bytes=size + 1)
    a, b = catalog.stores["a"], catalog.stores["b"]
    assert (a.state, b.state) == (ModelState.UNLOADED, ModelState.UNLOADED)
    first = catalog.serve(request("a"), "job", {}).model
    assert (a.state, b.state) == (ModelState.READY, ModelState.UNLOADED)
    catalog.serve(request("b"), "job", {})
    assert (a.state, b.state) == (ModelState.UNLOADED, ModelState.READY)
    again = catalog.serve(request("a"), "job", {}).model
    assert again.predict(FEATURES, seed=1).lower.tobytes() == first.predict(FEATURES, seed=1).lower.tobytes()
    assert (a.jobs_done, b.jobs_done) == (2, 1)


def test_an_eager_model_stays_whatever_the_limit(folder: Path) -> None:
    catalog = models(folder, CANARY, memory_bytes=1)
    catalog.make_room()
    assert catalog.stores["a"].state is ModelState.READY


def test_a_comparison_counts_what_differs(folder: Path) -> None:
    catalog = models(folder, CANARY + '\n[models.a.shadow]\nsource = "FOLDER/shadow"')
    served = catalog.serve(request(version="stable"), "job", {})
    assert served.shadow is not None
    table = np.random.default_rng(4).normal(size=(20, 8)).astype(np.float32)
    given, other = served.model.predict(table, seed=1), served.shadow.predict(table, seed=1)
    comparisons = Comparisons()
    comparisons.compare(3, served.model, given, served.shadow, lambda: other)
    comparisons.compare(1, served.model, given, served.shadow, lambda: 1 / 0)  # type: ignore[arg-type, return-value]
    [sums] = comparisons._sums.values()
    assert (sums.jobs, sums.failed, sums.rows) == (4, 1, 20)
    assert sums.midpoint == pytest.approx(np.abs(given.midpoint - other.midpoint).sum())
    assert sums.outside == ((other.midpoint < given.lower) | (other.midpoint > given.upper)).sum()
    assert sums.width == pytest.approx(given.width.sum())
