"""A bucket as a source: what is named is read, pinned and checked; looking costs one request."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable

import pytest

from builders.fault_proxy import Fault, FaultProxy
from builders.s3_server import S3Server
from builders.waiting import eventually
from uqueue_config.errors import NothingPublished
from uqueue_worker.artifacts import ArtifactCache, ArtifactPair, S3Provider, remote
from uqueue_worker.artifacts.bucket import Bucket
from uqueue_worker.artifacts.s3_versions import S3Versions

Make = Callable[..., ArtifactPair]
Publish = Callable[..., str]


def test_what_was_published_is_what_is_loaded(provider: S3Provider, publish: Publish, make_pair: Make) -> None:
    pair = make_pair()
    assert provider.get_model_path().name == "model.h5"
    publish(pair)
    assert provider.version() == pair.version
    assert provider.load() == pair
    assert provider.get_model_path().read_bytes() == pair.model
    assert provider.get_state_path().read_bytes() == pair.state


def test_the_layout(server: S3Server, bucket: str, publish: Publish, make_pair: Make) -> None:
    pair = make_pair()
    publish(pair, "latest", "@canary", version="2026-11-21")
    folder = "team/a/mccp-uq"
    assert set(server.keys(bucket)) == {
        f"{folder}/2026-11-21/manifest.json",
        f"{folder}/2026-11-21/mccp_state.pkl",
        f"{folder}/2026-11-21/model.h5",
        f"{folder}/{pair.version}/manifest.json",
        f"{folder}/aliases/canary.json",
        f"{folder}/latest.json",
        f"{folder}/weights/{pair.model_file.sha256[:16]}.json",
    }
    body = server.client().get_object(Bucket=bucket, Key=f"{folder}/latest.json")["Body"].read()
    manifest = json.loads(body)
    assert (manifest["version"], manifest["content"]) == ("2026-11-21", pair.version)
    assert manifest["files"]["model.h5"]["sha256"] == pair.model_file.sha256
    for file in ("model.h5", "mccp_state.pkl"):
        head = server.client().head_object(Bucket=bucket, Key=f"{folder}/2026-11-21/{file}")
        assert manifest["files"][file]["etag"] == head["ETag"]
        assert manifest["files"][file]["version_id"] == head["VersionId"]


def test_versions_and_aliases(
    server: S3Server, bucket: str, cache: ArtifactCache, publish: Publish, make_pair: Make
) -> None:
    old, new = make_pair(1), make_pair(2)
    publish(old, "latest", version="v1")
    publish(new, "@canary", version="v2")
    for wanted, pair in {"": old, "?version=@canary": new, "?version=v1": old, "?version=v2": new}.items():
        source = f"s3://{bucket}/team/a{wanted}"
        assert S3Provider(source, cache=cache, connection=server.connection()).load() == pair
    nobody = S3Provider(f"s3://{bucket}/team/a?version=@nobody", cache=cache, connection=server.connection())
    with pytest.raises(NothingPublished, match=r"aliases/nobody\.json is missing"):
        nobody.load()


def test_a_poll_is_one_conditional_request(
    provider: S3Provider, proxy: FaultProxy, publish: Publish, make_pair: Make
) -> None:
    publish(make_pair())
    provider.load()
    proxy.requests.clear()
    for _ in range(5):
        provider.version()
    assert [(method, status) for method, _, status in proxy.requests] == [("GET", 304)] * 5


def test_a_new_version_is_seen_and_an_old_one_comes_from_the_cache(
    provider: S3Provider, proxy: FaultProxy, publish: Publish, make_pair: Make
) -> None:
    first, second = make_pair(1), make_pair(2)
    publish(first)
    provider.load()
    publish(second)
    assert provider.version() == second.version
    assert provider.load() == second
    proxy.requests.clear()
    publish(first)
    assert provider.version() == first.version
    assert proxy.seen("GET", "model.h5") == 0


def test_files_without_a_manifest_are_nothing(
    server: S3Server, bucket: str, provider: S3Provider, publish: Publish, make_pair: Make
) -> None:
    """A publisher that died before its last step."""
    pair = make_pair(1)
    server.client().put_object(Bucket=bucket, Key="team/a/mccp-uq/half/model.h5", Body=b"half")
    with pytest.raises(NothingPublished, match=r"latest\.json is missing.*uqueue publish"):
        provider.version()
    publish(pair)
    server.client().put_object(Bucket=bucket, Key="team/a/mccp-uq/other/model.h5", Body=b"half")
    assert provider.version() == pair.version


def test_an_object_that_is_overwritten_is_read_as_it_was_published(
    server: S3Server, bucket: str, provider: S3Provider, publish: Publish, make_pair: Make
) -> None:
    """The manifest pins VersionIds."""
    pair = make_pair()
    publish(pair, version="v1")
    server.client().put_object(Bucket=bucket, Key="team/a/mccp-uq/v1/model.h5", Body=b"something else")
    server.client().delete_object(Bucket=bucket, Key="team/a/mccp-uq/v1/mccp_state.pkl")
    assert provider.load() == pair


def test_any_content_that_was_published_can_be_fetched(
    provider: S3Provider, proxy: FaultProxy, publish: Publish, make_pair: Make
) -> None:
    """As by a process that starts late while "latest" has moved on, or is broken."""
    wanted, later = make_pair(1), make_pair(2)
    publish(wanted, version="named")
    publish(later)
    assert provider.load() == later
    assert provider.fetch(wanted.version) == wanted
    proxy.requests.clear()
    assert provider.fetch(wanted.version) == wanted
    assert proxy.requests == []
    with pytest.raises(NothingPublished, match=r"0123456789abcdef/manifest\.json is missing"):
        provider.fetch("0123456789abcdef")


def test_a_look_never_holds_up_a_process_that_has_a_model(
    provider: S3Provider,
    proxy: FaultProxy,
    publish: Publish,
    make_pair: Make,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, second = make_pair(1), make_pair(2)
    publish(first)
    provider.load()
    publish(second)
    proxy.break_path("model.h5", Fault(slow_seconds=1.5), times=1)
    monkeypatch.setattr(remote, "PATIENCE_SECONDS", 0.05)
    assert provider.version() == first.version
    assert provider.load() == first
    eventually(lambda: provider.version() == second.version, "the download ends")
    assert provider.load() == second
    assert proxy.seen("GET", "model.h5") == 2


def test_polls_at_the_same_time_share_one_look(
    provider: S3Provider, proxy: FaultProxy, publish: Publish, make_pair: Make
) -> None:
    pair = make_pair()
    publish(pair)
    proxy.break_path("latest.json", Fault(slow_seconds=0.3), times=1)
    found: list[str] = []
    polls = [threading.Thread(target=lambda: found.append(provider.version())) for _ in range(8)]
    for poll in polls:
        poll.start()
    for poll in polls:
        poll.join()
    assert found == [pair.version] * 8
    assert proxy.seen("GET", "latest.json") == 1
    assert proxy.seen("GET", "model.h5") == 1


def test_an_unversioned_bucket_will_do(server: S3Server, cache: ArtifactCache, make_pair: Make) -> None:
    name = server.make_bucket("models-plain", versioned=False)
    versions, pair = S3Versions(Bucket(name, server.connection()), "", "mccp-uq"), make_pair()
    versions.point("latest", versions.upload(pair))
    assert S3Provider(f"s3://{name}", cache=cache, connection=server.connection()).load() == pair
    assert "mccp-uq/latest.json" in server.keys(name)


def test_another_source_is_refused(cache: ArtifactCache) -> None:
    with pytest.raises(ValueError, match="s3://bucket/prefix"):
        S3Provider("/a/folder", cache=cache)
