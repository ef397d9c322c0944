"""The simulator: what surrounds a sensor unit, what the sources in it do, and what the sensors make of it."""

from __future__ import annotations

from uqueue_worker.learning.simulator.orchestrator import EnvironmentOrchestrator, EnvironmentState, Surroundings
from uqueue_worker.learning.simulator.sensor_unit import Imperfections, SensorUnit
from uqueue_worker.learning.simulator.source import Source

__all__ = ["EnvironmentOrchestrator", "EnvironmentState", "Imperfections", "SensorUnit", "Source", "Surroundings"]
