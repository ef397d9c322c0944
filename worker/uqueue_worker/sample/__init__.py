"""A sample workspace: a small model, trained and calibrated on made-up buildings, with fresh rows to try it on."""

from __future__ import annotations

from uqueue_worker.sample.workspace import CoverageAnswer, make_sample, measure_coverage

__all__ = ["CoverageAnswer", "make_sample", "measure_coverage"]
