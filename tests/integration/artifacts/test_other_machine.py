"""A machine with a cache of its own gets exactly the version that is wanted, whatever became of the source since."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from builders.artifacts import mqnn_h5_bytes, write_state_pickle
from builders.fault_proxy import Fault, FaultProxy
from builders.s3_server import S3Server
from builders.waiting import eventually
from uqueue_config.ledger import Wish
from uqueue_worker.artifacts import ArtifactCache, ArtifactPair, S3Provider, patience
from uqueue_worker.artifacts.pair import fingerprint
from uqueue_worker.models.store import LoadOptions, ModelStore

Publish = Callable[..., str]


def pair(number: int) -> ArtifactPair:
    model, state = mqnn_h5_bytes(seed=number, hidden=(4,)), write_state_pickle(q_hat=float(number))
    return ArtifactPair("mccp-uq", model, state, fingerprint(model, 1), fingerprint(state, 2))


@pytest.fixture
def store(provider: S3Provider, cache: ArtifactCache) -> ModelStore:
    """A process on the other machine."""
    return ModelStore("mccp-uq", provider, cache, LoadOptions(engine="numpy"))


def test_a_late_start_while_the_latest_version_is_broken(
    store: ModelStore, server: S3Server, bucket: str, publish: Publish
) -> None:
    wanted = publish(pair(1))
    publish(pair(2))
    latest = {"Bucket": bucket, "Key": "team/a/mccp-uq/latest.json"}
    manifest = json.loads(server.client().get_object(**latest)["Body"].read())
    manifest["files"]["model.h5"]["sha256"] = "0" * 64
    server.client().put_object(**latest, Body=json.dumps(manifest).encode())
    store.start(Wish(wanted))
    assert store.version == wanted
    assert store.reason is None


def test_an_outage_at_the_moment_of_a_move_delays_it(
    store: ModelStore, proxy: FaultProxy, publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "FIRST_PAUSE_SECONDS", 0.01)
    old = publish(pair(1))
    store.start(Wish(old))
    new = publish(pair(2))
    proxy.break_all(Fault(status=503, body=b"<Error><Code>SlowDown</Code><Message>busy</Message></Error>"))
    assert not store.follow(Wish(new))
    assert store.serve(Wish(new)).identity.version == old
    assert "SlowDown" in (store.reason or "")
    proxy.mend()
    eventually(lambda: store.follow(Wish(new)), "it is tried again")
    assert (store.version, store.reason) == (new, None)
