"""uqueue's lane beyond one row at a time: jobs of many rows, bulk submission, longer queues, more worker processes.

    python benchmarks/service.py [--quick]

Every figure is a median of several runs through `uqueue.Client`; Redis, worker and client share the cores.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uqueue
from contenders import LANE
from drain import drain
from part import measure_part, parser, say, workspace
from processes import Bench, bench
from startup import wait_until_ready


@dataclass(frozen=True)
class Plan:
    """How much of everything; `jobs` are queued for each number of worker processes."""

    runs: int
    trips: int
    rows: tuple[int, ...]
    large_rows: int
    bulk_jobs: int
    queued_jobs: tuple[int, ...]
    processes: tuple[int, ...]
    jobs: int


FULL = Plan(
    runs=3,
    trips=20,
    rows=(1, 16, 256, 4096, 16_384),
    large_rows=10_000,
    bulk_jobs=20_000,
    queued_jobs=(1_000, 10_000, 50_000),
    processes=(1, 2, 4),
    jobs=60_000,
)
QUICK = Plan(1, 5, (1, 256), 1_000, 1_000, (1_000,), (2,), 2_000)


class Service:
    """Measures uqueue's lane with one workspace."""

    def __init__(self, workspace: Path, plan: Plan) -> None:
        self._workspace = workspace
        self._plan = plan

    def measure(self) -> dict[str, Any]:
        plan = self._plan
        return {
            "runs": plan.runs,
            "rows_per_job": self._rows(plan.rows),
            "large_job": {"trips": plan.trips, **self._rows((plan.large_rows,))[0]},
            "bulk": self._bulk(plan.bulk_jobs),
            "queued_jobs": [{"jobs": jobs, "per_second": self._drained(jobs)} for jobs in plan.queued_jobs],
            "processes": [
                {"processes": count, "jobs": plan.jobs, "per_second": self._shared(plan.jobs, count)}
                for count in plan.processes
            ],
        }

    def _rows(self, sizes: tuple[int, ...]) -> list[dict[str, float]]:
        """One job at a time, from submission to the decoded result."""
        found = []
        with self._surroundings() as here, here.worker(LANE.worker):
            for rows in sizes:
                say(f"jobs of {rows} rows")
                here.environment["BENCH_ROWS"] = str(rows)
                milliseconds = here.client(LANE.module, "rows_round_trip", self._plan.trips)["milliseconds"]
                found.append({"rows": rows, "ms": statistics.median(milliseconds), "worst_ms": max(milliseconds)})
        return found

    def _bulk(self, jobs: int) -> dict[str, float]:
        """Jobs per second of `submit_many`, with nobody to answer and while they are answered."""
        say(f"{jobs} jobs by submit_many")
        return {
            "jobs": jobs,
            "worker_stopped_per_second": self._median(lambda here: _submitted_per_second(here, jobs)),
            "worker_running_per_second": self._median(lambda here: _submitted_while_answered(here, jobs)),
        }

    def _drained(self, jobs: int) -> float:
        say(f"{jobs} queued jobs")
        return self._median(lambda here: _drained_per_second(here, jobs))

    def _shared(self, jobs: int, processes: int) -> float:
        say(f"{processes} worker processes")
        return self._median(lambda here: _shared_per_second(here, jobs, processes))

    def _median(self, run: Callable[[Bench], float]) -> float:
        found = []
        for _ in range(self._plan.runs):
            with self._surroundings() as here:
                found.append(run(here))
        return statistics.median(found)

    def _surroundings(self) -> AbstractContextManager[Bench]:
        return bench(LANE.environment, workspace=self._workspace, hiredis=LANE.has_hiredis)


def _submitted_per_second(here: Bench, jobs: int) -> float:
    return float((jobs - 1) / here.client(LANE.module, "submit", jobs)["seconds"])


def _submitted_while_answered(here: Bench, jobs: int) -> float:
    with here.worker(LANE.worker):
        here.client(LANE.module, "round_trip", 1)
        return _submitted_per_second(here, jobs)


def _drained_per_second(here: Bench, jobs: int) -> float:
    keys = here.client(LANE.module, "submit", jobs)["keys"]
    with here.worker(LANE.worker) as worker:
        return drain(here, worker, keys)["jobs_per_second"]


def _shared_per_second(here: Bench, jobs: int, processes: int) -> float:
    """Let all processes begin together, which take turns at loading their models otherwise."""
    with (
        here.worker(f"{LANE.worker} --concurrency {processes}") as worker,
        uqueue.Client(uqueue.Settings.load(here.environment)) as client,
    ):
        wait_until_ready(client, worker, processes)
        with worker.paused():
            keys = here.client(LANE.module, "submit", jobs)["keys"]
        return drain(here, worker, keys, processes=processes)["jobs_per_second"]


def main() -> None:
    given = parser(__doc__).parse_args()
    with workspace(given.workspace) as folder:
        measure_part("service", given, Service(folder, QUICK if given.quick else FULL).measure)


if __name__ == "__main__":
    main()
