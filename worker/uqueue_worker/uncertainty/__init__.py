"""The numerics: arrays in, arrays out, randomness only as an argument."""

from __future__ import annotations

from uqueue_worker.uncertainty.adaptive import Draw, PassSummary, adaptive_passes, rule_without_spread
from uqueue_worker.uncertainty.conformal import conformal_interval, conformal_quantile, conformal_rank, cqr_scores
from uqueue_worker.uncertainty.coverage import CoverageReport, coverage_band, coverage_report, empirical_coverage

__all__ = [
    "CoverageReport",
    "Draw",
    "PassSummary",
    "adaptive_passes",
    "conformal_interval",
    "conformal_quantile",
    "conformal_rank",
    "coverage_band",
    "coverage_report",
    "cqr_scores",
    "empirical_coverage",
    "rule_without_spread",
]
