"""Tracking: where the history of runs goes besides the store. A failing tracker never stops a run."""

from __future__ import annotations

from uqueue_worker.learning.tracking.json_lines import JsonLinesTracker
from uqueue_worker.learning.tracking.tracker import NoTracker, Tracker

__all__ = ["JsonLinesTracker", "NoTracker", "Tracker"]
