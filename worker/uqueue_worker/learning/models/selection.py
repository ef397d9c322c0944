"""Which samples feedback reports."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal

import numpy as np

from uqueue_worker.learning.metrics import FloatArray, IntArray
from uqueue_worker.learning.models.predictions import FAILED, Predictions
from uqueue_worker.learning.models.scores import UNLABELLED, Outcome
from uqueue_worker.learning.uncertainty import least_confidence, small_margin

_TIE_DIGITS = 9
ScoreName = Literal["total", "least_confidence", "margin"]


def uncertainty_scores(predictions: Predictions, score: ScoreName) -> FloatArray | None:
    """Return the score that uncertain samples are ranked by, (N,), NaN in failed rows; None for labels alone."""
    if score == "total" or predictions.probabilities is None:
        return predictions.total
    answered = predictions.predicted != FAILED
    found = np.full(len(predictions), np.nan)
    of = least_confidence if score == "least_confidence" else small_margin
    found[answered] = of(predictions.probabilities[answered])
    return found


def uncertain_rows(
    scores: FloatArray | None,
    outcome: Outcome,
    ids: Sequence[str],
    *,
    threshold: float,
    at_most: int | None,
    per_class: int | None,
) -> IntArray:
    """Return the answered rows whose score is at least the threshold, the highest first; equal ones by id."""
    if scores is None:
        return np.zeros(0, dtype=np.int64)
    rows = np.flatnonzero((outcome.predicted != FAILED) & (scores >= threshold))
    return _first(_ranked(rows, scores, ids), outcome, at_most, per_class)


def misclassified_rows(
    confidence: FloatArray | None,
    outcome: Outcome,
    ids: Sequence[str],
    *,
    at_most: int | None,
    per_class: int | None,
) -> IntArray:
    """Return the wrong rows, the most confident first; equal ones by id."""
    scores = np.zeros(len(outcome.true)) if confidence is None else confidence
    return _first(_ranked(outcome.wrong, scores, ids), outcome, at_most, per_class)


def _ranked(rows: IntArray, scores: FloatArray, ids: Sequence[str]) -> list[int]:
    rounded = np.round(scores, _TIE_DIGITS)  # sums in another order give the same ranks
    return sorted(rows.tolist(), key=lambda row: (-rounded[row], ids[row]))


def _first(rows: list[int], outcome: Outcome, at_most: int | None, per_class: int | None) -> IntArray:
    """Return the first rows, of each class at most so many: of the true one or, without a label, the predicted one."""
    if per_class is not None:
        seen: Counter[int] = Counter()
        kept = []
        for row in rows:
            of = int(outcome.predicted[row] if outcome.true[row] == UNLABELLED else outcome.true[row])
            seen[of] += 1
            if seen[of] <= per_class:
                kept.append(row)
        rows = kept
    return np.array(rows[:at_most], dtype=np.int64)
