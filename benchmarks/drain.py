"""How fast a worker empties a queue, seen from the results it stores."""

from __future__ import annotations

import time
from collections.abc import Sequence

from processes import Bench, Broken, Worker, cpu_seconds

FIRST_SECONDS = 90.0
STALL_SECONDS = 30.0
#: A short queue is looked at more often, a long one seldom enough to cost nothing.
MOST_LOOK_SECONDS, LOOK_SECONDS_PER_JOB = 0.005, 1e-6
WINDOW = 512
SAMPLE = 100


def drain(
    bench: Bench, worker: Worker, keys: Sequence[str], *, result_hash: str | None = None, processes: int = 1
) -> dict[str, float]:
    """Return the jobs per second from the first result to the last, and the CPU time that a job cost meanwhile.

    `keys` say where the results will be, in the order of submission, which is also that of the answers but for the
    jobs under way at the same time. Raises Broken when no result comes, when they stop coming, or when some never come.
    """
    window = WINDOW * processes
    results = _Results(bench, worker, result_hash, len(keys))
    results.wait_for(keys[:1], keys[:1], FIRST_SECONDS)
    began, worker_cpu, redis_cpu = time.perf_counter(), worker.cpu_seconds(), cpu_seconds(bench.server)
    already = results.count(keys[:window])
    results.wait_for(keys[-1:], keys, STALL_SECONDS)
    results.wait_for(keys[-window:], keys[-window:], STALL_SECONDS)
    seconds = time.perf_counter() - began
    worker_cpu, redis_cpu = worker.cpu_seconds() - worker_cpu, cpu_seconds(bench.server) - redis_cpu
    if (missing := len(keys) - results.count(keys)) > 0:
        raise Broken(f"{missing} of {len(keys)} jobs have no result though later ones have")
    if (measured := len(keys) - already) == 0:
        raise Broken(f"all of the {len(keys)} jobs were answered at the first look: too few to time")
    return {
        "jobs_per_second": measured / seconds,
        "worker_cpu_us": worker_cpu / measured * 1e6,
        "redis_cpu_us": redis_cpu / measured * 1e6,
        "seconds": seconds,
    }


class _Results:
    def __init__(self, bench: Bench, worker: Worker, result_hash: str | None, jobs: int) -> None:
        self._redis = bench.redis
        self._worker = worker
        self._hash = result_hash
        self._look_seconds = min(MOST_LOOK_SECONDS, jobs * LOOK_SECONDS_PER_JOB)

    def count(self, keys: Sequence[str]) -> int:
        """Return how many of the results are there."""
        pipeline = self._redis.pipeline(transaction=False)
        for key in keys:
            if self._hash is None:
                pipeline.exists(key)
            else:
                pipeline.hexists(self._hash, key)
        return sum(map(bool, pipeline.execute()))

    def wait_for(self, awaited: Sequence[str], all_keys: Sequence[str], patience_seconds: float) -> None:
        """Wait until all awaited results are there. Raises Broken when nothing more happens to any of `all_keys`."""
        sample = all_keys[:: max(1, len(all_keys) // SAMPLE)]
        seen, last_change = 0, time.monotonic()
        while self.count(awaited) < len(awaited):
            self._worker.check()
            now = time.monotonic()
            if now - last_change > patience_seconds:
                if (found := self.count(sample)) == seen:
                    raise Broken(
                        f"nothing happened for {patience_seconds:g} s, after {found / len(sample):.0%} of the jobs"
                    )
                seen, last_change = found, now
            time.sleep(self._look_seconds)
