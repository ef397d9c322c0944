"""An S3 server, an MLflow server and a bucket for the tests of this folder."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from builders.artifacts import mqnn_h5_bytes, write_workspace
from builders.fault_proxy import FaultProxy, fault_proxy
from builders.mlflow_server import mlflow_server
from builders.s3_server import NO_AWS, S3Server, s3_server
from uqueue_worker.artifacts import ArtifactCache, ArtifactPair, LocalFilesystemProvider, S3Provider, remote
from uqueue_worker.artifacts import bucket as bucket_module
from uqueue_worker.artifacts.bucket import Bucket
from uqueue_worker.artifacts.pair import fingerprint
from uqueue_worker.artifacts.s3_versions import S3Versions

MakePair = Callable[..., ArtifactPair]


@pytest.fixture(autouse=True)
def no_aws_of_whoever_runs_this(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in NO_AWS.items():
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)


@pytest.fixture(scope="session", autouse=True)
def paced_for_tests() -> Iterator[None]:
    """No sleeping between attempts, and no giving up on a look because the machine is busy.

    Clients are made once per store, so this must come before the first one.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bucket_module, "ATTEMPTS", 1)
        patch.setattr(remote, "PATIENCE_SECONDS", 60.0)
        yield


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3")) as running:
        yield running


@pytest.fixture(scope="session")
def mlflow_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with mlflow_server(tmp_path_factory.mktemp("mlflow")) as url:
        yield url


@pytest.fixture
def bucket(server: S3Server) -> str:
    """A versioned bucket of this test's own."""
    return server.make_bucket(f"models-{uuid.uuid4().hex[:8]}")


@pytest.fixture(scope="session")
def shared_proxy(server: S3Server) -> Iterator[FaultProxy]:
    with fault_proxy(server.url) as running:
        yield running


@pytest.fixture
def proxy(shared_proxy: FaultProxy) -> FaultProxy:
    """A proxy in front of the S3 server, with nothing broken and nothing noted."""
    shared_proxy.mend()
    shared_proxy.requests.clear()
    return shared_proxy


@pytest.fixture
def versions(server: S3Server, bucket: str) -> S3Versions:
    """Where a publisher writes."""
    return S3Versions(Bucket(bucket, server.connection()), "team/a", "mccp-uq")


@pytest.fixture
def cache(tmp_path: Path) -> ArtifactCache:
    return ArtifactCache(tmp_path / "cache", source="this bucket")


@pytest.fixture
def provider(server: S3Server, bucket: str, proxy: FaultProxy, cache: ArtifactCache) -> S3Provider:
    """A reader of the bucket, through the proxy."""
    return S3Provider(f"s3://{bucket}/team/a", cache=cache, connection=server.connection(proxy.url))


@pytest.fixture
def make_pair() -> MakePair:
    """Return pairs that differ by their number; a provider does not look into them."""

    def make(number: int = 0, *, size: int = 3000) -> ArtifactPair:
        model, state = f"model {number} ".encode() * (size // 8), f"state {number}".encode()
        return ArtifactPair(
            "mccp-uq", model, state, fingerprint(model, 1_000 + number), fingerprint(state, 2_000 + number)
        )

    return make


@pytest.fixture(scope="session")
def real_pair(tmp_path_factory: pytest.TempPathFactory) -> ArtifactPair:
    """A pair that a worker would serve."""
    folder = tmp_path_factory.mktemp("workspace")
    write_workspace(folder, model=mqnn_h5_bytes(hidden=(4,)))
    return LocalFilesystemProvider(folder).load()


@pytest.fixture
def publish(versions: S3Versions) -> Callable[..., str]:
    """Upload a pair and let "latest" name it."""

    def upload(pair: ArtifactPair, *names: str, version: str | None = None) -> str:
        manifest = versions.upload(pair, version)
        for name in names or ("latest",):
            versions.point(name, manifest)
        return manifest.content

    return upload
