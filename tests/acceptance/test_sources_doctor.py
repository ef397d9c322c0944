"""`uqueue doctor` says whether the source that is configured gives what it should, in the words of the worker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from builders.artifacts import write_workspace
from builders.command import uqueue as command
from builders.publisher import SOURCE, Publisher, publishing
from builders.s3_server import NO_AWS, free_port

Examine = Callable[..., dict[str, dict[str, str]]]


@pytest.fixture(scope="module")
def publisher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Publisher]:
    with publishing(tmp_path_factory.mktemp("s3")) as running:
        yield running


@pytest.fixture
def examine(publisher: Publisher, redis_url: str) -> Examine:
    """Return the findings of the command by what was checked; no worker runs."""
    here = {name: value for name, value in os.environ.items() if name not in NO_AWS}
    base = {**here, **{name: value for name, value in NO_AWS.items() if value is not None}}
    base |= {"UQUEUE_BROKER_URL": redis_url, **publisher.server.environment()}

    def run(**env: str) -> dict[str, dict[str, str]]:
        findings = json.loads(command({**base, **env}, "doctor", "--json", code=1).stdout)
        return {finding["check"]: finding for finding in findings}

    return run


def test_a_bucket(examine: Examine, publisher: Publisher) -> None:
    def source(**env: str) -> tuple[str, str]:
        found = examine(**{"UQUEUE_ARTIFACT_SOURCE": SOURCE, **env})
        assert "workspace" not in found, "no folder is looked at"
        return found["source"]["level"], found["source"]["found"] + found["source"]["advice"]

    level, said = source()
    assert (level, "uqueue publish" in said, "nothing_published" in said) == ("fail", True, True)
    version, _ = publisher.good(1)
    assert source() == ("ok", f"{SOURCE} holds {version[:12]}, whole")
    level, said = source(UQUEUE_ARTIFACT_SOURCE="s3://no-such-bucket")
    assert (level, "NoSuchBucket" in said) == ("fail", True)
    level, said = source(UQUEUE_S3_ENDPOINT_URL=f"http://127.0.0.1:{free_port()}")
    assert (level, "does not answer" in said, "source_unreachable" in said) == ("fail", True, True)
    publisher.damaged(2, lambda manifest: manifest["files"]["model.h5"].update(sha256="0" * 64))
    level, said = source()
    assert (level, "artifact_mismatch" in said) == ("fail", True), "files are read, not only their manifest"


def test_a_registry_that_does_not_answer(examine: Examine) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    found = examine(UQUEUE_ARTIFACT_SOURCE="models:/energy@production", UQUEUE_MLFLOW_TRACKING_URL=url)["source"]
    assert (found["level"], found["found"].startswith(f"MLflow at {url} does not answer")) == ("fail", True)


def test_a_folder_named_as_source(examine: Examine, tmp_path: Path) -> None:
    env = {"UQUEUE_ARTIFACT_SOURCE": str(tmp_path / "there"), "UQUEUE_WORKSPACE_ROOT": str(tmp_path / "elsewhere")}
    assert examine(**env)["workspace"]["level"] == "fail"
    write_workspace(tmp_path / "there")
    found = examine(**env)
    assert found["workspace"]["found"] == f"{tmp_path / 'there'} holds a model and its calibration"
    assert "source" not in found


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        ("boto3", 'boto3 is not installed here: pip install "uqueue[worker,s3]"'),
        ("structlog", 'structlog is not installed here: pip install "uqueue[worker]"'),
    ],
)
def test_what_is_not_installed_is_said(missing: str, words: str) -> None:
    code = f"import sys; sys.modules[{missing!r}] = None; from uqueue_worker.source_check import main; main()"
    env = {**os.environ, "UQUEUE_ARTIFACT_SOURCE": SOURCE}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60, check=True)
    found = json.loads(done.stdout)
    assert [(one["code"], one["message"]) for one in found] == [("not_installed", words)]
