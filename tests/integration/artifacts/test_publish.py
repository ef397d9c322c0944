"""`uqueue publish`: a pair goes up whole or not at all, and every source of it answers with the same bytes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from builders.artifacts import mqnn_h5_bytes, write_state_pickle, write_workspace
from builders.command import uqueue
from builders.fault_proxy import Fault, FaultProxy
from builders.s3_server import S3Server, free_port
from uqueue_config.errors import ArtifactMismatch, SourceError, VersionTaken
from uqueue_config.settings import Settings
from uqueue_worker.artifacts import ArtifactCache, ArtifactPair, LocalFilesystemProvider, S3Provider, open_provider
from uqueue_worker.artifacts.bucket import Bucket
from uqueue_worker.artifacts.s3_versions import S3Versions
from uqueue_worker.models import load_interval_model
from uqueue_worker.publish.__main__ import main

Make = Callable[..., ArtifactPair]


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    write_workspace(tmp_path / "workspace", model=mqnn_h5_bytes(hidden=(4,)))
    return tmp_path / "workspace"


def environment(server: S3Server, **more: str) -> dict[str, str]:
    return {**os.environ, **server.environment(), **more}


@dataclass
class Outcome:
    code: int
    stdout: str
    stderr: str


Run = Callable[..., Outcome]


@pytest.fixture
def run(server: S3Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run what `uqueue publish` runs, without a process of its own."""
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)

    def publish(*arguments: str) -> Outcome:
        try:
            code = main(arguments)
        except SystemExit as done:
            code = int(done.code or 0)
        return Outcome(code, *capsys.readouterr())

    return publish


def test_the_same_rows_and_seed_give_the_same_bytes_from_every_source(
    run: Run, server: S3Server, bucket: str, mlflow_url: str, workspace: Path, tmp_path: Path
) -> None:
    """Published by the command line, swapped by settings."""
    env = environment(server, UQUEUE_MLFLOW_TRACKING_URL=mlflow_url)
    version = LocalFilesystemProvider(workspace).version()
    s3 = json.loads(run(str(workspace), "--to", f"s3://{bucket}/a", "--json").stdout)
    assert (s3["version"], s3["content"], s3["names"]) == (version, version, [f"s3://{bucket}/a"])
    assert s3["files"]["model.h5"]["version_id"]
    said = uqueue(env, "publish", str(workspace), "--to", "models:/energy", "--alias", "production").stdout
    assert said.splitlines()[0] == f"version 1, content {version}"
    assert said.splitlines()[-1] == "models:/energy@production names it now"

    rows = np.random.default_rng(1).normal(size=(5, 8))
    answers = set()
    for number, source in enumerate((str(workspace), f"s3://{bucket}/a", "models:/energy@production")):
        names = {name: value for name, value in env.items() if name.startswith("UQUEUE_")}
        settings = Settings.load({**names, "UQUEUE_ARTIFACT_SOURCE": source})
        provider = open_provider(settings, "mccp-uq", ArtifactCache(tmp_path / f"cache{number}"))
        assert provider is not None
        prediction = load_interval_model(provider, engine="numpy").predict(rows, seed=7)
        answers.add(json.dumps(prediction.to_message("base64")))
    assert len(answers) == 1


def test_aliases_and_versions_by_name(
    run: Run, server: S3Server, bucket: str, workspace: Path, cache: ArtifactCache
) -> None:
    to = f"s3://{bucket}/a"
    done = run(str(workspace), "--to", to, "--alias", "canary", "--alias", "next", "--version", "v1")
    names = [f"{to}?version=@canary names it now", f"{to}?version=@next names it now"]
    assert (done.code, done.stdout.splitlines()[-2:]) == (0, names)
    content = LocalFilesystemProvider(workspace).version()
    canary = S3Provider(f"{to}?version=@canary", cache=cache, connection=server.connection())
    assert canary.version() == content
    assert "a/mccp-uq/latest.json" not in server.keys(bucket)
    (workspace / "state/mccp-uq/mccp_state.pkl").write_bytes(write_state_pickle(q_hat=9.0))
    refused = run(str(workspace), "--to", to, "--version", "v1")
    assert (refused.code, refused.stderr) == (
        1,
        f"s3://{bucket}/a/mccp-uq has a version v1 already, with other content ({content}). "
        "Publish under another --version.\n",
    )


