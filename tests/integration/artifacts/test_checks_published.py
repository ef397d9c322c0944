"""Checks and calibration on their way through a bucket and a registry; weights go up once."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from builders.artifacts import write_state_pickle
from builders.calibrated import RULE, calibrated_workspace, draw_rows, right_q_hat
from builders.mlflow_server import registry_client
from builders.s3_server import S3Server
from uqueue_config.errors import IncompleteArtifact
from uqueue_worker.artifacts import (
    ArtifactCache,
    ArtifactPair,
    LocalFilesystemProvider,
    MLflowProvider,
    S3Provider,
    read_checks,
)
from uqueue_worker.artifacts.bucket import Bucket
from uqueue_worker.artifacts.pair import fingerprint
from uqueue_worker.artifacts.s3_versions import S3Versions
from uqueue_worker.models import load_interval_model
from uqueue_worker.models.store import LoadOptions, ModelStore
from uqueue_worker.publish.__main__ import main
from uqueue_worker.publish.to_mlflow import register

Make = Callable[..., ArtifactPair]
Publish = Callable[..., str]


def with_checks(pair: ArtifactPair, checks: bytes | None) -> ArtifactPair:
    return replace(pair, checks=checks, checks_file=fingerprint(checks, 3) if checks else None)


def with_state(pair: ArtifactPair, state: bytes) -> ArtifactPair:
    return replace(pair, state=state, state_file=fingerprint(state, 9))


@pytest.fixture
def workspace(tmp_path: Path) -> LocalFilesystemProvider:
    return calibrated_workspace(tmp_path / "workspace")


@pytest.fixture
def run(server: S3Server, mlflow_url: str, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Callable[..., Any]:
    """Run what `uqueue publish` runs; return exit code, stdout and stderr."""
    for name, value in {**server.environment(), "UQUEUE_MLFLOW_TRACKING_URL": mlflow_url}.items():
        monkeypatch.setenv(name, value)

    def publish(workspace: LocalFilesystemProvider, *arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([str(workspace.get_state_path().parents[2]), *map(str, arguments)])
        return (code, *capsys.readouterr())

    return publish


def test_a_pytorch_pair_with_checks_comes_back_from_a_bucket(
    server: S3Server, bucket: str, provider: S3Provider, publish: Publish, make_pair: Make
) -> None:
    pair = replace(with_checks(make_pair(), b"{}"), model_filename="model.pt")
    publish(pair, version="v1")
    assert {"model.pt", "mccp_state.pkl", "checks.json", "manifest.json"} == {
        key.rpartition("/")[2] for key in server.keys(bucket) if "/v1/" in key
    }
    assert provider.load() == pair
    assert provider.get_model_path().name == "model.pt"
    assert provider.get_model_path().read_bytes() == pair.model


def test_a_pytorch_pair_with_checks_comes_back_from_a_registry(
    mlflow_url: str, cache: ArtifactCache, make_pair: Make
) -> None:
    pair = replace(with_checks(make_pair(), b"{}"), model_filename="model.pt")
    number, _ = register(pair, "torch", mlflow_url, ["production"])
    provider = MLflowProvider("models:/torch@production", tracking_url=mlflow_url, cache=cache)
    assert provider.load() == pair
    assert register(pair, "torch", mlflow_url, [])[0] == number


def test_a_pytorch_pair_that_was_registered_by_hand(
    mlflow_url: str, tmp_path: Path, cache: ArtifactCache, make_pair: Make
) -> None:
    client, pair = registry_client(mlflow_url), make_pair()
    run_id = client.create_run(client.create_experiment("torch by hand")).info.run_id
    for name, data in {"model.pt": pair.model, "mccp_state.pkl": pair.state, "checks.json": b"{}"}.items():
        (tmp_path / name).write_bytes(data)
        client.log_artifact(run_id, str(tmp_path / name), "model")
    client.create_registered_model("by-hand")
    client.create_model_version("by-hand", f"runs:/{run_id}/model", run_id)
    loaded = MLflowProvider("models:/by-hand/1", tracking_url=mlflow_url, cache=cache).load()
    assert (loaded.model_filename, loaded.model, loaded.checks) == ("model.pt", pair.model, b"{}")


def test_a_new_calibration_goes_up_without_its_weights(
    server: S3Server,
    bucket: str,
    versions: S3Versions,
    provider: S3Provider,
    make_pair: Make,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They are copied within the bucket, so each version is whole; what was copied is read back and compared."""
    first = make_pair()
    versions.point("latest", versions.upload(first))
    assert provider.load() == first
    sent, put = [], Bucket.put

    def counted(bucket: Bucket, key: str, data: bytes, **options: Any) -> Any:
        sent.append(key.rpartition("/")[2])
        return put(bucket, key, data, **options)

    monkeypatch.setattr(Bucket, "put", counted)
    second = with_state(first, b"recalibrated")
    manifest = versions.upload(second)
    versions.point("latest", manifest)
    assert "mccp_state.pkl" in sent
    assert "model.h5" not in sent
    key = f"team/a/mccp-uq/{second.version}/model.h5"
    assert server.client().get_object(Bucket=bucket, Key=key)["Body"].read() == first.model
    assert (manifest.weights, manifest.content) == (first.model_file.sha256[:16], second.version)
    assert provider.version() == second.version != first.version
    assert provider.load() == second


