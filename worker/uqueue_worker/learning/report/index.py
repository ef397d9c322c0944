"""A page that lists runs, each with a link to its report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import quote

from uqueue_config.learning.runs import RunRecord
from uqueue_worker.learning.report.markup import element, joined, table
from uqueue_worker.learning.report.page import document

_HEAD = ("run", "model", "status", "stop reason", "cycles", "samples", "metric", "created")


def render_index(runs: Sequence[RunRecord], files: Mapping[str, str]) -> str:
    """Return an HTML document that lists the runs, the latest first; `files` has the report's file name by run id."""
    ranked = sorted(runs, key=lambda run: run.created_at_utc, reverse=True)
    made = table(f"{len(ranked)} runs, the latest first", _HEAD, [_row(run, files.get(run.run_id)) for run in ranked])
    header = element("header", element("h1", "Runs of active learning"))
    return document("Runs of active learning", joined([header, element("main", element("section", made))]))


def _row(run: RunRecord, file: str | None) -> list[object]:
    name = run.run_id if file is None else element("a", run.run_id, href=quote(file))
    value = None if run.test is None else run.test.metrics.get(run.config.target_metric)
    return [
        name,
        run.config.model,
        run.status,
        run.stop_reason or "–",
        run.cycle + 1,
        run.samples_spent,
        "–" if value is None else f"{value:.4f}",
        run.created_at_utc.isoformat(sep=" ", timespec="seconds"),
    ]
