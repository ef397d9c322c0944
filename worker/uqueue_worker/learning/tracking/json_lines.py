"""Tracking as lines of JSON, one file per run: the default, which needs nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,199}")


class JsonLinesTracker:
    """Appends to `<folder>/<run id>.jsonl`; each line has ts, event and what the call said."""

    def __init__(self, folder: Path, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._folder = folder
        self._clock = clock
        self._path: Path | None = None

    def start_run(self, run_id: str, name: str | None = None) -> None:
        """Begin or go on with a run. Raises ValueError for an id that is no file name."""
        if not _NAME.fullmatch(run_id) or ".." in run_id:
            raise ValueError("a run's id has letters, digits, '_', '-' and single dots, at most 200")
        self._path = self._folder / f"{run_id}.jsonl"
        self._write("start_run", run_id=run_id, name=name)

    def log_params(self, params: Mapping[str, Any]) -> None:
        self._write("params", params=dict(params))

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        self._write("metrics", step=step, metrics=dict(metrics))

    def log_artifact(self, path: Path) -> None:
        self._write("artifact", path=str(path))

    def set_tags(self, tags: Mapping[str, str]) -> None:
        self._write("tags", tags=dict(tags))

    def end_run(self, status: str) -> None:
        self._write("end_run", status=status)

    def _write(self, event: str, **told: Any) -> None:
        if self._path is None:
            raise RuntimeError("call start_run first: it says which run this is about")
        line = json.dumps({"ts": self._clock().isoformat(), "event": event, **told}, default=str) + "\n"
        self._folder.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(line)
