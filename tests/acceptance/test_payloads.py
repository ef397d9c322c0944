"""Features that are too large for a message travel through a folder, and everything else stays the same."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from builders.artifacts import mqnn_h5_bytes, write_workspace
from builders.command import uqueue
from builders.service import RunningService, running_service
from builders.waiting import eventually
from uqueue import AsyncClient, Client
from uqueue_config.errors import PayloadUnavailable
from uqueue_config.payload import Reference
from uqueue_config.seeds import seed_from_job_id
from uqueue_worker.artifacts import LocalFilesystemProvider
from uqueue_worker.models import load_interval_model

MANY = np.random.default_rng(3).normal(size=(100_000, 8)).astype(np.float32)
SOME = MANY[:2_000]


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, RunningService]]:
    folder = tmp_path_factory.mktemp("payloads")
    write_workspace(folder / "workspace", model=mqnn_h5_bytes(hidden=(16, 16)))
    options: dict[str, Any] = {"workspace": folder / "workspace", "concurrency": 1, "beat": False, "wait": False}
    with contextlib.ExitStack() as stack:
        found = {}
        for lane in ("on", "off"):
            payloads = folder / lane / "payloads"
            payloads.mkdir(parents=True)
            old = payloads / f"{'0' * 64}.f32"
            old.touch()
            os.utime(old, (0, 0))
            env = {"UQUEUE_LANE": lane, "UQUEUE_MAX_INLINE_BYTES": "16384", "UQUEUE_PAYLOAD_DIR": str(payloads)}
            found[lane] = stack.enter_context(running_service(folder / lane, env=env, **options))
        for service in found.values():
            service.wait_for_worker(service.services["worker"])
        yield found
        for service in found.values():
            service.kill_worker()


@pytest.fixture(params=["on", "off"], ids=["lane", "tasks"])
def service(services: dict[str, RunningService], request: pytest.FixtureRequest) -> RunningService:
    return services[request.param]


def files(service: RunningService) -> list[str]:
    folder = service.settings.payload_dir
    assert folder is not None
    return [path.name for path in folder.iterdir()]


def test_a_hundred_thousand_rows_have_the_answer_they_have_inline(service: RunningService) -> None:
    root = service.settings.workspace_root
    assert root is not None
    model = load_interval_model(LocalFilesystemProvider(root))
    job = service.client.submit(MANY, idempotency_key="many")
    answer = job.result(timeout=60)
    assert service.client.submit(MANY, idempotency_key="many").id == job.id
    expected = model.predict(MANY, seed=seed_from_job_id(job.id))
    assert answer.lower.tobytes() == expected.lower.tobytes()
    assert answer.upper.tobytes() == expected.upper.tobytes()
    assert Reference.to(MANY).name in files(service)


def test_every_way_to_submit_takes_them(service: RunningService, tmp_path: Path) -> None:
    jobs = service.client.submit_many([SOME, SOME[:3], SOME + 1])
    assert [len(job.result(timeout=30)) for job in jobs] == [2_000, 3, 2_000]

    async def submitted() -> int:
        async with AsyncClient(service.settings) as client:
            return len(await (await client.submit(SOME + 2)).result(timeout=30))

    assert asyncio.run(submitted()) == 2_000
    np.save(tmp_path / "rows.npy", SOME + 3)
    csv = uqueue(service.environment, "submit", str(tmp_path / "rows.npy"), "--wait", "--csv").stdout
    assert len(csv.splitlines()) == 2_001


def test_what_is_missing_or_spoiled_fails_its_job_and_no_other(service: RunningService, tmp_path: Path) -> None:
    folder = service.settings.payload_dir
    assert folder is not None
    spoiled = SOME + 4
    (folder / Reference.to(spoiled).name).write_bytes(bytes(spoiled.nbytes))
    elsewhere = service.settings.model_copy(update={"payload_dir": tmp_path})
    with Client(elsewhere) as client:
        for table, reason in ((SOME + 5, "cannot be read"), (spoiled, "is not what was submitted")):
            job = client.submit(table)
            with pytest.raises(PayloadUnavailable, match=reason):
                job.result(timeout=20)
            assert job.status().state == "failed"
    assert len(service.client.submit(SOME).result(timeout=20)) == 2_000


def test_old_payloads_are_removed(service: RunningService) -> None:
    eventually(lambda: f"{'0' * 64}.f32" not in files(service), "the old payload is gone")
