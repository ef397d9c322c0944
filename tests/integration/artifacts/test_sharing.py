"""Several processes of one machine and one cache: one of them downloads, all get the same, damage is repaired."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

from builders.fault_proxy import Fault, FaultProxy
from builders.s3_server import S3Server
from uqueue_worker.artifacts import ArtifactCache, ArtifactPair, S3Provider
from uqueue_worker.models.store import LoadOptions, ModelStore

Make = Callable[..., ArtifactPair]
Publish = Callable[..., str]
PROCESS = """
import sys
from pathlib import Path
from pydantic import SecretStr
from uqueue_worker.artifacts import ArtifactCache, S3Connection, S3Provider
url, key, secret, source, folder = sys.argv[1:]
connection = S3Connection(url, "us-east-1", key, SecretStr(secret))
provider = S3Provider(source, cache=ArtifactCache(Path(folder), source="this bucket"), connection=connection)
print("ready", flush=True)
sys.stdin.readline()
print(provider.load().version)
"""


def test_processes_that_start_at_once_download_once(
    server: S3Server,
    bucket: str,
    proxy: FaultProxy,
    cache: ArtifactCache,
    publish: Publish,
    make_pair: Make,
) -> None:
    pair = make_pair(size=1_000_000)
    publish(pair)
    proxy.break_path("model.h5", Fault(slow_seconds=0.3), times=4)
    folder = cache.place("x", "y").parents[1]
    arguments = [proxy.url, server.access_key_id, server.secret_access_key, f"s3://{bucket}/team/a", str(folder)]
    started = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    outcomes = [process.communicate("go\n", timeout=60) for process in started]
    assert outcomes == [(f"{pair.version}\n", "")] * 2
    assert proxy.seen("GET", "latest.json") == 2
    assert proxy.seen("GET", "model.h5") == 1
    assert cache.get("mccp-uq", pair.version) == pair


def test_a_process_that_died_while_it_downloaded_holds_nobody_up(
    provider: S3Provider, proxy: FaultProxy, cache: ArtifactCache, publish: Publish, make_pair: Make
) -> None:
    publish(make_pair())
    folder = cache.place("mccp-uq", "y").parent
    code = f"""
import os, sys
sys.path[:] = {sys.path!r}
from pathlib import Path
from uqueue_worker.artifacts import ArtifactCache
with ArtifactCache(Path({str(folder.parent)!r})).turn("mccp-uq", 5):
    os.kill(os.getpid(), 9)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    assert (folder / "turn").exists()
    assert provider.load() == make_pair()


@pytest.mark.parametrize("file", ["model.h5", "mccp_state.pkl", "pair.json"])
def test_a_damaged_cache_entry_is_downloaded_again(
    server: S3Server,
    bucket: str,
    provider: S3Provider,
    proxy: FaultProxy,
    cache: ArtifactCache,
    publish: Publish,
    make_pair: Make,
    file: str,
) -> None:
    pair = make_pair()
    publish(pair)
    cache.put(provider.load())
    place = cache.place("mccp-uq", pair.version) / file
    place.write_bytes(place.read_bytes()[:-3])
    downloads = proxy.seen("GET", "model.h5")
    again = S3Provider(f"s3://{bucket}/team/a", cache=cache, connection=server.connection(proxy.url))
    assert again.load() == pair
    assert proxy.seen("GET", "model.h5") == downloads + 1
    assert cache.get("mccp-uq", pair.version) == pair


def test_a_cache_that_cannot_be_written_costs_only_time(
    server: S3Server, bucket: str, publish: Publish, make_pair: Make, cache: ArtifactCache
) -> None:
    publish(make_pair())
    folder = cache.place("mccp-uq", "y").parents[1]
    folder.write_bytes(b"not a folder")
    provider = S3Provider(f"s3://{bucket}/team/a", cache=cache, connection=server.connection())
    assert provider.load() == make_pair()
    assert provider.fetch(make_pair().version) == make_pair()


def test_a_store_refuses_what_is_no_model_and_keeps_serving(
    provider: S3Provider, cache: ArtifactCache, publish: Publish, make_pair: Make, real_pair: ArtifactPair
) -> None:
    """The hashes of a version may be right and the model in it wrong; two polls of it change nothing either."""
    store = ModelStore("mccp-uq", provider, cache, LoadOptions(engine="numpy"))
    publish(real_pair)
    assert store.examine().outcome == "moved"
    publish(make_pair())
    for _ in range(2):
        found = store.examine()
        assert (found.outcome, found.version) == ("rejected", make_pair().version)
    assert store.version == real_pair.version
    publish(real_pair)
    assert store.examine().outcome == "unchanged"
