"""Which features a prediction rests on: how much the predicted class loses without each of them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from uqueue_config.learning.samples import Method
from uqueue_worker.learning.metrics import FloatArray, IntArray
from uqueue_worker.learning.models.features import FeatureSpec, Float32Array, model_matrix

#: From the columns of the model, float32 (n, columns), to probabilities (n, K).
PredictProbabilities = Callable[[Float32Array], NDArray[Any]]
_ROWS_PER_CALL = 65_536
_TIE_DIGITS = 9
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Importances:
    """`scores` float64 (rows, F), None where there are none; `warning` says why."""

    method: Method
    scores: FloatArray | None
    warning: str | None = None


def occlusion(values: FloatArray, spec: FeatureSpec, classes: IntArray, predict: PredictProbabilities) -> Importances:
    """Return by how much the probability of each row's class drops when a feature is set to its training median.

    `values` are features as the samples have them, (rows, F). All copies of all rows go through the model in one call,
    as long as they are at most 65,536. A model that fails gives the method NONE and a warning.
    """
    rows_each = 1 + len(spec.features)
    per_call = max(1, _ROWS_PER_CALL // rows_each)
    try:
        parts = [
            _occluded(values[start : start + per_call], spec, classes[start : start + per_call], predict)
            for start in range(0, len(values), per_call)
        ]
    except Exception as error:  # any model may stand behind the function; metrics do not depend on it
        _LOG.warning("explanations failed", exc_info=True)
        return Importances("NONE", None, f"explanations failed: {type(error).__name__}: {error}"[:300])
    return Importances("OCCLUSION", np.concatenate(parts) if parts else np.zeros((0, len(spec.features))))


def coefficients(values: FloatArray, spec: FeatureSpec, classes: IntArray, weights: ArrayLike) -> Importances:
    """Return coefficient * (x - mean) of each row's class, for a linear model of raw features.

    `weights` is (K, F), or (1, F) for two classes: then it is the second one's, and the first has the opposite.
    """
    table = np.asarray(weights, dtype=np.float64)
    if len(table) == 1:
        table = np.concatenate([-table, table])
    mean = np.array([feature.mean for feature in spec.features])
    n_features = len(spec.features)
    filled = model_matrix(values, spec)[:, :n_features].astype(np.float64)
    return Importances("COEFFICIENT", table[classes][:, :n_features] * (filled - mean))


def occluded_columns(values: FloatArray, spec: FeatureSpec) -> Float32Array:
    """Return what the model is asked for occlusion, (rows * (1 + F), columns): each row, and then its copies without
    one feature each."""
    n_features = values.shape[1]
    copies = np.repeat(values[:, None, :], n_features + 1, axis=1)
    places = np.arange(n_features)
    copies[:, places + 1, places] = [feature.reference for feature in spec.features]
    return model_matrix(copies.reshape(-1, n_features), spec)


def occlusion_scores(answers: ArrayLike, classes: IntArray) -> FloatArray:
    """Return the importances (rows, F) from the probabilities of `occluded_columns`. Raises ValueError."""
    table = np.asarray(answers, dtype=np.float64)
    shares = table.reshape(len(classes), -1, table.shape[1])
    chosen = np.take_along_axis(shares, classes[:, None, None], axis=2)[:, :, 0]
    scores: FloatArray = chosen[:, :1] - chosen[:, 1:]
    if not np.isfinite(scores).all():
        raise ValueError("the model answered what is no number")
    return np.round(scores, _TIE_DIGITS)  # equal importances stay equal, in whatever order members were added up


def _occluded(values: FloatArray, spec: FeatureSpec, classes: IntArray, predict: PredictProbabilities) -> FloatArray:
    return occlusion_scores(predict(occluded_columns(values, spec)), classes)
