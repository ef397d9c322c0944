"""The report of a run: one HTML page, JSON, CSV, and lines for a terminal."""

from __future__ import annotations

from uqueue_worker.learning.report.data import TARGETED, Arm, Comparison, ReportData
from uqueue_worker.learning.report.export import report_csv, report_json
from uqueue_worker.learning.report.index import render_index
from uqueue_worker.learning.report.page import render_page
from uqueue_worker.learning.report.summary import terminal_summary

__all__ = [
    "TARGETED",
    "Arm",
    "Comparison",
    "ReportData",
    "render_index",
    "render_page",
    "report_csv",
    "report_json",
    "terminal_summary",
]
