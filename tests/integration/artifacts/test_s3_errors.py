"""Everything that goes wrong with a bucket is a sentence of its own kind, says what to do, and takes no model away."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from builders.fault_proxy import Fault, FaultProxy
from builders.s3_server import S3Server, checking_signatures, free_port
from builders.waiting import eventually
from uqueue_config.errors import (
    ArtifactMismatch,
    IncompleteArtifact,
    InvalidManifest,
    ModelError,
    ModelInvalid,
    NothingPublished,
    SourceClockSkew,
    SourceDenied,
    SourceError,
    SourceNotFound,
    SourceUnreachable,
)
from uqueue_worker.artifacts import ArtifactCache, ArtifactPair, S3Connection, S3Provider, bucket, patience, remote

Make = Callable[..., ArtifactPair]
Publish = Callable[..., str]
FOLDER = "team/a/mccp-uq"
SKEW = b"""<?xml version="1.0" encoding="UTF-8"?><Error><Code>RequestTimeTooSkewed</Code><Message>The difference between
the request time and the current time is too large.</Message></Error>"""
MOVED = b"""<Error><Code>IllegalLocationConstraintException</Code><Message>The eu-central-1 location constraint is
incompatible for the region specific endpoint this request was sent to.</Message></Error>"""
BUSY = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"


def refused(provider: S3Provider, kind: type[ModelError]) -> str:
    """Return what the provider says; it must be of exactly this kind."""
    with pytest.raises(kind) as caught:
        provider.load()
    assert type(caught.value) is kind
    return caught.value.message


def read_from(connection: S3Connection, cache: ArtifactCache, source: str = "s3://models/team/a") -> S3Provider:
    return S3Provider(source, cache=cache, connection=connection)


@pytest.mark.parametrize("host", ["127.0.0.1", "no-such-host.invalid"])
def test_a_wrong_endpoint(host: str, cache: ArtifactCache) -> None:
    url = f"http://{host}:{free_port()}"
    said = refused(read_from(S3Connection(url, None, "k", SecretStr("s")), cache), SourceUnreachable)
    assert said.startswith(f"s3://models at {url} does not answer: ")
    assert "Check UQUEUE_S3_ENDPOINT_URL" in said


def test_an_endpoint_that_never_answers(
    server: S3Server, proxy: FaultProxy, cache: ArtifactCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket, "READ_SECONDS", 0.3)
    proxy.break_all(Fault(hang=True))
    connection = server.connection(proxy.url.replace("127.0.0.1", "localhost"))
    assert "Read timeout" in refused(read_from(connection, cache), SourceUnreachable)


def test_an_endpoint_that_speaks_tls_no_more_than_http(server: S3Server, cache: ArtifactCache) -> None:
    connection = server.connection(server.url.replace("http:", "https:"))
    assert "SSL" in refused(read_from(connection, cache), SourceUnreachable)


@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        (Fault(status=404, body=b"<html>no such page</html>"), SourceError, "may be that of another service"),
        (Fault(status=200, body=b"<html>hello</html>"), SourceError, "what answers there is no S3 store"),
        (Fault(status=503, body=BUSY), SourceUnreachable, "SlowDown"),
        (Fault(status=500, body=b""), SourceUnreachable, "500"),
        (Fault(status=400, body=MOVED), SourceError, "set UQUEUE_S3_REGION"),
        (Fault(status=403, body=SKEW), SourceClockSkew, "Set the clock of this machine"),
    ],
)
def test_answers_that_are_of_no_use(
    proxy: FaultProxy, provider: S3Provider, fault: Fault, kind: type[ModelError], words: str
) -> None:
    proxy.break_all(fault)
    assert words in refused(provider, kind)


def test_a_wrong_bucket(server: S3Server, cache: ArtifactCache) -> None:
    said = refused(read_from(server.connection(), cache, "s3://no-such-bucket/team/a"), SourceNotFound)
    assert "NoSuchBucket" in said
    assert "Check the bucket's name in UQUEUE_ARTIFACT_SOURCE" in said


def test_a_wrong_prefix(server: S3Server, bucket: str, cache: ArtifactCache) -> None:
    said = refused(read_from(server.connection(), cache, f"s3://{bucket}/elsewhere"), NothingPublished)
    assert f"s3://{bucket}/elsewhere/mccp-uq/latest.json is missing" in said
    assert "correct UQUEUE_ARTIFACT_SOURCE" in said


def test_credentials(server: S3Server, bucket: str, cache: ArtifactCache, publish: Publish, make_pair: Make) -> None:
    publish(make_pair())
    source = f"s3://{bucket}/team/a"
    with checking_signatures(server) as known:
        wrong_key = S3Server(server.url, "AKIAUNKNOWN", "x").connection()
        wrong_secret = S3Server(server.url, known.access_key_id, "x").connection()
        assert "InvalidAccessKeyId" in refused(read_from(wrong_key, cache, source), SourceDenied)
        said = refused(read_from(wrong_secret, cache, source), SourceDenied)
        assert "SignatureDoesNotMatch" in said
        assert "Check UQUEUE_S3_ACCESS_KEY_ID and UQUEUE_S3_SECRET_ACCESS_KEY" in said
        none = S3Connection(f"{server.url}/", "us-east-1")
        assert "Unable to locate credentials" in refused(read_from(none, cache, source), SourceDenied)
        assert read_from(known.connection(), cache, source).load() == make_pair()


def test_credentials_from_where_aws_tools_find_them(
    server: S3Server,
    bucket: str,
    cache: ArtifactCache,
    publish: Publish,
    make_pair: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    publish(make_pair())
    with checking_signatures(server) as known:
        lines = f"aws_access_key_id={known.access_key_id}\naws_secret_access_key={known.secret_access_key}\n"
        (tmp_path / "credentials").write_text(f"[default]\n{lines}")
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
        connection = S3Connection(server.url.replace("127.0.0.1", "localhost"))
        assert read_from(connection, cache, f"s3://{bucket}/team/a").load() == make_pair()


def test_a_manifest_that_names_a_missing_file(
    server: S3Server, bucket: str, provider: S3Provider, publish: Publish, make_pair: Make
) -> None:
    publish(make_pair(), version="v1")
    key = f"{FOLDER}/v1/model.h5"
    there = server.client().head_object(Bucket=bucket, Key=key)["VersionId"]
    server.client().delete_object(Bucket=bucket, Key=key, VersionId=there)
    said = refused(provider, IncompleteArtifact)
    assert f"s3://{bucket}/{key}: the manifest names it, and it is not there" in said


def change_manifest(server: S3Server, bucket: str, change: Callable[[dict[str, Any]], None]) -> None:
    key = f"{FOLDER}/latest.json"
    manifest = json.loads(server.client().get_object(Bucket=bucket, Key=key)["Body"].read())
    change(manifest)
    server.client().put_object(Bucket=bucket, Key=key, Body=json.dumps(manifest).encode())


def test_a_wrong_hash(server: S3Server, bucket: str, provider: S3Provider, publish: Publish, make_pair: Make) -> None:
    publish(make_pair())
    change_manifest(server, bucket, lambda manifest: manifest["files"]["model.h5"].update(sha256="0" * 64))
    said = refused(provider, ArtifactMismatch)
    assert f"model.h5: its sha256 is {make_pair().model_file.sha256}, published was {'0' * 64}" in said


def test_an_object_replaced_in_an_unversioned_bucket(
    server: S3Server, bucket: str, provider: S3Provider, publish: Publish, make_pair: Make
) -> None:
    publish(make_pair(), version="v1")
    change_manifest(server, bucket, lambda manifest: manifest["files"]["model.h5"].pop("version_id"))
    server.client().put_object(Bucket=bucket, Key=f"{FOLDER}/v1/model.h5", Body=make_pair(2).model)
    assert "its ETag is" in refused(provider, ArtifactMismatch)


def test_bytes_that_change_on_their_way(
    proxy: FaultProxy, provider: S3Provider, publish: Publish, make_pair: Make
) -> None:
    publish(make_pair())
    proxy.break_path("model.h5", Fault(flip=True))
    assert "its sha256 is" in refused(provider, ArtifactMismatch)


def test_a_truncated_download(proxy: FaultProxy, provider: S3Provider, publish: Publish, make_pair: Make) -> None:
    publish(make_pair())
    proxy.break_path("model.h5", Fault(keep_bytes=100))
    said = refused(provider, IncompleteArtifact)
    assert "model.h5: the connection ended after 100 of 3000 bytes" in said


def test_a_download_that_is_truncated_once_is_repeated(
    proxy: FaultProxy, provider: S3Provider, publish: Publish, make_pair: Make
) -> None:
    publish(make_pair())
    proxy.break_path("model.h5", Fault(keep_bytes=100), times=1)
    assert provider.load() == make_pair()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "Invalid JSON"),
        (b"[" * 60_000, "Invalid JSON"),
        (b'{"schema": 2}', "schema"),
        (b"\xff\xfe", "Invalid JSON"),
        (b'{"schema": 1, "model": "mccp-uq", "version": "../../etc", "created_at": "", "files": {}}', "version"),
    ],
)
def test_a_manifest_that_is_none(server: S3Server, bucket: str, provider: S3Provider, body: bytes, words: str) -> None:
    server.client().put_object(Bucket=bucket, Key=f"{FOLDER}/latest.json", Body=body)
    said = refused(provider, InvalidManifest)
    assert "latest.json: it is not a manifest of a published pair" in said
    assert words in said


def test_a_manifest_of_another_model(
    server: S3Server, bucket: str, provider: S3Provider, publish: Publish, make_pair: Make
) -> None:
    publish(make_pair())
    change_manifest(server, bucket, lambda manifest: manifest.update(model="other"))
    assert "it is of the model 'other', not 'mccp-uq'" in refused(provider, InvalidManifest)


def test_a_manifest_without_end(server: S3Server, bucket: str, provider: S3Provider) -> None:
    server.client().put_object(Bucket=bucket, Key=f"{FOLDER}/latest.json", Body=b" " * 200_000)
    assert "it has 200000 bytes; at most 65536 are read" in refused(provider, ModelInvalid)


def test_a_broken_version_takes_nothing_away_and_holds_up_no_better_one(
    server: S3Server,
    bucket: str,
    provider: S3Provider,
    proxy: FaultProxy,
    publish: Publish,
    make_pair: Make,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(patience, "FIRST_PAUSE_SECONDS", 1000.0)
    monkeypatch.setattr(patience, "LONGEST_PAUSE_SECONDS", 1000.0)
    good, broken, better = make_pair(1), make_pair(2), make_pair(3)
    publish(good)
    assert provider.load() == good
    publish(broken)
    change_manifest(server, bucket, lambda manifest: manifest["files"]["model.h5"].update(sha256="0" * 64))
    refused(provider, ArtifactMismatch)
    downloads = proxy.seen("GET", "model.h5")
    for _ in range(3):
        refused(provider, ArtifactMismatch)
    assert proxy.seen("GET", "model.h5") == downloads, "what is broken is not fetched at every look"
    publish(better)
    assert provider.load() == better


def test_an_outage_is_not_asked_about_at_every_poll(
    provider: S3Provider, proxy: FaultProxy, publish: Publish, make_pair: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "FIRST_PAUSE_SECONDS", 1000.0)
    monkeypatch.setattr(patience, "LONGEST_PAUSE_SECONDS", 1000.0)
    publish(make_pair())
    provider.load()
    proxy.break_all(Fault(status=503, body=BUSY))
    refused(provider, SourceUnreachable)
    proxy.requests.clear()
    for _ in range(5):
        refused(provider, SourceUnreachable)
    assert proxy.requests == []


def test_an_outage_ends(
    provider: S3Provider, proxy: FaultProxy, publish: Publish, make_pair: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "FIRST_PAUSE_SECONDS", 0.01)
    publish(make_pair())
    provider.load()
    proxy.break_all(Fault(status=503, body=BUSY))
    refused(provider, SourceUnreachable)
    publish(make_pair(2))
    proxy.mend()
    eventually(lambda: answers(provider), "it is asked again")
    assert provider.load() == make_pair(2)


def answers(provider: S3Provider) -> bool:
    try:
        return bool(provider.version())
    except SourceError:
        return False


def test_an_outage_blocks_no_poll(
    provider: S3Provider, proxy: FaultProxy, publish: Publish, make_pair: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(make_pair())
    provider.load()
    proxy.break_all(Fault(hang=True))
    monkeypatch.setattr(remote, "PATIENCE_SECONDS", 0.1)
    assert provider.version() == make_pair().version, "the look goes on; what is known is known"


def test_a_start_without_the_bucket_begins_with_what_was_served_last(
    provider: S3Provider,
    server: S3Server,
    bucket: str,
    cache: ArtifactCache,
    publish: Publish,
    make_pair: Make,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    served, only_fetched = make_pair(1), make_pair(2)
    publish(served)
    cache.put(provider.load())
    publish(only_fetched)
    provider.load()
    nowhere = S3Connection(f"http://127.0.0.1:{free_port()}", "us-east-1", "k", SecretStr("s"))
    late = read_from(nowhere, cache, f"s3://{bucket}/team/a")
    assert late.version() == served.version
    assert late.load() == served
    assert "artifacts_from_cache" in caplog.text + capsys.readouterr().out
    with pytest.raises(SourceUnreachable):
        late.version()
    empty = read_from(nowhere, ArtifactCache(cache.place("a", "b"), source="this bucket"))
    with pytest.raises(SourceUnreachable):
        empty.load()


def test_a_start_with_a_broken_version_begins_with_what_was_served_last(
    provider: S3Provider, server: S3Server, bucket: str, cache: ArtifactCache, publish: Publish, make_pair: Make
) -> None:
    publish(make_pair(1))
    cache.put(provider.load())
    publish(make_pair(2))
    change_manifest(server, bucket, lambda manifest: manifest["files"]["model.h5"].update(sha256="0" * 64))
    late = read_from(server.connection(), cache, f"s3://{bucket}/team/a")
    assert late.load() == make_pair(1)
    refused(late, ArtifactMismatch)
