"""The conformal quantile of a forest, from what its trees say of the samples that they were not trained on.

Scores are 1 - p(true class) (Sadinle, Lei and Wasserman, 2019), p the mean over the trees whose bootstrap sample lacks
the training sample; classes with 1 - p <= q are the conformal set of a new one. That is approximate: the whole forest
is a little surer than a part of its trees, and samples that were added where a model is weak are not drawn as later
ones are. Nothing guarantees the coverage 1 - alpha; measure it on a test set where it matters.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from uqueue_worker.learning.metrics import FloatArray, IntArray
from uqueue_worker.learning.models.features import Float32Array
from uqueue_worker.uncertainty.conformal import conformal_quantile, exact_share

_STEPS = 1_000_000


def out_of_bag_scores(forest: Any, matrix: Float32Array, true: IntArray) -> FloatArray:
    """Return 1 - p(true class) of the training samples that at least one tree has not seen.

    `true` are numbers of classes as the forest was fitted with.
    """
    sums: FloatArray = np.zeros((len(matrix), len(forest.classes_)))
    counts: FloatArray = np.zeros(len(matrix))
    for tree, drawn in zip(forest.estimators_, forest.estimators_samples_, strict=True):
        unseen = np.ones(len(matrix), dtype=bool)
        unseen[drawn] = False
        if unseen.any():
            sums[unseen] += tree.predict_proba(matrix[unseen], check_input=False)
            counts[unseen] += 1
    rows = counts > 0
    columns = np.searchsorted(forest.classes_, true[rows])
    scores: FloatArray = 1.0 - sums[rows, columns] / counts[rows]
    return scores


def quantile(scores: FloatArray, alpha: float) -> float | None:
    """Return the ceil((n + 1)(1 - alpha))-th smallest score, rounded up to six digits; None where n is too small.

    As it is rounded up, the float32 of a model file does not decide what is in a set. Raises ValueError for an alpha
    outside (0, 1).
    """
    share = exact_share(alpha)
    if len(scores) < (1 - share) / share:
        return None
    found = float(conformal_quantile(scores, alpha))
    return min(1.0, math.ceil(found * _STEPS) / _STEPS)
