"""The same pair from a folder, a bucket and a registry: one setting differs, the answers do not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import uqueue
from builders.artifacts import mqnn_h5_bytes, write_workspace
from builders.command import uqueue as command
from builders.mlflow_server import mlflow_server
from builders.s3_server import s3_server
from builders.service import running_service

BUCKET, MODEL = "s3://models/team/a", "models:/energy"
ROWS = np.random.default_rng(3).normal(size=(300, 8))


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("workspace")
    write_workspace(folder, model=mqnn_h5_bytes(hidden=(8, 8)))
    return folder


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Settings with which a bucket and a registry are reached."""
    with s3_server(tmp_path_factory.mktemp("s3")) as bucket, mlflow_server(tmp_path_factory.mktemp("mlflow")) as url:
        bucket.make_bucket("models")
        yield {**bucket.environment(), "UQUEUE_MLFLOW_TRACKING_URL": url}


def test_one_setting_swaps_the_source_and_no_byte_of_any_answer(
    workspace: Path, stores: dict[str, str], tmp_path: Path
) -> None:
    sources = (str(workspace), BUCKET, f"{MODEL}@production")
    answers = []
    for number, source in enumerate(sources):
        env = {**stores, "UQUEUE_ARTIFACT_SOURCE": source}
        # A folder, and so a cache, of its own: nothing can come from where another one left it.
        with running_service(tmp_path / str(number), concurrency=1, beat=False, env=env) as service:
            if number == 0:
                for target in (["--to", BUCKET], ["--to", MODEL, "--alias", "production"]):
                    command(service.environment, "publish", str(workspace), *target)
            client = service.client
            answers.append([client.submit(rows, seed=11).result(timeout=60) for rows in (ROWS[:1], ROWS)])
            assert {process.version for process in client.model().processes} == {answers[-1][0].model.version}
    for few, many in zip(answers[0], answers[1], strict=True):
        assert_same_bytes(few, many)
    for few, many in zip(answers[0], answers[2], strict=True):
        assert_same_bytes(few, many)


def assert_same_bytes(one: uqueue.IntervalPrediction, other: uqueue.IntervalPrediction) -> None:
    assert one.model == other.model
    for name in ("lower", "upper", "pass_std", "passes_used", "q_hat"):
        assert getattr(one, name).tobytes() == getattr(other, name).tobytes(), name
    assert one.to_message("base64") == other.to_message("base64")
