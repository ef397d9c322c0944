"""Numbers of a classifier, from its confusion matrix and its probabilities.

Confusion matrices are integers (classes, classes): rows are the true classes, columns the predicted ones.
Probabilities are (samples, classes), true classes are column numbers (samples,).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
SUM_TOLERANCE = 1e-3
_LEAST_PROBABILITY = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, eq=False)
class ClassScores:
    """Per class, in the order of the matrix: float64 (classes,) within [0, 1], and support as counts.

    Where nothing is to be divided by, a score is 0; `undefined` marks the classes without a true or a predicted sample.
    """

    recall: FloatArray
    precision: FloatArray
    f1_score: FloatArray
    support: IntArray
    undefined: NDArray[np.bool_]


@dataclass(frozen=True)
class OverallScores:
    """Over all classes. Balanced accuracy is the mean recall of the classes that have support."""

    accuracy: float
    balanced_accuracy: float
    macro_f1_score: float
    weighted_f1_score: float


def class_order(model_classes: list[str], labels: list[str]) -> list[str]:
    """Return the model's classes in its order, then the labels that it does not know, sorted."""
    return [*model_classes, *sorted(set(labels) - set(model_classes))]


def confusion_matrix(true: ArrayLike, predicted: ArrayLike, n_classes: int) -> IntArray:
    """Return how often each true class was predicted as each class, from class numbers (samples,)."""
    rows, columns = _class_numbers(true, n_classes), _class_numbers(predicted, n_classes)
    if rows.shape != columns.shape:
        raise ValueError(f"expected as many predictions as true classes, got {len(columns)} and {len(rows)}")
    counts = np.bincount(rows * n_classes + columns, minlength=n_classes * n_classes)
    return counts.reshape(n_classes, n_classes).astype(np.int64)


def class_scores(matrix: ArrayLike) -> ClassScores:
    """Return recall, precision, F1 and support of every class."""
    counts = _checked_matrix(matrix)
    hits, support, predicted = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
    return ClassScores(
        recall=_ratio(hits, support),
        precision=_ratio(hits, predicted),
        f1_score=_ratio(2 * hits, support + predicted),
        support=support,
        undefined=(support == 0) | (predicted == 0),
    )


def overall_scores(matrix: ArrayLike) -> OverallScores:
    """Return the four scores; macro F1 counts every class of the matrix. Raises ValueError where nothing is counted."""
    counts = _checked_matrix(matrix)
    n_samples = int(counts.sum())
    if n_samples == 0:
        raise ValueError("expected at least one sample")
    scores = class_scores(counts)
    return OverallScores(
        accuracy=float(np.trace(counts) / n_samples),
        balanced_accuracy=float(scores.recall[scores.support > 0].mean()),
        macro_f1_score=float(scores.f1_score.mean()),
        weighted_f1_score=float(scores.f1_score @ scores.support / n_samples),
    )


def log_loss(probabilities: ArrayLike, true: ArrayLike) -> float:
    """Return the mean negative log likelihood in nats; a probability of 0 counts as the machine epsilon."""
    shares, rows = _checked_probabilities(probabilities, true)
    chosen = shares[np.arange(len(rows)), rows]
    return float(-np.log(np.clip(chosen, _LEAST_PROBABILITY, 1)).mean())


def brier_score(probabilities: ArrayLike, true: ArrayLike) -> float:
    """Return the mean squared distance to the one-hot truth, summed over classes: 0 is best, 2 worst (Brier 1950)."""
    shares, rows = _checked_probabilities(probabilities, true)
    return float(((shares - np.eye(shares.shape[1])[rows]) ** 2).sum(axis=1).mean())


def expected_calibration_error(probabilities: ArrayLike, true: ArrayLike, n_bins: int = 15) -> float:
    """Return the mean gap between confidence and accuracy, over bins of equal width weighted by their samples.

    Bins are (low, high] of the highest probability (Guo et al. 2017); of equal probabilities, the first class wins.
    """
    gaps = calibration_gaps(probabilities, true, n_bins)
    return float(np.abs(gaps).sum() / len(np.asarray(true)))


def calibration_gaps(probabilities: ArrayLike, true: ArrayLike, n_bins: int = 15) -> FloatArray:
    """Return the sum of confidence - accuracy of each bin, float64 (bins,); the sums of parts add up."""
    if n_bins < 1:
        raise ValueError(f"expected at least one bin, got {n_bins}")
    shares, rows = _checked_probabilities(probabilities, true)
    confidence = shares.max(axis=1)
    hit = shares.argmax(axis=1) == rows
    edges = np.arange(1, n_bins) / n_bins
    bins = np.searchsorted(edges, confidence, side="left")
    return np.bincount(bins, confidence - hit, minlength=n_bins).astype(np.float64)


def checked_shares(probabilities: ArrayLike) -> FloatArray:
    """Return probabilities (..., classes) as float64. Raises ValueError unless finite, within [0, 1], summing to 1."""
    shares = np.asarray(probabilities, dtype=np.float64)
    if shares.ndim < 1 or shares.shape[-1] == 0:
        raise ValueError(f"expected probabilities of at least one class, got the shape {shares.shape}")
    if not np.isfinite(shares).all():
        raise ValueError("expected finite probabilities")
    if shares.size and (shares.min() < 0 or shares.max() > 1 or np.abs(shares.sum(axis=-1) - 1).max() > SUM_TOLERANCE):
        raise ValueError("expected probabilities within [0, 1] that sum to 1")
    return shares


def _checked_probabilities(probabilities: ArrayLike, true: ArrayLike) -> tuple[FloatArray, IntArray]:
    shares = checked_shares(probabilities)
    if shares.ndim != 2 or len(shares) == 0:
        raise ValueError(f"expected probabilities (samples, classes), got the shape {shares.shape}")
    rows = _class_numbers(true, shares.shape[1])
    if len(rows) != len(shares):
        raise ValueError(f"expected {len(shares)} true classes, got {len(rows)}")
    return shares, rows


def _class_numbers(numbers: ArrayLike, n_classes: int) -> IntArray:
    found = np.asarray(numbers)
    if found.size == 0:
        found = found.astype(np.int64)
    if found.ndim != 1 or not np.issubdtype(found.dtype, np.integer):
        raise ValueError("expected class numbers (samples,)")
    if found.size and (found.min() < 0 or found.max() >= n_classes):
        raise ValueError(f"expected class numbers below {n_classes}")
    return found.astype(np.int64)


def _checked_matrix(matrix: ArrayLike) -> IntArray:
    counts = np.asarray(matrix)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or counts.shape[0] == 0:
        raise ValueError(f"expected a square confusion matrix, got the shape {counts.shape}")
    if not np.issubdtype(counts.dtype, np.integer) or counts.min() < 0:
        raise ValueError("expected counts, 0 or more")
    return counts.astype(np.int64)


def _ratio(above: IntArray, below: IntArray) -> FloatArray:
    return np.divide(above, below, out=np.zeros(len(above)), where=below > 0)