@pytest.mark.parametrize("damage", ["model", "state", "stale", "missing"])
def test_a_pair_that_no_worker_would_serve_is_refused_before_the_first_byte(
    run: Run, server: S3Server, bucket: str, workspace: Path, damage: str
) -> None:
    model, state = workspace / "models/mccp-uq/model.h5", workspace / "state/mccp-uq/mccp_state.pkl"
    words = {
        "model": "model.h5: ",
        "state": "names os.system",
        "stale": "the calibration is older than the model",
        "missing": "mccp_state.pkl is missing",
    }[damage]
    if damage == "model":
        model.write_bytes(model.read_bytes()[:2000])
    elif damage == "state":
        state.write_bytes(b"\x80\x04cos\nsystem\n(S'true'\ntR.")
    elif damage == "stale":
        os.utime(state, (1, 1))
    else:
        state.unlink()
    refused = run(str(workspace), "--to", f"s3://{bucket}")
    assert (refused.code, refused.stdout) == (2, "")
    assert words in refused.stderr
    assert server.keys(bucket) == []


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--to", "s3://models?version=@canary"], 2, "and see --alias"),
        (["--to", "gs://models"], 2, "expected an absolute path, s3://"),
        (["--to", "/a/folder"], 2, "expected s3://bucket/prefix or models:/name"),
        (["--to", "s3://models", "--alias", "latest"], 2, "expected letters, digits"),
        (["--to", "s3://models", "--version", "../x"], 2, "expected letters, digits"),
        (["--to", "s3://models", "--model", "../x"], 2, "cannot name a model"),
        (["--to", "models:/m", "--version", "v1"], 2, "MLflow numbers its versions itself"),
        (["--to", "models:/m"], 2, "Set UQUEUE_MLFLOW_TRACKING_URL"),
        (["--to", "s3://no-such-bucket"], 1, "NoSuchBucket"),
    ],
)
def test_wrong_usage_is_a_sentence(run: Run, workspace: Path, arguments: list[str], code: int, words: str) -> None:
    refused = run(str(workspace), *arguments)
    assert (refused.code, refused.stdout) == (code, "")
    assert words in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


def test_nobody_there(server: S3Server, workspace: Path) -> None:
    """Through the command line, which hands on words and exit code."""
    env = environment(server, UQUEUE_S3_ENDPOINT_URL=f"http://127.0.0.1:{free_port()}")
    refused = uqueue(env, "publish", str(workspace), "--to", "s3://models", code=3)
    assert "Check UQUEUE_S3_ENDPOINT_URL" in refused.stderr


def test_a_publisher_that_dies_leaves_nothing_that_is_named(
    server: S3Server, bucket: str, versions: S3Versions, make_pair: Make, cache: ArtifactCache, proxy: FaultProxy
) -> None:

    first, second = make_pair(1), make_pair(2)
    versions.point("latest", versions.upload(first))
    broken = S3Versions(Bucket(bucket, server.connection(proxy.url)), "team/a", "mccp-uq")
    for step in ("mccp_state.pkl", f"{second.version}/manifest.json"):
        proxy.break_path(step, Fault(status=503))
        with pytest.raises(SourceError):
            broken.upload(second)
        assert S3Provider(f"s3://{bucket}/team/a", cache=cache, connection=server.connection()).load() == first
    proxy.mend()
    versions.point("latest", broken.upload(second))
    assert S3Provider(f"s3://{bucket}/team/a", cache=cache, connection=server.connection()).load() == second


def test_what_the_bucket_does_not_give_back_is_not_published(
    server: S3Server, bucket: str, make_pair: Make, proxy: FaultProxy
) -> None:

    proxy.fault = lambda method, path: Fault(flip=True) if method == "GET" and "model.h5" in path else None
    with pytest.raises(ArtifactMismatch):
        S3Versions(Bucket(bucket, server.connection(proxy.url)), "team/a", "mccp-uq").upload(make_pair())
    assert "manifest.json" not in " ".join(server.keys(bucket))


def test_publishing_again_uploads_nothing_and_mends_what_is_damaged(
    server: S3Server, bucket: str, versions: S3Versions, make_pair: Make, cache: ArtifactCache
) -> None:
    pair = make_pair()
    first = versions.upload(pair, "v1")
    assert versions.upload(pair, "v1") == first
    key = "team/a/mccp-uq/v1/model.h5"
    server.client().delete_object(Bucket=bucket, Key=key, VersionId=first.files.model.version_id)
    mended = versions.upload(pair, "v1")
    assert mended.files.model.version_id != first.files.model.version_id
    provider = S3Provider(f"s3://{bucket}/team/a?version=v1", cache=cache, connection=server.connection())
    assert provider.load() == pair


def test_two_publishers_at_once(versions: S3Versions, make_pair: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second one finds the manifest of the first one when it writes its own."""

    same, other = make_pair(1), make_pair(2)
    seen, existing = [], versions._existing

    def blind_once(manifest: object) -> object:
        seen.append(manifest)
        return None if len(seen) == 1 else existing(manifest)  # type: ignore[arg-type]

    first = versions.upload(same, "v1")
    monkeypatch.setattr(versions, "_existing", blind_once)
    assert versions.upload(same, "v1") == first
    seen.clear()
    with pytest.raises(VersionTaken):
        versions.upload(other, "v1")
