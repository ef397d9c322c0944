"""Each error about a source is provoked once; what it says stands in docs/troubleshooting.md, word for word.

Only addresses, hashes and numbers are another's there.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from builders.artifacts import mqnn_h5_bytes, write_workspace
from builders.fault_proxy import Fault, FaultProxy, fault_proxy
from builders.mlflow_server import mlflow_server
from builders.publisher import BUCKET, PREFIX, SOURCE, Publisher, publishing
from builders.s3_server import NO_AWS, S3Server, checking_signatures, free_port
from uqueue_config.errors import ModelError
from uqueue_worker.artifacts import ArtifactCache, MLflowProvider, S3Connection, S3Provider, remote
from uqueue_worker.artifacts import bucket as bucket_module
from uqueue_worker.artifacts.bucket import Bucket
from uqueue_worker.artifacts.local import LocalFilesystemProvider
from uqueue_worker.artifacts.s3_versions import S3Versions
from uqueue_worker.publish.to_mlflow import register

TEXT = (Path(__file__).parents[2] / "docs/troubleshooting.md").read_text()
LATEST = f"{PREFIX}/mccp-uq/latest.json"
SKEW = b"""<Error><Code>RequestTimeTooSkewed</Code><Message>The difference between the request time and the current time
is too large.</Message></Error>"""
BUSY = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
MOVED = b"""<Error><Code>IllegalLocationConstraintException</Code><Message>The eu-central-1 location constraint is
incompatible for the region specific endpoint this request was sent to.</Message></Error>"""


def comparable(message: str) -> str:
    """Return a message without what is another's: addresses, hashes, numbers."""
    message = re.sub(r"(https?://)[\w.-]+:\d+", r"\1ADDRESS", message)
    message = message.replace("Amazon S3", "http://ADDRESS")
    message = re.sub(r"host='[\w.-]+', port=\d+", "ADDRESS", message)
    message = re.sub(r"[0-9a-f]{8,}…?", "HASH", message)
    return re.sub(r"\d+", "N", message)


DOCUMENTED = {
    code: [comparable(quoted) for quoted in re.findall(r"^> (.+)$", section, flags=re.MULTILINE)]
    for code, section in re.findall(r"^## `(\w+)`\n(.*?)(?=^## |\Z)", TEXT, flags=re.MULTILINE | re.DOTALL)
}


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing comes from the AWS settings of whoever runs this, and nothing waits longer than it must."""
    for name, value in NO_AWS.items():
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    monkeypatch.setattr(bucket_module, "ATTEMPTS", 1)
    monkeypatch.setattr(bucket_module, "READ_SECONDS", 1.0)
    monkeypatch.setattr(remote, "PATIENCE_SECONDS", 60.0)
    bucket_module._client.cache_clear()


@pytest.fixture
def publisher(tmp_path: Path) -> Iterator[Publisher]:
    with publishing(tmp_path) as running:
        yield running
    bucket_module._client.cache_clear()


@pytest.fixture
def proxy(publisher: Publisher) -> Iterator[FaultProxy]:
    with fault_proxy(publisher.server.url) as running:
        yield running


class Provoked:
    """What providers said, by the error's code."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._number = 0
        self.messages: list[tuple[str, str]] = []

    def s3(self, connection: S3Connection, source: str = SOURCE) -> None:
        self._note(S3Provider(source, cache=self.cache(), connection=connection).load)

    def mlflow(self, url: str, source: str = "models:/energy@production") -> None:
        self._note(MLflowProvider(source, tracking_url=url, cache=self.cache()).load)

    def cache(self) -> ArtifactCache:
        self._number += 1
        return ArtifactCache(self._folder / str(self._number), source="")

    def _note(self, call: Callable[[], object]) -> None:
        with pytest.raises(ModelError) as caught:
            call()
        self.messages.append((caught.value.code, caught.value.message))

    def check(self, *codes: str) -> None:
        assert [code for code, _ in self.messages] == list(codes)
        for code, message in self.messages:
            assert comparable(message) in DOCUMENTED[code], f"{message}\n" + "\n".join(DOCUMENTED[code])


@pytest.fixture
def provoked(tmp_path: Path) -> Provoked:
    return Provoked(tmp_path / "caches")


