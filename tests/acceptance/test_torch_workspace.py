"""A real worker that serves PyTorch files from a workspace folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from builders.artifacts import write_state_pickle
from builders.service import running_service
from builders.waiting import eventually
from uqueue_worker.artifacts import LocalFilesystemProvider
from uqueue_worker.models import load_interval_model

pytest.importorskip("torch")

from builders.torch_networks import Monotone, Mqnn, made, script_bytes, spec_bytes

ROWS = np.random.default_rng(0).normal(size=(9, 8))


def write(workspace: Path, data: bytes) -> None:
    model = workspace / "models" / "mccp-uq" / "model.pt"
    model.parent.mkdir(parents=True, exist_ok=True)
    unfinished = model.with_suffix(".part")
    unfinished.write_bytes(data)
    unfinished.rename(model)
    write_state_pickle(workspace / "state" / "mccp-uq" / "mccp_state.pkl", delta=0.01)


def test_jobs_are_answered_by_pytorch_in_forked_processes_and_a_spec_file_follows(tmp_path: Path) -> None:
    workspace = tmp_path / "workspace"
    write(workspace, script_bytes(made(Monotone)))
    with running_service(tmp_path / "service", workspace=workspace) as service:
        jobs = [service.client.submit(ROWS, seed=seed) for seed in (1, 2, 1)]
        answers = [job.result(timeout=60) for job in jobs]
        here = load_interval_model(LocalFilesystemProvider(workspace)).predict(ROWS, seed=1)
        assert answers[0].model.engine == here.model.engine == "torch"
        assert answers[0].lower.tobytes() == answers[2].lower.tobytes() == here.lower.tobytes()
        assert answers[0].lower.tobytes() != answers[1].lower.tobytes()
        assert answers[0].stochastic
        write(workspace, spec_bytes(made(Mqnn)))
        wanted = LocalFilesystemProvider(workspace).version()

        def newest() -> bool:
            return service.client.submit(ROWS, seed=1).result(timeout=60).model.version == wanted

        eventually(newest, "a job is answered by the spec file", seconds=60)
        assert service.client.submit(ROWS, seed=1).result(timeout=60).model.engine == "fused"
