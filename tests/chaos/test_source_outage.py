"""The bucket is away for a while, its requests hang or break off: nothing that is served changes, no job notices."""

from __future__ import annotations

import itertools
import math
import time
from pathlib import Path

import pytest

from builders.fault_proxy import Fault, FaultProxy, fault_proxy
from builders.publisher import SOURCE, publishing
from builders.service import running_service
from builders.traffic import Traffic
from builders.waiting import eventually
from chaos.sizes import OUTAGE_SECONDS
from uqueue_worker.artifacts.bucket import ATTEMPTS, READ_SECONDS
from uqueue_worker.artifacts.patience import LONGEST_PAUSE_SECONDS

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]
POLL_SECONDS, PROCESSES = 0.2, 2


def test_an_outage_changes_nothing_that_is_served(tmp_path: Path) -> None:
    with publishing(tmp_path) as publisher, fault_proxy(publisher.server.url) as proxy:
        served, _ = publisher.good(1)
        poll = {"UQUEUE_ARTIFACT_SOURCE": SOURCE, "UQUEUE_POLL_SECONDS": str(POLL_SECONDS)}
        env = {**poll, **publisher.server.environment(proxy.url)}
        with running_service(tmp_path / "service", concurrency=PROCESSES, env=env) as service:
            client = service.client
            eventually(lambda: client.model().converged, "the first version is served")
            with Traffic(client, pause_seconds=0.05) as traffic:
                eventually(lambda: len(traffic.answers) > 50, "jobs flow")
                began = time.monotonic()
                break_everything(proxy)
                proxy.arrivals.clear()
                eventually(lambda: client.model().rejected_reason, "the outage is seen")
                second, _ = publisher.good(2)  # past the proxy: who trains reaches the bucket, workers do not
                while time.monotonic() < began + OUTAGE_SECONDS:
                    status = client.model()
                    assert (status.wanted_version, {one.version for one in status.processes}) == (served, {served})
                    time.sleep(0.2)
                lasted, asked = time.monotonic() - began, len(proxy.arrivals)
                slowest, answered = traffic.slowest_since(began), traffic.answered_by(served)
                proxy.mend()
                eventually(
                    lambda: (status := client.model()).converged and status.wanted_version == second,
                    "what was published meanwhile is served",
                    seconds=LONGEST_PAUSE_SECONDS + 20,
                )
                recovered = time.monotonic() - began - lasted
                eventually(lambda: traffic.answered_by(second), "it answers")
    print(
        f"\n{lasted:.0f} s of outage: {asked} requests for {lasted / POLL_SECONDS:.0f} polls, "
        f"{answered} jobs answered, the slowest after {slowest:.2f} s, {len(traffic.errors)} failed; "
        f"the next version was served {recovered:.1f} s after its end"
    )
    assert traffic.errors == []
    assert set(traffic.versions()) == {served, second}
    assert slowest < READ_SECONDS, "no job waited for the bucket"
    assert 0 < asked <= requests_of(lasted)


def break_everything(proxy: FaultProxy) -> None:
    """Let every second request hang, and cut the connections of the others."""
    faults = itertools.cycle([Fault(drop=True), Fault(hang=True)])
    proxy.fault = lambda method, path: next(faults)


def requests_of(seconds: float) -> int:
    """Return the most requests there may be: pauses of 1, 2, 4, … seconds between the looks of each process."""
    looks = 1 + math.floor(math.log2(seconds + 1)) if seconds < 31 else 6 + math.floor((seconds - 31) / 30)
    return PROCESSES * looks * ATTEMPTS