def test_addresses(
    publisher: Publisher, proxy: FaultProxy, provoked: Provoked, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = publisher.server
    provoked.s3(server.connection(f"http://127.0.0.1:{free_port()}"))
    provoked.s3(server.connection(server.url.replace("http:", "https:")))
    proxy.break_all(Fault(hang=True))
    provoked.s3(server.connection(proxy.url))
    for fault in (
        Fault(status=503, body=BUSY),
        Fault(status=404, body=b"404 page not found"),
        Fault(status=200, body=b"<html>hello</html>"),
        Fault(status=400, body=MOVED),
    ):
        proxy.break_all(fault)
        provoked.s3(server.connection(proxy.url))
    monkeypatch.setitem(sys.modules, "boto3", None)
    bucket_module._client.cache_clear()
    provoked.s3(server.connection())
    provoked.check(*["source_unreachable"] * 4, *["source"] * 4)


def test_buckets_and_keys(publisher: Publisher, provoked: Provoked) -> None:
    provoked.s3(publisher.server.connection(), "s3://modles/team/a")
    provoked.s3(publisher.server.connection(), "s3://models/team/b")
    provoked.check("source_not_found", "nothing_published")


def test_credentials(publisher: Publisher, provoked: Provoked) -> None:
    publisher.good(1)
    server = publisher.server
    iam = server.client("iam")
    iam.create_user(UserName="nobody")
    key = iam.create_access_key(UserName="nobody")["AccessKey"]
    with checking_signatures(server) as known:
        provoked.s3(S3Server(server.url, "AKIAUNKNOWN", "x").connection())
        provoked.s3(S3Server(server.url, known.access_key_id, "x").connection())
        provoked.s3(S3Connection(server.url, "us-east-1"))
        provoked.s3(S3Server(server.url, key["AccessKeyId"], key["SecretAccessKey"]).connection())
    provoked.check(*["source_denied"] * 4)


def test_clock_skew(publisher: Publisher, proxy: FaultProxy, provoked: Provoked) -> None:
    proxy.break_all(Fault(status=403, body=SKEW))
    provoked.s3(publisher.server.connection(proxy.url))
    provoked.check("source_clock_skew")


def test_what_was_published_and_is_no_longer_so(publisher: Publisher, proxy: FaultProxy, provoked: Provoked) -> None:
    client, connection = publisher.server.client(), publisher.server.connection(proxy.url)
    publisher.good(1)
    proxy.break_path("model.h5", Fault(keep_bytes=1000))
    provoked.s3(connection)
    proxy.break_path("model.h5", Fault(flip=True))
    provoked.s3(connection)
    proxy.mend()
    publisher.damaged(2, publisher.delete)
    provoked.s3(connection)
    publisher.damaged(3, lambda manifest: overwrite(publisher, manifest))
    provoked.s3(connection)
    whole = client.get_object(Bucket=BUCKET, Key=LATEST)["Body"].read()
    client.put_object(Bucket=BUCKET, Key=LATEST, Body=whole[: whole.rindex(b":") + 1])
    provoked.s3(connection)
    found = ["incomplete_artifact", "artifact_mismatch", "incomplete_artifact", "artifact_mismatch", "invalid_manifest"]
    provoked.check(*found)


def overwrite(publisher: Publisher, manifest: dict[str, Any]) -> None:
    """Put another object where a manifest without VersionIds names one."""
    del manifest["files"]["model.h5"]["version_id"]
    key = f"{PREFIX}/mccp-uq/{manifest['version']}/model.h5"
    publisher.server.client().put_object(Bucket=BUCKET, Key=key, Body=b"another")


def test_a_version_that_is_taken(publisher: Publisher, provoked: Provoked, tmp_path: Path) -> None:
    versions = S3Versions(Bucket(BUCKET, publisher.server.connection()), PREFIX, "mccp-uq")
    pairs = []
    for number in (1, 2):
        write_workspace(tmp_path / str(number), model=mqnn_h5_bytes(seed=number, hidden=(4,)))
        pairs.append(LocalFilesystemProvider(tmp_path / str(number)).load())
    versions.upload(pairs[0], "v1")
    provoked._note(lambda: versions.upload(pairs[1], "v1"))
    provoked.check("version_taken")


def test_mlflow(provoked: Provoked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    write_workspace(tmp_path / "workspace", model=mqnn_h5_bytes(hidden=(4,)))
    pair = LocalFilesystemProvider(tmp_path / "workspace").load()
    with mlflow_server(tmp_path) as url, fault_proxy(url) as proxy:
        register(pair, "energy", url, ())
        provoked.mlflow(url)
        proxy.break_path("/mccp-uq/model.h5", Fault(keep_bytes=10))
        provoked.mlflow(proxy.url, "models:/energy/1")
        proxy.break_all(Fault(status=401, body=b"You are not authenticated."))
        provoked.mlflow(proxy.url, "models:/energy/1")
    provoked.mlflow(f"http://127.0.0.1:{free_port()}", "models:/energy/1")
    provoked.check("nothing_published", "incomplete_artifact", "source_denied", "source_unreachable")
