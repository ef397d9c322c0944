"""One-row jobs through uqueue and through its rivals: the same model, kernel and kind of Redis, all in one run.

    python benchmarks/queues.py [--quick] [--contenders uqueue-lane,naive-celery]

Each round, every contender in turn gets a fresh Redis and one worker process. First all jobs are queued, then the
worker starts, and the time from its first stored result to the last counts. Then one job at a time goes through the
contender's own client, and its answer is compared with the model's. Redis, worker and client share the cores.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from contenders import CONTENDERS, Contender
from drain import drain
from part import measure_part, parser, say, workspace
from processes import Bench, Broken, Worker, bench

ROUNDS, TRIPS, IDLE_SECONDS = 3, 300, 4.0
QUICK_SHARE, QUICK_JOBS, QUICK_TRIPS, QUICK_IDLE_SECONDS = 40, 300, 20, 0.5


def measure(folder: Path, contenders: Sequence[Contender], *, quick: bool) -> dict[str, Any]:
    """Return what every contender reached in every round."""
    wanted = expected_answer(folder)
    found = {one.name: describe(one) for one in contenders}
    rounds = 1 if quick else ROUNDS
    for turn in range(rounds):
        for one in contenders:
            if not found[one.name]["not_installed"]:
                say(f"round {turn + 1} of {rounds}: {one.name}")
                found[one.name]["rounds"].append(measure_once(one, folder, wanted, quick=quick))
    return {"rounds": rounds, "trips": QUICK_TRIPS if quick else TRIPS, "contenders": found}


def describe(contender: Contender) -> dict[str, Any]:
    return {
        "is_uqueue": contender.is_uqueue,
        "versions": contender.versions,
        "not_installed": [name for name, version in contender.versions.items() if version is None],
        "hiredis": contender.has_hiredis,
        "command": contender.worker,
        "environment": dict(contender.environment),
        "about": contender.description,
        "rounds": [],
    }


def measure_once(contender: Contender, folder: Path, wanted: Any, *, quick: bool) -> dict[str, Any]:
    """Return the figures of one round; where something broke, those until then and the reason."""
    jobs = max(QUICK_JOBS, contender.jobs // QUICK_SHARE) if quick else contender.jobs
    found: dict[str, Any] = {"jobs": jobs}
    try:
        with bench(contender.environment, workspace=folder, hiredis=contender.has_hiredis) as surroundings:
            submitted = surroundings.client(contender.module, "submit", jobs)
            found["submitted_per_second"] = (jobs - 1) / submitted["seconds"]
            with surroundings.worker(contender.worker) as worker:
                found |= drain(surroundings, worker, submitted["keys"], result_hash=contender.result_hash)
                found |= trips(contender, surroundings, wanted, QUICK_TRIPS if quick else TRIPS)
                found["idle_cpu_percent"] = idle(worker, QUICK_IDLE_SECONDS if quick else IDLE_SECONDS)
                worker.check()
    except Broken as error:
        found["broken"] = str(error)
        say(f"{contender.name} is broken: {error}")
    return found


def trips(contender: Contender, surroundings: Bench, wanted: Any, count: int) -> dict[str, float]:
    """Return percentiles of the round trip in ms. Raises Broken when an answer is not the model's."""
    found = {}
    clients = {"": "round_trip", "stock_": "stock_round_trip"} if contender.stock else {"": "round_trip"}
    for prefix, function in clients.items():
        taken = surroundings.client(contender.module, function, count)
        for answer in taken["answers"]:
            if not np.allclose(answer, wanted, rtol=1e-6):
                raise Broken(f"it answered {answer}, the model {wanted}")
        for percentile in (50, 95, 99):
            found[f"{prefix}p{percentile}_ms"] = float(np.percentile(taken["milliseconds"], percentile))
    return found


def idle(worker: Worker, seconds: float) -> float:
    """Return the share of a core, in percent, that the worker takes with nothing to do."""
    time.sleep(0.5)
    before = worker.cpu_seconds()
    time.sleep(seconds)
    return (worker.cpu_seconds() - before) / seconds * 100


def expected_answer(folder: Path) -> Any:
    """Return lower and upper bounds of the benchmark's row, computed here."""
    from rivals import model

    os.environ["BENCH_WORKSPACE"] = str(folder)
    answer = model.predict(model.ROW, model.SEED)
    return [answer["lower"], answer["upper"]]


def main() -> None:
    options = parser(__doc__)
    names = [one.name for one in CONTENDERS]
    options.add_argument("--contenders", default=",".join(names), help=f"which, by comma: {', '.join(names)}")
    given = options.parse_args()
    if unknown := set(given.contenders.split(",")) - set(names):
        options.error(f"no such contender: {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    chosen = [one for one in CONTENDERS if one.name in given.contenders.split(",")]
    with workspace(given.workspace) as folder:
        measure_part("queues", given, lambda: measure(folder, chosen, quick=given.quick))


if __name__ == "__main__":
    main()
