"""The store swaps only for the better, and can always say how it stands."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from builders.artifacts import mqnn_h5_bytes, write_state_pickle, write_workspace
from uqueue_config.errors import ModelNotAvailable, ModelNotConfigured
from uqueue_config.ledger import Wish
from uqueue_worker.artifacts import ArtifactCache, LocalFilesystemProvider
from uqueue_worker.models.store import LoadOptions, ModelState, ModelStore


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "workspace"


@pytest.fixture
def cache(tmp_path: Path) -> ArtifactCache:
    return ArtifactCache(tmp_path / "cache")


def make_store(root: Path, cache: ArtifactCache, **options: bool) -> ModelStore:
    return ModelStore("mccp-uq", LocalFilesystemProvider(root), cache, LoadOptions(**options))  # type: ignore[arg-type]


def replace(root: Path, *, model: bytes | None = None, state: bytes | None = None) -> None:
    if model is not None:
        (root / "models/mccp-uq/model.h5").write_bytes(model)
    if state is not None:
        (root / "state/mccp-uq/mccp_state.pkl").write_bytes(state)


def test_the_states_of_a_first_start(root: Path, cache: ArtifactCache) -> None:
    store = ModelStore("mccp-uq", None, cache, LoadOptions())
    store.start(None)
    assert store.state is ModelState.NOT_CONFIGURED
    with pytest.raises(ModelNotConfigured):
        store.serve(None)

    store = make_store(root, cache)
    store.start(None)
    assert store.state is ModelState.NO_MODEL
    with pytest.raises(ModelNotAvailable, match=r"model\.h5"):
        store.serve(None)

    write_workspace(root, model=b"junk that is no model")
    store.start(None)
    assert store.state is ModelState.INVALID
    assert "model.h5" in (store.reason or "")

    write_workspace(root)
    store.start(None)
    assert (store.state, store.reason) == (ModelState.READY, None)
    assert store.serve(None).n_features == 8


@pytest.mark.parametrize("refuse", [False, True])
def test_a_stale_pair_at_start(refuse: bool, root: Path, cache: ArtifactCache) -> None:
    _, state = write_workspace(root)
    os.utime(state, (1_000_000_000, 1_000_000_000))
    store = make_store(root, cache, refuse_stale=refuse)
    store.start(None)
    if refuse:
        assert store.state is ModelState.INVALID
        assert "calibration is older" in (store.reason or "")
    else:
        assert store.state is ModelState.STALE
        assert "stale calibration" in store.serve(None).predict([[0.0] * 8], seed=1).warnings[0]


def test_examine_reports_what_it_found(root: Path, cache: ArtifactCache) -> None:
    write_workspace(root)
    store = make_store(root, cache)
    assert store.examine().outcome == "moved"
    first = store.version
    assert store.examine().outcome == "unchanged"

    replace(root, model=mqnn_h5_bytes(seed=5))
    found = store.examine()
    assert (found.outcome, store.version) == ("rejected", first)
    assert "calibration" in (found.reason or "")

    replace(root, state=write_state_pickle(q_hat=3.0))
    assert store.examine().outcome == "moved"
    second = store.version
    assert second != first

    replace(root, state=write_state_pickle(q_hat=4.0))
    assert store.examine().outcome == "moved", "a new calibration of the same model"

    replace(root, state=b"\x80\x04cos\nsystem\n(S'true'\ntR.")
    assert "os.system" in (store.examine().reason or "")

    (root / "models/mccp-uq/model.h5").unlink()
    assert store.examine().outcome == "missing"
    assert store.artifacts_missing
    assert store.state is ModelState.READY


def test_another_process_gets_the_wanted_version_from_the_cache(root: Path, cache: ArtifactCache) -> None:
    write_workspace(root)
    store = make_store(root, cache)
    store.start(None)
    wanted = store.version
    replace(root, model=b"half a mo")
    late = make_store(root, cache)
    late.start(Wish(wanted or ""))
    assert late.version == wanted


def test_an_old_wish_moves_nothing_back_and_a_new_one_does(root: Path, cache: ArtifactCache) -> None:
    write_workspace(root)
    store = make_store(root, cache)
    store.start(None)
    first = store.version or ""
    assert store.follow(Wish(first, 10))
    replace(root, state=write_state_pickle(q_hat=3.0))
    assert store.examine(20).outcome == "moved"
    second = store.version
    assert store.serve(Wish(first, 10)).identity.version == second, "a job that was claimed before the move"
    assert store.serve(Wish(first, 30)).identity.version == first, "it is rolled back"
    assert store.serve(Wish(second or "", 20)).identity.version == first


def test_a_version_that_cannot_be_had_changes_nothing(root: Path, cache: ArtifactCache) -> None:
    write_workspace(root)
    store = make_store(root, cache)
    store.start(Wish("0" * 16))
    served = store.version
    assert served is not None
    assert store.follow(Wish("f" * 16)) is False
    assert store.version == served
    assert "neither at the source nor in the cache" in (store.reason or "")


def test_a_cache_that_cannot_be_written_does_not_keep_a_model_from_serving(root: Path, tmp_path: Path) -> None:
    write_workspace(root)
    (tmp_path / "file").write_text("in the way")
    store = make_store(root, ArtifactCache(tmp_path / "file"))
    store.start(None)
    assert store.state is ModelState.READY


def test_a_model_on_demand_that_is_not_loaded_is_woken_by_jobs_alone(root: Path, cache: ArtifactCache) -> None:
    write_workspace(root)
    store = ModelStore("mccp-uq", LocalFilesystemProvider(root), cache, LoadOptions(), on_demand=True)
    assert store.examine(1).outcome == "moved"
    wish = Wish(store.version or "", 1)
    store.unload()
    assert store.follow(wish, wake=False)
    assert (store.model, store.state) == (None, ModelState.UNLOADED)
    assert store.serve(wish).identity.version == wish.version
