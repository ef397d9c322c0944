"""Twenty versions are published while jobs flow, five of them bad, and a worker is restarted meanwhile.

`pytest -s` of this file prints how long it took from publication to the last acknowledgement.
"""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from builders.artifacts import mqnn_h5_bytes
from builders.publisher import SOURCE, Publisher, publishing
from builders.service import RunningService, running_service
from builders.traffic import Traffic
from builders.waiting import eventually
from uqueue_config.errors import ModelInvalid
from uqueue_worker.models.weights import read_weights

POLL_SECONDS, JOBS, VERSIONS, RESTART_AT = 0.5, 1000, 20, 10
#: More than any version should take; what it took is printed and not asserted.
GENEROUS_SECONDS = 30.0
HOSTILE_STATE = b"\x80\x04cos\nsystem\n(S'true'\ntR."


def wrong_hash(manifest: dict[str, Any]) -> None:
    manifest["files"]["model.h5"]["sha256"] = "0" * 64


def model_with_nan(number: int) -> bytes:
    buffer = io.BytesIO(mqnn_h5_bytes(seed=number, hidden=(8,)))
    with h5py.File(buffer, "r+") as file:
        file["model_weights/dense/dense/kernel"][0, 0] = np.nan
    return buffer.getvalue()


@pytest.fixture
def publisher(tmp_path: Path) -> Iterator[Publisher]:
    with publishing(tmp_path) as running:
        yield running


@pytest.fixture
def service(publisher: Publisher, tmp_path: Path) -> Iterator[RunningService]:
    """Two workers of two processes each, which serve the pair 0."""
    publisher.good(0)
    env = {
        "UQUEUE_ARTIFACT_SOURCE": SOURCE,
        "UQUEUE_POLL_SECONDS": str(POLL_SECONDS),
        **publisher.server.environment(),
    }
    with running_service(tmp_path / "service", concurrency=2, env=env) as running:
        running.start_worker("second")
        eventually(lambda: running.client.model().converged, "the first version is served by all")
        yield running


@contextmanager
def restarting(service: RunningService, name: str) -> Iterator[None]:
    """Stop a worker and start it again while the block runs."""
    failures: list[BaseException] = []

    def restart() -> None:
        try:
            service.services[name].stop()
            service.start_worker(name)
        except BaseException as failure:
            failures.append(failure)

    thread = threading.Thread(target=restart, name="restart")
    thread.start()
    try:
        yield
    finally:
        thread.join()
    assert failures == []


def test_a_thousand_jobs_while_twenty_versions_are_published(service: RunningService, publisher: Publisher) -> None:
    client, took = service.client, []
    bad: dict[int, tuple[str, Callable[[int], None]]] = {
        4: ("model.h5", lambda number: publisher.broken(number, model=mqnn_h5_bytes(seed=number)[:5000])),
        8: ("sha256", lambda number: publisher.damaged(number, wrong_hash)),
        12: ("mccp_state.pkl", lambda number: publisher.broken(number, state=HOSTILE_STATE)),
        16: ("it is not there", lambda number: publisher.damaged(number, publisher.delete)),
        19: ("finite", lambda number: publisher.broken(number, model=model_with_nan(number))),
    }

    def publish(numbers: range) -> None:
        for number in numbers:
            if number in bad:
                words, publish_bad = bad[number]
                publish_bad(number)
                eventually(lambda words=words: words in (client.model().rejected_reason or ""), f"refused for {words}")
            else:
                version, published = publisher.good(number)
                eventually(
                    lambda version=version: (status := client.model()).converged and status.wanted_version == version,
                    f"every process acknowledges version {number}",
                    seconds=GENEROUS_SECONDS,
                )
                took.append(time.monotonic() - published)

    before = {process.pid for process in client.model().processes}
    with Traffic(client, pause_seconds=0.05) as traffic:
        publish(range(1, RESTART_AT))
        with restarting(service, "second"):
            publish(range(RESTART_AT, RESTART_AT + 5))
        publish(range(RESTART_AT + 5, VERSIONS + 1))
        eventually(lambda: len(traffic.answers) >= JOBS, f"{JOBS} jobs are answered", seconds=60)

    bound = POLL_SECONDS + 2
    print(
        f"\n{len(took)} good versions, publication to last acknowledgement: median {np.median(took):.2f} s, "
        f"max {max(took):.2f} s; within poll interval + 2 s ({bound:g} s): {sum(one <= bound for one in took)} of "
        f"{len(took)}; {len(traffic.answers)} jobs by {len(traffic.versions())} versions, {len(traffic.errors)} failed"
    )
    assert traffic.errors == []
    assert len(took) == VERSIONS - len(bad)
    assert not publisher.bad & set(traffic.versions())
    for answer in traffic.answers:
        expected = publisher.answers[answer.model.version]
        assert answer.to_message("base64") == expected.to_message("base64"), "one version's weights and calibration"
    # A job that was claimed before the last move may take its process back for a moment.
    eventually(lambda: len((now := client.model()).processes) == 4 and now.converged, "all four serve the last version")
    after = {process.pid for process in client.model().processes}
    assert len(after - before) == 2, "one of the two workers is another one now"


def test_a_refused_model_holds_nobody_up() -> None:
    """h5py's views keep its lock while they are iterated, and an error that is kept keeps the view."""
    broken, good = model_with_nan(19), mqnn_h5_bytes(hidden=(8,))
    with pytest.raises(ModelInvalid, match="not finite") as kept:
        read_weights(broken, file="model.h5")
    reading = threading.Thread(target=read_weights, args=(good,), kwargs={"file": "model.h5"}, daemon=True)
    reading.start()
    reading.join(20)
    assert not reading.is_alive(), f"another thread waits while {kept.value} is remembered"
