"""A real worker that reads a bucket: publishing while jobs flow moves it on, an outage or a bad version does not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import uqueue
from builders.artifacts import mqnn_h5_bytes, write_workspace
from builders.command import uqueue as command
from builders.fault_proxy import Fault, FaultProxy, fault_proxy
from builders.s3_server import S3Server, s3_server
from builders.service import RunningService, running_service
from builders.traffic import ROW, SEED, Traffic
from builders.waiting import eventually
from uqueue_worker.artifacts import LocalFilesystemProvider
from uqueue_worker.models import load_interval_model

SOURCE = "s3://models/team/a"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[S3Server]:
    with s3_server(tmp_path) as running:
        running.make_bucket("models")
        yield running


@pytest.fixture
def proxy(server: S3Server) -> Iterator[FaultProxy]:
    with fault_proxy(server.url) as running:
        yield running


@pytest.fixture
def service(tmp_path: Path, server: S3Server, proxy: FaultProxy) -> Iterator[RunningService]:
    env = {"UQUEUE_ARTIFACT_SOURCE": SOURCE, "UQUEUE_POLL_SECONDS": "0.3", **server.environment(proxy.url)}
    with running_service(tmp_path / "service", concurrency=2, env=env) as running:
        yield running


def publish(service: RunningService, folder: Path, number: int) -> None:
    """Train, and publish by the command line; q_hat is the model's number, so a mixed pair shows in the answer."""
    write_workspace(folder, model=mqnn_h5_bytes(seed=number, hidden=(4,)), q_hat=float(number))
    command(service.environment, "publish", str(folder), "--to", SOURCE)


def test_publishing_while_jobs_flow(
    service: RunningService, server: S3Server, proxy: FaultProxy, tmp_path: Path
) -> None:
    client, truth = service.client, {}
    assert {process.state for process in client.model().processes} == {"no_model"}
    with pytest.raises(uqueue.UqueueError, match="uqueue publish"):
        client.submit(ROW).result(timeout=20)

    def moved_from(version: str | None) -> bool:
        model = client.model()
        return model.converged and model.wanted_version not in (None, version)

    publish(service, tmp_path / "one", 1)
    eventually(lambda: client.models() and moved_from(None), "the first version is served")
    first = client.model().wanted_version
    truth[first] = 1.0
    answer = client.submit(ROW, seed=SEED).result(timeout=20)
    from_folder = load_interval_model(LocalFilesystemProvider(tmp_path / "one")).predict(ROW, seed=SEED)
    assert answer.to_message("base64") == from_folder.to_message("base64"), "where it came from makes no difference"

    with Traffic(client) as traffic:
        eventually(lambda: traffic.answered_by(first), "jobs flow")
        publish(service, tmp_path / "two", 2)
        eventually(lambda: moved_from(first), "the second version is served")
        second = client.model().wanted_version
        truth[second] = 2.0
        eventually(lambda: traffic.answered_by(second), "it answers")

        latest = server.client().get_object(Bucket="models", Key="team/a/mccp-uq/latest.json")["Body"].read()
        server.client().put_object(Bucket="models", Key="team/a/mccp-uq/latest.json", Body=latest[:-40])
        eventually(lambda: "latest.json" in (client.model().rejected_reason or ""), "a broken version is refused")
        proxy.break_all(Fault(status=503, body=b"<Error><Code>SlowDown</Code><Message>busy</Message></Error>"))
        eventually(lambda: "SlowDown" in (client.model().rejected_reason or ""), "the outage is seen")
        before = len(traffic.answers)
        eventually(lambda: len(traffic.answers) > before + 50, "jobs flow on")
        assert {process.version for process in client.model().processes} == {second}
    assert traffic.errors == []
    for answer in traffic.answers:
        assert answer.q_hat.tolist() == [truth[answer.model.version]] * 2
