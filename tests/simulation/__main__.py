"""Repeat a run, or run many; see the package's docstring."""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import structlog

from simulation.planted import PLANTED
from simulation.scenario import Crash, Plan, small
from simulation.server import Server, Violation
from simulation.town import SOUND, STEPS_TOLD, Defects, run
from uqueue.embedded import start_redis
from uqueue_config.settings import Settings


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m simulation", description="Simulate ledger, lane and sweeper.")
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--runs", type=int, default=1, help="how many seeds from there")
    parser.add_argument("--crash", type=Crash.parse, help="a run of the systematic part, such as lose-after@17:lanes")
    parser.add_argument("--planted", action="store_true", help="say which seed finds each planted defect")
    parser.add_argument("--all", action="store_true", help="tell every step of a run, and not just the last ones")
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    with tempfile.TemporaryDirectory() as folder, start_redis(Path(folder)) as redis:
        server, settings = Server(redis.url), Settings.load({"UQUEUE_BROKER_URL": redis.url})
        try:
            if options.planted:
                return _find_planted(server, settings)
            return _repeat(server, settings, options)
        finally:
            server.close()


def _repeat(server: Server, settings: Settings, options: argparse.Namespace) -> int:
    plan: Plan | None = small(options.crash.among, options.crash) if options.crash else None
    memory = None if options.all else STEPS_TOLD
    started, steps, failed = time.perf_counter(), 0, 0
    for seed in range(options.seed, options.seed + options.runs):
        try:
            world = run(server, settings, seed, plan, memory=memory)
        except Violation as violation:
            failed += 1
            print(violation if options.runs == 1 else "\n".join(str(violation).splitlines()[-2:]), flush=True)
        else:
            steps += world.steps
            if options.runs == 1:
                print(world.story())
    print(f"{options.runs} runs, {failed} of them wrong; {steps} steps in {time.perf_counter() - started:.1f} s")
    return 1 if failed else 0


def _find_planted(server: Server, settings: Settings) -> int:
    for name, defects in PLANTED.items():
        print(f"{name}: {next(_findings(server, settings, defects), 'not found')}", flush=True)
    return 0


def _findings(server: Server, settings: Settings, defects: Defects = SOUND) -> Iterator[str]:
    for seed in range(3000):
        try:
            run(server, settings, seed, defects=defects)
        except Violation as violation:
            yield f"seed {seed}: {str(violation).splitlines()[-2]}"


if __name__ == "__main__":
    sys.exit(main())
