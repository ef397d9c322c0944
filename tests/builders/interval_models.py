"""Workspaces with small interval models, samples for them, and a queue's client that answers in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from builders.artifacts import mqnn_h5_bytes, write_workspace
from uqueue_config.errors import UqueueError
from uqueue_config.names import JobState
from uqueue_config.prediction import IntervalPrediction
from uqueue_worker.artifacts import LocalFilesystemProvider
from uqueue_worker.learning.models.intervals import RegressionSpec
from uqueue_worker.models import load_interval_model

FEATURES = [
    "sensor_readings_map.readings.U20_SPS30.pm2_5",
    "sensor_readings_map.readings.U26_Lepton35.thermal_image_celsius|max",
    "sample_metadata.distance",
]
SPEC = RegressionSpec(
    target="sample_metadata.load", edges=(-0.5, 0.5), reference_width=4.0, output="heat", outputs=("cold", "heat")
)
RULE: dict[str, Any] = {"patience": 2, "delta": 1e-3, "max_mc": 12, "q_hat": np.array([0.4, 0.5])}


def small_workspace(root: Path, *, seed: int = 0, **state: Any) -> Path:
    """Write an untrained network of three features and two targets, and return the workspace."""
    write_workspace(root, model=mqnn_h5_bytes(features=3, hidden=(8,), seed=seed), **{**RULE, **state})
    return root


def interval_samples(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Return samples with two sensors; every tenth has no true value."""
    random = np.random.default_rng(seed)
    made = []
    for number in range(count):
        particles, hottest, distance, load = random.normal(size=4)
        made.append(
            {
                "sample_id": f"s{number:04d}",
                "scenario_id": f"scenario-{number % 7}",
                "scenario_timestep_seconds": float(number),
                "sensor_readings_map": {
                    "readings": {
                        "U20_SPS30": {"pm2_5": float(particles)},
                        "U26_Lepton35": {"thermal_image_celsius": [[float(hottest), -9.0]]},
                    }
                },
                "sample_metadata": {"distance": float(distance), "load": None if number % 10 == 9 else float(load)},
            }
        )
    return made


class HereClient:
    """A client whose jobs are answered by the model of a workspace, here and when their result is asked for.

    trouble   called with (call number, options) before a job is taken; what it raises is raised
    outcome   called with (job number, answer) where a result is asked for; it returns an answer or an error to raise
    """

    def __init__(
        self,
        workspace: Path,
        *,
        trouble: Callable[[int, dict[str, Any]], None] = lambda number, options: None,
        outcome: Callable[[int, IntervalPrediction], Any] = lambda number, answer: answer,
    ) -> None:
        self.model_here = load_interval_model(LocalFilesystemProvider(workspace))
        self.trouble = trouble
        self.outcome = outcome
        self.calls = 0
        self.jobs: list[HereJob] = []
        self.most_open = 0

    def submit(self, features: Any, model: str, **options: Any) -> HereJob:
        self.calls += 1
        self.trouble(self.calls, options)
        job = HereJob(self, len(self.jobs), np.array(features), options)
        self.jobs.append(job)
        self.most_open = max(self.most_open, sum(not job.asked and not job.cancelled for job in self.jobs))
        return job

    def model(self, name: str) -> Any:
        version = self.model_here.identity.version
        serving = SimpleNamespace(version=version, state="ready")
        return SimpleNamespace(name=name, wanted_version=version, processes=(serving,))

    def close(self) -> None:
        """Nothing is open."""


class HereJob:
    def __init__(self, client: HereClient, number: int, features: Any, options: dict[str, Any]) -> None:
        self.id = f"job-{number}"
        self.number = number
        self.options = options
        self.features = features
        self.asked = self.cancelled = False
        self._client = client

    def status(self) -> Any:
        return SimpleNamespace(state=JobState.SUCCEEDED, finished_at=None)

    def cancel(self) -> None:
        self.cancelled = True

    def result(self, timeout: float | None = None) -> Any:
        self.asked = True
        answer = self._client.model_here.predict(self.features, seed=self.options["seed"])
        found = self._client.outcome(self.number, answer)
        if isinstance(found, UqueueError):
            raise found
        return found
