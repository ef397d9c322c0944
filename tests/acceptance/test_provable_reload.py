"""Real workers over a workspace with checks: what does not stand up to them is refused while the old model answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import uqueue
from builders.artifacts import mqnn_h5_bytes, write_state_pickle
from builders.calibrated import N_CALIBRATION, RULE, calibrated_workspace, draw_rows, right_q_hat
from builders.service import RunningService, running_service
from builders.waiting import eventually
from uqueue_worker.artifacts import LocalFilesystemProvider
from uqueue_worker.models import load_interval_model
from uqueue_worker.models.checks import record_checks

ROW = np.linspace(-1.0, 1.0, 8).reshape(1, 8)
GOLDEN, LABELLED = draw_rows(20, seed=11), draw_rows(600, seed=12)


def checks_of(provider: LocalFilesystemProvider) -> bytes:
    """Return what the publisher of the files in the workspace records of them."""
    pair = provider.load()
    labelled = (LABELLED.features, LABELLED.targets, 6)
    recorded = record_checks(
        load_interval_model(pair), pair, golden=(GOLDEN.features, 5), labelled=labelled, n_calibration=N_CALIBRATION
    )
    return recorded.to_json()


def prepared(folder: Path, *, seed: int = 0, shrunk: float = 0.0) -> tuple[bytes, bytes, bytes]:
    """Return model, state and checks as another training run makes them, its correction `shrunk` by so much."""
    model = mqnn_h5_bytes(hidden=(4,), seed=seed)
    provider = calibrated_workspace(folder, model, q_hat=right_q_hat(model) - shrunk)
    return model, provider.get_state_path().read_bytes(), checks_of(provider)


def write(provider: LocalFilesystemProvider, model: bytes, state: bytes, checks: bytes) -> None:
    """Overwrite the three files; the checks go first, so nobody sees a new pair without its own."""
    provider.get_checks_path().write_bytes(checks)
    provider.get_model_path().write_bytes(model)
    provider.get_state_path().write_bytes(state)


@pytest.fixture
def workspace(tmp_path: Path) -> LocalFilesystemProvider:
    provider = calibrated_workspace(tmp_path / "workspace")
    provider.get_checks_path().write_bytes(checks_of(provider))
    return provider


@pytest.fixture
def service(tmp_path: Path, workspace: LocalFilesystemProvider) -> Iterator[RunningService]:
    root, poll = tmp_path / "workspace", {"UQUEUE_POLL_SECONDS": "3600"}
    with running_service(tmp_path / "service", workspace=root, concurrency=2, env=poll) as running:
        yield running


def test_candidates_are_proven_before_they_serve(
    service: RunningService, workspace: LocalFilesystemProvider, tmp_path: Path
) -> None:
    client = service.client
    first = workspace.load()
    assert client.model().wanted_version == first.version

    model, state, checks = prepared(tmp_path / "new", seed=5)
    of_others = prepared(tmp_path / "other", seed=6)[2]
    other_rule = write_state_pickle(**{**RULE, "q_hat": right_q_hat(model), "max_mc": 9})
    shrunk = prepared(tmp_path / "shrunk", seed=5, shrunk=0.4)
    for files, words in (
        ((model, write_state_pickle(**{**RULE, "q_hat": right_q_hat(model) + 0.1}), checks), "golden rows"),
        ((model, other_rule, checks), "max_mc 12; here it would serve with max_mc 9"),
        ((model, state, of_others), "here it would serve with preprocessing"),
        (shrunk, "of 600 labelled rows the intervals hold too few"),
        ((model, write_state_pickle(**{**RULE, "q_hat": 7.0}), b"{"), "cannot be used to check the model"),
    ):
        write(workspace, *files)
        report = client.reload()
        assert report.poll.outcome == "rejected"
        assert words in (report.poll.reason or "")
        status = client.model()
        assert status.wanted_version == first.version
        assert status.rejected_reason == report.poll.reason
        answer = client.submit(ROW, seed=1).result(timeout=20)
        assert answer.model.version == first.version
        assert {process.version for process in client.model().processes} == {first.version}

    write(workspace, model, state, checks)
    report = client.reload()
    assert (report.poll.outcome, report.model.converged) == ("moved", True)
    answer = client.submit(ROW, seed=1).result(timeout=20)
    assert answer.model.version == report.model.wanted_version == workspace.load().version
    assert answer.model.weights_version == workspace.load().model_file.sha256[:16]


def test_a_worker_in_another_forward_mode_refuses_and_says_what_to_set(
    tmp_path: Path, workspace: LocalFilesystemProvider
) -> None:
    env = {"UQUEUE_FORWARD_MODE": "deterministic"}
    with running_service(
        tmp_path / "service", workspace=tmp_path / "workspace", concurrency=1, beat=False, env=env
    ) as service:
        eventually(lambda: service.client.models(), "the worker reports")
        assert {process.state for process in service.client.model().processes} == {"invalid"}
        with pytest.raises(uqueue.UqueueError) as caught:
            service.client.submit(ROW).result(timeout=20)
        assert caught.value.code == "calibration_mismatch"
        assert "Set UQUEUE_FORWARD_MODE (or the model's forward_mode) to dropout" in caught.value.message
