"""A candidate that does not stand up to its checks never serves; the old one does, and the store says why."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from builders.artifacts import mqnn_h5_bytes, write_state_pickle
from builders.calibrated import N_CALIBRATION, RULE, calibrated_workspace, draw_rows, right_q_hat
from uqueue_config.ledger import Wish
from uqueue_worker.artifacts import ArtifactCache, LocalFilesystemProvider
from uqueue_worker.models import load_interval_model
from uqueue_worker.models.checks import record_checks
from uqueue_worker.models.store import LoadOptions, ModelState, ModelStore

ROWS, LABELLED = draw_rows(20, seed=11), draw_rows(600, seed=12)
NEW = mqnn_h5_bytes(hidden=(4,), seed=5)


def write_checks(provider: LocalFilesystemProvider) -> None:
    """Write the checks of what is in the workspace now."""
    provider.get_checks_path().unlink(missing_ok=True)
    pair = provider.load()
    checks = record_checks(
        load_interval_model(pair),
        pair,
        golden=(ROWS.features, 5),
        labelled=(LABELLED.features, LABELLED.targets, 6),
        n_calibration=N_CALIBRATION,
    )
    provider.get_checks_path().write_bytes(checks.to_json())


@pytest.fixture
def provider(tmp_path: Path) -> LocalFilesystemProvider:
    provider = calibrated_workspace(tmp_path / "workspace")
    write_checks(provider)
    return provider


@pytest.fixture
def store(provider: LocalFilesystemProvider, tmp_path: Path) -> ModelStore:
    return serving(provider, tmp_path / "cache")


def serving(provider: LocalFilesystemProvider, cache: Path, **options: Any) -> ModelStore:
    store = ModelStore("mccp-uq", provider, ArtifactCache(cache), LoadOptions(**options))
    store.start(None)
    return store


def state(**attributes: Any) -> Callable[[LocalFilesystemProvider], Any]:
    return lambda provider: provider.get_state_path().write_bytes(write_state_pickle(**{**RULE, **attributes}))


def weights_and_state(provider: LocalFilesystemProvider) -> None:
    provider.get_model_path().write_bytes(NEW)
    state(q_hat=right_q_hat(NEW))(provider)


def other_stop_rule(provider: LocalFilesystemProvider) -> None:
    state(q_hat=right_q_hat(), max_mc=9)(provider)


def broken_checks(provider: LocalFilesystemProvider) -> None:
    state(q_hat=[0.9, 0.9])(provider)
    provider.get_checks_path().write_bytes(b'{"schema": 1')


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (state(q_hat=[0.9, 0.9]), "the golden rows are answered otherwise here"),
        (other_stop_rule, "was made for max_mc 12; here it would serve with max_mc 9"),
        (weights_and_state, "was made for preprocessing"),
        (broken_checks, "it cannot be used to check the model: all of it: Invalid JSON"),
    ],
)
def test_the_old_model_keeps_serving(
    change: Callable[[LocalFilesystemProvider], Any], words: str, store: ModelStore, provider: LocalFilesystemProvider
) -> None:
    first = store.version
    assert store.state is ModelState.READY
    change(provider)
    found = store.examine()
    assert found.outcome == "rejected"
    assert found.version not in (None, first)
    assert words in (found.reason or "")
    assert (store.version, store.state, store.reason) == (first, ModelState.READY, found.reason)
    assert store.serve(None).predict([[0.0] * 8], seed=1).q_hat == pytest.approx(right_q_hat())

    write_checks(provider)
    assert store.examine().outcome == "moved", "what is recorded of it now is what it answers"


def test_a_correction_that_was_shrunk(store: ModelStore, provider: LocalFilesystemProvider) -> None:
    """Whoever recorded the checks of it afterwards: the labelled rows tell."""
    first = store.version
    state(q_hat=right_q_hat() - 0.4)(provider)
    write_checks(provider)
    found = store.examine()
    assert (found.outcome, store.version) == ("rejected", first)
    assert "of 600 labelled rows the intervals hold too few, target 1: " in (found.reason or "")
    assert "at nominal 90.0% and 400 calibration points" in (found.reason or "")


def test_a_new_pair_with_its_checks_is_taken_over(store: ModelStore, provider: LocalFilesystemProvider) -> None:
    first = store.version
    weights_and_state(provider)
    assert store.examine().outcome == "rejected", "its checks are still those of the old pair"
    write_checks(provider)
    assert store.examine().outcome == "moved"
    assert store.version != first


def test_a_worker_in_another_forward_mode_serves_nothing_and_says_what_to_set(
    provider: LocalFilesystemProvider, tmp_path: Path
) -> None:
    store = serving(provider, tmp_path / "cache", forward_mode="deterministic")
    assert store.state is ModelState.INVALID
    assert "Set UQUEUE_FORWARD_MODE (or the model's forward_mode) to dropout" in (store.reason or "")


def test_who_joins_late_checks_what_the_cache_holds(
    store: ModelStore, provider: LocalFilesystemProvider, tmp_path: Path
) -> None:
    """The checks are in the cache with the pair, and hold there as well."""
    wanted = store.version
    for file in (provider.get_model_path(), provider.get_state_path(), provider.get_checks_path()):
        file.unlink()
    late = ModelStore("mccp-uq", provider, ArtifactCache(tmp_path / "cache"), LoadOptions())
    late.start(Wish(wanted))
    assert late.version == wanted
    other = ModelStore(
        "mccp-uq", provider, ArtifactCache(tmp_path / "cache"), LoadOptions(forward_mode="deterministic")
    )
    assert other.follow(Wish(wanted)) is False
    assert "was made for forward mode dropout" in (other.reason or "")


def test_new_checks_alone_are_no_new_version(store: ModelStore, provider: LocalFilesystemProvider) -> None:
    provider.get_checks_path().write_bytes(b'{"schema": 1')
    assert store.examine().outcome == "unchanged"
