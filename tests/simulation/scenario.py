"""Who takes part in a run: drawn from a seed, or always the same."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from simulation.actors import Submission
from simulation.requests import Kind, Request

#: Processes with a lane, ordinary workers, and processes that are both.
ROLES = ((1, 0, 0), (2, 0, 0), (3, 0, 0), (0, 1, 0), (0, 2, 0), (1, 1, 0), (2, 1, 0), (0, 0, 1), (1, 0, 1), (0, 1, 1))
#: Those of the small plan.
SMALL = {"lanes": (2, 0, 0), "workers": (0, 2, 0), "both": (0, 0, 2)}
MIXTURES = (
    [Kind.GOOD],
    [Kind.GOOD, Kind.SLOW],
    [Kind.SLOW, Kind.FLAKY, Kind.FLAKY, Kind.WRONG],
    [Kind.GOOD, Kind.GOOD, Kind.GOOD, Kind.POISON],
    [Kind.GOOD] * 8 + [Kind.SLOW] * 3 + [Kind.WRONG, Kind.FLAKY, Kind.POISON, Kind.STUCK],
)


@dataclass(frozen=True)
class Crash:
    """What happens to whoever takes a step, right before it. Steps are counted from 0; `among` is one of SMALL."""

    kind: str
    step: int
    among: str = "lanes"

    def __str__(self) -> str:
        return f"{self.kind}@{self.step}:{self.among}"

    @classmethod
    def parse(cls, text: str) -> Crash:
        kind, _, rest = text.partition("@")
        step, _, among = rest.partition(":")
        return cls(kind, int(step), among or "lanes")


@dataclass(frozen=True)
class Focus:
    """What a drawn plan keeps to, where given: numbers of processes, kinds of jobs, kinds of faults."""

    #: With a lane, ordinary workers, and both in one.
    roles: tuple[int, int, int] | None = None
    kinds: Sequence[Kind] = ()
    faults: Sequence[str] = ()


EVERYTHING = Focus()


@dataclass(frozen=True)
class Plan:
    """Who takes part, and how often something breaks. No kinds of faults means some that the seed draws."""

    submissions: Sequence[Sequence[Submission]]
    lanes: int
    workers: int
    both: int = 0
    queue_limit: int = 1000
    fault_rate: float = 0.0
    fault_steps: int = 0
    faults: Sequence[str] = ()
    most_jobs: int = 8
    crash: Crash | None = None


def drawn(rng: random.Random, focus: Focus = EVERYTHING) -> Plan:
    """Return a small plan: 5 to 20 jobs, up to three producers, at least one process that answers."""
    lanes, workers, both = focus.roles or rng.choice(ROLES)
    kinds = focus.kinds or rng.choice(MIXTURES)
    requests = [Request(f"job-{number}", rng.choice(kinds), number) for number in range(rng.randrange(5, 21))]
    submissions: list[list[Submission]] = [[] for _ in range(rng.randrange(1, 4))]
    while requests:
        size = min(len(requests), rng.choice((1, 1, 2, 5, 8)))
        batch, requests = requests[:size], requests[size:]
        rng.choice(submissions).append(_submission(rng, batch))
    return Plan(
        submissions=submissions,
        lanes=lanes,
        workers=workers,
        both=both,
        queue_limit=rng.choice((8, 12, 1000)),
        fault_rate=rng.choice((0.02, 0.05, 0.1, 0.2)),
        fault_steps=rng.randrange(60, 240),
        faults=focus.faults,
        most_jobs=rng.choice((1, 2, 8, 8)),
    )


def _submission(rng: random.Random, batch: Sequence[Request]) -> Submission:
    return Submission(
        requests=batch,
        pause_ms=rng.choice((0, 10, 500, 3_000)),
        expires_seconds=rng.choice((None, None, None, 0.5, 20.0)),
        cancelled=[request.job_id for request in batch if rng.random() < 0.1],
        also_as=Request(batch[0].job_id, Kind.GOOD, 30_000) if rng.random() < 0.1 else None,
    )


def small(among: str, crash: Crash | None = None) -> Plan:
    """Return six jobs, one of them poison, for two processes that sweep in turn."""
    kinds = (Kind.GOOD, Kind.GOOD, Kind.SLOW, Kind.GOOD, Kind.POISON, Kind.GOOD)
    requests = [Request(f"job-{number}", kind, number) for number, kind in enumerate(kinds)]
    batches = [Submission(requests[:4], pause_ms=0), Submission(requests[4:], pause_ms=500)]
    lanes, workers, both = SMALL[among]
    return Plan([batches], lanes=lanes, workers=workers, both=both, most_jobs=4, crash=crash)


def calm(lanes: int, workers: int, jobs: int = 12) -> Plan:
    """Return good jobs, one after the other, and nothing that breaks."""
    requests = [Request(f"job-{number}", Kind.GOOD, number) for number in range(jobs)]
    batches = [Submission([request], pause_ms=50) for request in requests]
    return Plan([batches], lanes=lanes, workers=workers)
