"""Tracking in MLflow, for those who have it: the `mlflow` extra, loaded when a run begins."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

_TAG = "uqueue.run_id"
_MAX_VALUE_CHARACTERS = 500
_STATUS = {"completed": "FINISHED", "failed": "FAILED", "cancelled": "KILLED"}


class MlflowTracker:
    """Tracks runs as runs of an experiment; one that was begun by another process is found by its tag."""

    def __init__(self, tracking_uri: str, experiment: str = "uqueue-learning") -> None:
        self._uri = tracking_uri
        self._experiment = experiment
        self._client: Any = None
        self._run: str = ""

    def start_run(self, run_id: str, name: str | None = None) -> None:
        """Begin or go on with a run. Raises ImportError, naming the extra, without MLflow."""
        client = self._connected()
        experiment = client.get_experiment_by_name(self._experiment)
        identity = experiment.experiment_id if experiment else client.create_experiment(self._experiment)
        quoted = run_id.replace("'", "")
        found = client.search_runs([identity], filter_string=f"tags.`{_TAG}` = '{quoted}'", max_results=1)
        run = found[0] if found else client.create_run(identity, tags={_TAG: run_id}, run_name=name or run_id)
        self._run = run.info.run_id

    def log_params(self, params: Mapping[str, Any]) -> None:
        for name, value in params.items():
            self._client.log_param(self._run, name, str(value)[:_MAX_VALUE_CHARACTERS])

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        for name, value in metrics.items():
            self._client.log_metric(self._run, name, value, step=step)

    def log_artifact(self, path: Path) -> None:
        self._client.log_artifact(self._run, str(path))

    def set_tags(self, tags: Mapping[str, str]) -> None:
        for name, value in tags.items():
            self._client.set_tag(self._run, name, value)

    def end_run(self, status: str) -> None:
        self._client.set_terminated(self._run, _STATUS.get(status, "FINISHED"))

    def _connected(self) -> Any:
        if self._client is None:
            try:
                from mlflow import MlflowClient
            except ImportError as error:
                raise ImportError(f'tracking in MLflow needs it ({error}): pip install "uqueue[mlflow]"') from error
            self._client = MlflowClient(tracking_uri=self._uri)
        return self._client
