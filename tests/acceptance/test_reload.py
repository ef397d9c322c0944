"""Retraining while jobs flow: nothing fails, nothing mixes, every process says what it serves."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

import uqueue
from builders.artifacts import mqnn_h5_bytes, write_state_pickle, write_workspace
from builders.service import RunningService, running_service
from builders.waiting import eventually
from uqueue_worker.artifacts import LocalFilesystemProvider
from uqueue_worker.models import load_interval_model

ROW = np.linspace(-1.0, 1.0, 8).reshape(1, 8)
POLL = {"UQUEUE_POLL_SECONDS": "0.2"}


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    write_workspace(tmp_path / "workspace", model=mqnn_h5_bytes(seed=1), q_hat=1.0)
    return tmp_path / "workspace"


@pytest.fixture
def service(tmp_path: Path, workspace: Path) -> Iterator[RunningService]:
    with running_service(tmp_path / "service", workspace=workspace, concurrency=2, env=POLL) as running:
        yield running


def replace_in_place(workspace: Path, model: bytes, state: bytes) -> None:
    """Overwrite both files as the trainer does: the model first, in pieces, then the calibration."""
    with (workspace / "models/mccp-uq/model.h5").open("wb") as file:
        for start in range(0, len(model), 16_384):
            file.write(model[start : start + 16_384])
            file.flush()
            time.sleep(0.002)
    (workspace / "state/mccp-uq/mccp_state.pkl").write_bytes(state)


def expected_lower(workspace: Path) -> float:
    model = load_interval_model(LocalFilesystemProvider(workspace))
    return float(model.predict(ROW, seed=1).lower[0, 0])


class Load:
    """Submits one-row jobs from a thread until stopped; every answer is kept with its version."""

    def __init__(self, client: uqueue.Client) -> None:
        self._client = client
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.answers: list[uqueue.IntervalPrediction] = []
        self.errors: list[Exception] = []

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                jobs = self._client.submit_many([ROW] * 10)
                self.answers += [job.result(timeout=30) for job in jobs]
            except Exception as error:
                self.errors.append(error)


def test_a_thousand_jobs_while_the_model_is_replaced_twenty_times(service: RunningService, workspace: Path) -> None:
    """Five of the twenty are corrupt. q_hat is the model's number, so a mixed pair shows in the answer."""
    client = service.client
    truth = {client.model().wanted_version: 1.0}
    corrupt = {3, 7, 11, 15, 19}
    with Load(client) as load:
        for number in range(1, 21):
            model, state = mqnn_h5_bytes(seed=number + 1), write_state_pickle(q_hat=float(number + 1))
            if number in corrupt:
                model, state = [
                    (model[: len(model) // 2], state),
                    (model, state[:-20]),
                    (b"not a model", state),
                    (model, write_state_pickle(q_hat=float("nan"))),
                    (model, b"\x80\x04cos\nsystem\n(S'true'\ntR."),
                ][number % 5]
            before = client.model().wanted_version
            replace_in_place(workspace, model, state)
            if number in corrupt:
                eventually(lambda: client.model().rejected_reason, "the poll refuses it")
                assert client.model().wanted_version == before
            else:
                eventually(
                    lambda before=before: client.model().converged and client.model().wanted_version != before,  # type: ignore[misc]
                    "every process acknowledges the new version",
                )
                truth[client.model().wanted_version] = float(number + 1)
        eventually(lambda: len(load.answers) >= 1000, "a thousand jobs have been answered", seconds=60)
    assert load.errors == []
    assert len(truth) == 16
    for answer in load.answers:
        assert answer.q_hat.tolist() == [truth[answer.model.version]] * 2
    assert len({answer.model.version for answer in load.answers}) >= 10
    status = client.model()
    assert len(status.processes) == 2
    assert {process.version for process in status.processes} == {status.wanted_version}


def test_a_new_model_waits_for_its_calibration(service: RunningService, workspace: Path) -> None:
    client = service.client
    old = client.model().wanted_version
    (workspace / "models/mccp-uq/model.h5").write_bytes(mqnn_h5_bytes(seed=2))
    report = client.reload()
    assert report.poll.outcome == "rejected"
    assert "calibration" in (report.poll.reason or "")
    assert client.model().wanted_version == old
    (workspace / "state/mccp-uq/mccp_state.pkl").write_bytes(write_state_pickle(q_hat=2.0))
    eventually(lambda: client.model().converged and client.model().wanted_version != old, "the pair is taken over")
    assert client.submit(ROW).result(timeout=10).q_hat.tolist() == [2.0, 2.0]


def test_a_model_copied_with_an_old_time_waits_too(service: RunningService, workspace: Path) -> None:
    client = service.client
    old = client.model().wanted_version
    model = workspace / "models/mccp-uq/model.h5"
    model.write_bytes(mqnn_h5_bytes(seed=2))
    os.utime(model, (1_000_000_000, 1_000_000_000))
    assert client.reload().poll.outcome == "rejected"
    assert client.model().wanted_version == old


def test_deleted_files_change_nothing_that_is_served(service: RunningService, workspace: Path) -> None:
    client = service.client
    shutil.rmtree(workspace / "models")
    assert client.reload().poll.outcome == "missing"
    eventually(lambda: any(process.artifacts_missing for process in client.model().processes), "a process notes it")
    assert client.submit(ROW).result(timeout=10).q_hat.tolist() == [1.0, 1.0]


def test_a_late_joiner_serves_the_wanted_version_although_the_files_are_broken(
    service: RunningService, workspace: Path
) -> None:
    client = service.client
    wanted = client.model().wanted_version
    (workspace / "models/mccp-uq/model.h5").write_bytes(b"half a mod")
    eventually(lambda: client.model().rejected_reason, "the poll refuses it")
    victim = psutil.Process(client.model().processes[0].pid)
    victim.kill()
    eventually(
        lambda: len(pids := {p.pid for p in client.model().processes}) == 2 and victim.pid not in pids,
        "a replacement acknowledges",
    )
    assert {process.version for process in client.model().processes} == {wanted}


def test_no_model_yet_is_a_state_and_a_model_that_appears_is_served(tmp_path: Path) -> None:
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    with running_service(tmp_path / "service", workspace=workspace, concurrency=1, env=POLL) as service:
        client = service.client
        eventually(lambda: client.models(), "the worker reports")
        assert {process.state for process in client.model().processes} == {"no_model"}
        with pytest.raises(uqueue.UqueueError, match="training and calibration") as caught:
            client.submit(ROW).result(timeout=10)
        assert caught.value.code == "model_not_available"
        write_workspace(workspace)
        eventually(lambda: client.model().converged, "the model that appeared is served")
        client.submit(ROW).result(timeout=10)


def test_reload_is_quicker_than_the_poll(tmp_path: Path, workspace: Path) -> None:
    slow_poll = {"UQUEUE_POLL_SECONDS": "3600"}
    with running_service(tmp_path / "service", workspace=workspace, concurrency=2, env=slow_poll) as service:
        replace_in_place(workspace, mqnn_h5_bytes(seed=9), write_state_pickle(q_hat=9.0))
        report = service.client.reload()
        assert report.poll.outcome == "moved"
        assert report.model.converged
        lower = service.client.submit(ROW, seed=1).result(timeout=10).lower[0, 0]
        assert lower == pytest.approx(expected_lower(workspace))
        assert service.client.reload().poll.outcome == "unchanged"
