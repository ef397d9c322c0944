"""Two beats look no more often than one, and an answer that comes late moves nothing back."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator

import pytest

from builders.fault_proxy import Fault, FaultProxy, fault_proxy
from builders.publisher import SOURCE, Publisher, publishing
from builders.service import RunningService, running_service
from builders.waiting import eventually
from uqueue.local import beat_service

LATEST, POLL_SECONDS, INTERVALS = "latest.json", 0.5, 12


@pytest.fixture(scope="module")
def publisher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Publisher]:
    with publishing(tmp_path_factory.mktemp("s3")) as running:
        yield running


@pytest.fixture(scope="module")
def proxy(publisher: Publisher) -> Iterator[FaultProxy]:
    with fault_proxy(publisher.server.url) as running:
        yield running


@pytest.fixture(scope="module")
def service(
    publisher: Publisher, proxy: FaultProxy, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningService]:
    """Two workers of one process each and one beat, on what was published."""
    publisher.good(0)
    poll = {"UQUEUE_ARTIFACT_SOURCE": SOURCE, "UQUEUE_POLL_SECONDS": str(POLL_SECONDS)}
    env = {**poll, **publisher.server.environment(proxy.url)}
    with running_service(tmp_path_factory.mktemp("service"), concurrency=1, env=env) as running:
        running.start_worker("second")
        eventually(lambda: running.client.model().converged, "both serve")
        yield running


@pytest.fixture
def second_beat(service: RunningService) -> Iterator[None]:
    beat = beat_service(service.environment, log_file=service.folder / "second-beat.log")
    beat.name = "second-beat"
    service.supervisor.start(beat)
    eventually(lambda: "Sending due task" in beat.log_text(), "it sends polls")
    yield
    beat.stop()


def looks(proxy: FaultProxy) -> int:
    """Count the looks at the source over some intervals."""
    before = proxy.seen("GET", LATEST)
    time.sleep(INTERVALS * POLL_SECONDS)
    return proxy.seen("GET", LATEST) - before


def test_two_beats_look_no_more_often_than_one(
    service: RunningService, proxy: FaultProxy, publisher: Publisher, request: pytest.FixtureRequest
) -> None:
    alone = looks(proxy)
    request.getfixturevalue("second_beat")
    together = looks(proxy)
    print(f"\n{INTERVALS} intervals: {alone} looks with one beat, {together} with two")
    assert alone >= INTERVALS // 2
    assert together <= alone + 2
    version, _ = publisher.good(1)
    eventually(lambda: (now := service.client.model()).converged and now.wanted_version == version, "both follow")


@pytest.mark.usefixtures("second_beat")
def test_an_answer_that_comes_late_moves_nothing_back(
    service: RunningService, proxy: FaultProxy, publisher: Publisher
) -> None:
    """Every second answer about the latest version is 3.5 s old when it comes, which is longer than a poll waits."""
    client = service.client
    seen = [client.model().wanted_version]
    order = list(seen)
    faults = itertools.cycle([Fault(late_seconds=3.5), None])
    proxy.fault = lambda method, path: next(faults) if LATEST in path else None

    def wanted() -> str | None:
        """Return what is wanted now, and note it where it is another than before."""
        found = client.model().wanted_version
        if seen[-1] != found:
            seen.append(found)
        return found

    def note_for(seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            wanted()
            time.sleep(0.01)

    for number in range(2, 10):
        order.append(publisher.good(number)[0])
        note_for(1.5)
    eventually(lambda: wanted() == order[-1], "the last one is wanted", seconds=60)
    note_for(6)
    positions = [order.index(version) for version in seen]
    print(f"\n{len(order)} versions, wanted one after the other: {positions}")
    assert positions == sorted(positions)
    assert len(seen) > 2