def test_weights_that_are_gone_or_damaged_are_uploaded_again(
    server: S3Server, bucket: str, versions: S3Versions, provider: S3Provider, make_pair: Make
) -> None:
    first = make_pair()
    manifest = versions.upload(first)
    key = f"team/a/mccp-uq/{first.version}/model.h5"
    server.client().delete_object(Bucket=bucket, Key=key, VersionId=manifest.files.model.version_id)
    second = with_state(first, b"recalibrated")
    versions.point("latest", versions.upload(second))
    assert provider.load() == second
    third = with_state(first, b"recalibrated again")
    versions.point("latest", versions.upload(third))
    assert provider.load() == third, "copied from the second"


def test_new_checks_alone_are_taken_without_a_new_version(
    server: S3Server, bucket: str, versions: S3Versions, make_pair: Make, cache: ArtifactCache
) -> None:
    """The manifest is replaced, model and state stay where they are, and readers take the checks from there."""
    provider = S3Provider(f"s3://{bucket}/team/a", cache=cache, connection=server.connection())
    bare = make_pair()
    seen = {}
    for checks in (None, b'{"a": 1}', b'{"a": 2}', None):
        pair = with_checks(bare, checks)
        manifest = versions.upload(pair, "v1")
        versions.point("latest", manifest)
        assert provider.version() == bare.version
        assert provider.load() == pair
        assert cache.get("mccp-uq", bare.version) == pair
        seen[checks] = manifest.files.model.version_id
    assert len(set(seen.values())) == 1, "the weights were put once"


def test_missing_checks_are_no_pair(
    server: S3Server, bucket: str, versions: S3Versions, provider: S3Provider, make_pair: Make
) -> None:
    manifest = versions.upload(with_checks(make_pair(), b"{}"), "v1")
    versions.point("latest", manifest)
    assert manifest.files.checks is not None
    server.client().delete_object(
        Bucket=bucket, Key="team/a/mccp-uq/v1/checks.json", VersionId=manifest.files.checks.version_id
    )
    with pytest.raises(IncompleteArtifact, match=r"checks\.json: the manifest names it, and it is not there"):
        provider.load()


def test_a_registry_refers_to_the_version_that_holds_the_weights(
    mlflow_url: str, cache: ArtifactCache, make_pair: Make
) -> None:
    client, model = registry_client(mlflow_url), "recalibrated"
    first = make_pair()
    register(first, model, mlflow_url, ["production"])
    pairs = [with_state(first, b"second"), with_checks(with_state(first, b"second"), b"{}"), with_state(first, b"4th")]
    for number, pair in enumerate(pairs, start=2):
        registered, manifest = register(pair, model, mlflow_url, ["production"])
        assert (registered, manifest.files.model.held_by) == (str(number), "1")
        run = client.get_model_version(model, registered).run_id
        names = {Path(one.path).name for one in client.list_artifacts(run, "mccp-uq")}
        assert names == {"mccp_state.pkl", *(["checks.json"] if pair.checks else [])}
        assert MLflowProvider(f"models:/{model}@production", tracking_url=mlflow_url, cache=cache).load() == pair
    client.delete_model_version(model, "1")
    fresh = ArtifactCache(Path(cache.place("x", "y")).parents[1] / "fresh")
    with pytest.raises(IncompleteArtifact, match="a version it needs is gone"):
        MLflowProvider(f"models:/{model}@production", tracking_url=mlflow_url, cache=fresh).load()
    number, manifest = register(pairs[-1], model, mlflow_url, ["production"])
    assert (number, manifest.files.model.held_by) == ("5", None), "publishing again mends it"
    assert MLflowProvider(f"models:/{model}@production", tracking_url=mlflow_url, cache=fresh).load() == pairs[-1]


