"""What a tracker does."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol


class Tracker(Protocol):
    """Takes in what runs do. Calls about one run may come from several processes, one after another."""

    def start_run(self, run_id: str, name: str | None = None) -> None:
        """Begin a run, or go on with one that was begun before; the next calls are about it."""
        ...

    def log_params(self, params: Mapping[str, Any]) -> None: ...

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None: ...

    def log_artifact(self, path: Path) -> None:
        """Keep a file, or where it is."""
        ...

    def set_tags(self, tags: Mapping[str, str]) -> None: ...

    def end_run(self, status: str) -> None: ...


class NoTracker:
    """Tracks nothing."""

    def start_run(self, run_id: str, name: str | None = None) -> None: ...

    def log_params(self, params: Mapping[str, Any]) -> None: ...

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None: ...

    def log_artifact(self, path: Path) -> None: ...

    def set_tags(self, tags: Mapping[str, str]) -> None: ...

    def end_run(self, status: str) -> None: ...
