"""The engine: runs as persisted state machines, in one process or over many."""

from __future__ import annotations

from uqueue_worker.learning.engine.adapters import (
    ForestTrainer,
    InterfaceEvaluator,
    local_interfaces,
    strategies,
    suggestions,
)
from uqueue_worker.learning.engine.deployment import DeploymentDistribution, SimulatedDeployment
from uqueue_worker.learning.engine.in_process import InProcess, run_to_end
from uqueue_worker.learning.engine.machine import Engine
from uqueue_worker.learning.engine.memory_store import MemoryRunStore
from uqueue_worker.learning.engine.parts import Dispatcher, NotYet, Part
from uqueue_worker.learning.engine.store import RunStore
from uqueue_worker.learning.engine.workshop import Evaluator, Trainer, Workshop

__all__ = [
    "DeploymentDistribution",
    "Dispatcher",
    "Engine",
    "Evaluator",
    "ForestTrainer",
    "InProcess",
    "InterfaceEvaluator",
    "MemoryRunStore",
    "NotYet",
    "Part",
    "RunStore",
    "SimulatedDeployment",
    "Trainer",
    "Workshop",
    "local_interfaces",
    "run_to_end",
    "strategies",
    "suggestions",
]