@pytest.mark.parametrize("store", ["s3", "mlflow"])
def test_what_a_publisher_records_a_worker_proves(
    store: str,
    run: Callable[..., Any],
    server: S3Server,
    bucket: str,
    mlflow_url: str,
    workspace: LocalFilesystemProvider,
    tmp_path: Path,
    cache: ArtifactCache,
) -> None:
    golden = draw_rows(25, seed=1).write(tmp_path / "golden.csv", targets=False)
    labelled = draw_rows(300, seed=2).write(tmp_path / "labelled.csv")
    to = f"s3://{bucket}/a" if store == "s3" else "models:/proven"
    arguments = ["--to", to, "--golden", golden, "--labelled", labelled, "--calibration-rows", 400]
    arguments += ["--alias", "production"]
    code, stdout, stderr = run(workspace, *arguments, "--json")
    assert (code, stderr) == (0, "")
    done, pair = json.loads(stdout), workspace.load()
    assert done["weights"] == pair.model_file.sha256[:16]
    assert done["calibration"] == pair.state_file.sha256[:16]
    assert done["content"] == pair.version
    provider: S3Provider | MLflowProvider
    if store == "s3":
        provider = S3Provider(f"{to}?version=@production", cache=cache, connection=server.connection())
    else:
        provider = MLflowProvider(f"{to}@production", tracking_url=mlflow_url, cache=cache)
    published = provider.load()
    assert published.checks_file is not None
    assert done["files"]["checks.json"]["sha256"] == published.checks_file.sha256
    checks = read_checks(published.checks or b"")
    assert checks.calibration is not None
    assert checks.golden is not None
    assert checks.labelled is not None
    assert (len(checks.golden.features), len(checks.labelled.features)) == (25, 300)
    assert (checks.calibration.n_calibration, checks.calibration.forward_mode) == (400, "dropout")

    worker = ModelStore("mccp-uq", provider, cache, LoadOptions())
    worker.start(None)
    assert worker.version == pair.version
    identity = load_interval_model(published).identity
    assert (identity.weights_version, identity.calibration_version) == (done["weights"], done["calibration"])
    calm = ModelStore("mccp-uq", provider, cache, LoadOptions(forward_mode="deterministic"))
    calm.start(None)
    assert "was made for forward mode dropout" in (calm.reason or "")

    workspace.get_state_path().write_bytes(write_state_pickle(**{**RULE, "q_hat": right_q_hat() + 0.2}))
    again = json.loads(run(workspace, *arguments, "--json")[1])
    assert again["weights"] == done["weights"]
    assert again["calibration"] != done["calibration"]
    assert worker.examine().outcome == "moved", "a new calibration of the same weights reloads like any other"


@pytest.mark.parametrize(
    ("option", "content", "words"),
    [
        ("--golden", None, "cannot be read (No such file or directory)"),
        ("--golden", b"", "holds no rows"),
        ("--golden", b"x0,x1\n", "holds no rows"),
        ("--golden", b"1,2,3\n", "line 1: expected 8 columns (8 features), got 3"),
        ("--golden", b"1,2,3,4,5,6,7,8\n1,2,3,4,5,6,7,x\n", "line 2: expected a finite number, got 'x'"),
        ("--golden", b"1,2,3,4,5,6,7,nan\n", "line 1: expected a finite number, got 'nan'"),
        ("--golden", b"1,2,3,4,5,6,7,8\n" * 1001, "holds 1001 rows; give at most 1000"),
        ("--golden", b"\xff\xfe\x00", "is not CSV"),
        ("--golden", b"1,2,3,4,5,6,7,1e39\n", "1e+39"),
        ("--labelled", b"1,2,3,4,5,6,7,8\n", "expected 10 columns (8 features and 2 targets), got 8"),
        ("--labelled", b"0,0,0,0,0,0,0,0,900,900\n" * 50, "of 50 labelled rows the intervals hold too few"),
    ],
)
def test_wrong_rows_are_a_sentence(
    option: str,
    content: bytes | None,
    words: str,
    run: Callable[..., Any],
    server: S3Server,
    bucket: str,
    workspace: LocalFilesystemProvider,
    tmp_path: Path,
) -> None:
    path = tmp_path / "rows.csv"
    if content is not None:
        path.write_bytes(content)
    code, stdout, stderr = run(workspace, "--to", f"s3://{bucket}", option, path)
    assert (code, stdout) == (2, "")
    assert words in stderr
    assert len(stderr.splitlines()) == 1
    assert server.keys(bucket) == []


def test_the_forward_mode_of_the_publisher(
    run: Callable[..., Any], server: S3Server, bucket: str, workspace: LocalFilesystemProvider, cache: ArtifactCache
) -> None:
    assert run(workspace, "--to", f"s3://{bucket}", "--forward-mode", "deterministic")[0] == 0
    provider = S3Provider(f"s3://{bucket}", cache=cache, connection=server.connection())
    worker = ModelStore("mccp-uq", provider, cache, LoadOptions())
    worker.start(None)
    assert "was made for forward mode deterministic" in (worker.reason or "")


def test_checks_of_the_workspace_are_published_with_it(
    run: Callable[..., Any], bucket: str, server: S3Server, workspace: LocalFilesystemProvider, cache: ArtifactCache
) -> None:
    workspace.get_checks_path().write_bytes(
        b'{"labelled": {"features": [[0,0,0,0,0,0,0,0]], "targets": [[0,0]], "seed": 1}}'
    )
    assert run(workspace, "--to", f"s3://{bucket}")[0] == 0
    checks = read_checks(S3Provider(f"s3://{bucket}", cache=cache, connection=server.connection()).load().checks or b"")
    assert checks.labelled is not None
    assert checks.calibration is not None
    workspace.get_checks_path().write_bytes(b"{")
    code, _, stderr = run(workspace, "--to", f"s3://{bucket}")
    assert (code, stderr.startswith("checks.json: it cannot be used to check the model")) == (2, True)
