"""Running one scenario in the simulator: when samples are taken, and the steps in between."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from uqueue_worker.learning.avro.records import moment_of
from uqueue_worker.learning.scenarios.base import BaseScenario
from uqueue_worker.learning.simulator.orchestrator import EnvironmentOrchestrator
from uqueue_worker.learning.simulator.sensor_unit import Imperfections, SensorUnit

_MAX_STEPS_BETWEEN_SAMPLES = 8
_MAX_RUNS = 8
_SEED_BITS = 53  # what JSON readers in any language hold exactly
_CLOCK_TOLERANCE_SECONDS = 1e-9


@dataclass(frozen=True)
class Simulator:
    """What a scenario runs in."""

    orchestrator: EnvironmentOrchestrator
    sensor_unit: SensorUnit
    time_step_seconds: float
    imperfections: Imperfections | None = None


@dataclass(frozen=True)
class RunReport:
    """How many samples of a scenario were wanted and how many came, in how many runs."""

    scenario_id: str
    requested: int
    generated: int
    runs: int


def derived_seed(*parts: Any) -> int:
    """Return a seed, 0 <= seed < 2**53, that is a function of the parts."""
    digest = hashlib.sha256(json.dumps(parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> (64 - _SEED_BITS)


def stratified_times(duration_seconds: float, count: int, seed: int) -> list[float]:
    """Return `count` rising times, one at a random place of each of as many equal parts of the duration."""
    places = np.random.Generator(np.random.PCG64(seed)).random(count)
    times: list[float] = ((np.arange(count) + places) * (duration_seconds / max(count, 1))).tolist()
    return times


def take_samples(
    scenario: BaseScenario, count: int, duration_seconds: float, seed: int, simulator: Simulator
) -> tuple[list[dict[str, Any]], RunReport]:
    """Return raw samples over the whole duration, and how many came.

    A scenario that ends early is run again with another seed, over the time that it lasts, for those that are missing;
    after eight runs, or one that gave nothing, fewer are returned.
    """
    samples: list[dict[str, Any]] = []
    runs = 0
    while len(samples) < count and runs < _MAX_RUNS:
        run_seed = derived_seed(seed, runs)
        times = stratified_times(duration_seconds, count - len(samples), derived_seed(run_seed, "times"))
        taken = list(run(scenario, times, run_seed, simulator))
        samples += taken
        runs += 1
        if not taken:
            break
        if len(taken) < len(times):
            duration_seconds = min(duration_seconds, scenario.current_time_seconds)
    return samples, RunReport(scenario.scenario_id, count, len(samples), runs)


def run(scenario: BaseScenario, times: Sequence[float], seed: int, simulator: Simulator) -> Iterator[dict[str, Any]]:
    """Yield raw samples at the given times (seconds, not falling) of one run; it ends when the scenario does."""
    orchestrator, unit = simulator.orchestrator, simulator.sensor_unit
    scenario.reset()
    orchestrator.reset(derived_seed(seed, "environment"))
    unit.reset(derived_seed(seed, "sensors"))
    scenario.setup_environment(orchestrator)
    for index, time in enumerate(times):
        if not _advance(scenario, time - scenario.current_time_seconds, simulator):
            return
        yield _sample(scenario, simulator, {"simulation_seed": seed, "sample_index": index})


def _advance(scenario: BaseScenario, seconds: float, simulator: Simulator) -> bool:
    """Let time pass in steps of the time step, or longer ones where there would be too many; False if it ended.

    The families are functions of time and the environment's fluctuations are exact for steps of any length.
    """
    steps = min(math.ceil(seconds / simulator.time_step_seconds - _CLOCK_TOLERANCE_SECONDS), _MAX_STEPS_BETWEEN_SAMPLES)
    for _ in range(steps):
        scenario.update(seconds / steps, simulator.orchestrator)
        simulator.orchestrator.update(seconds / steps)
        if scenario.is_completed(simulator.orchestrator.get_state()):
            return False
    return True


def _sample(scenario: BaseScenario, simulator: Simulator, metadata: dict[str, Any]) -> dict[str, Any]:
    state = simulator.orchestrator.get_state()
    moment = moment_of(scenario.current_time_seconds)
    readings, scalars = simulator.sensor_unit.read(state, moment, simulator.imperfections)
    return {
        "timestamp_scenario_seconds": scenario.current_time_seconds,
        "scenario_id": scenario.scenario_id,
        "sensor_readings": readings,
        "labels": scenario.get_ground_truth_labels(state),
        "sample_metadata": {**scalars, "scenario_version": scenario.version, **metadata},
    }
