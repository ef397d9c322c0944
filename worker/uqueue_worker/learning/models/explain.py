"""Which features a prediction rests on: how much of the predicted class's probability is due to each of them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from uqueue_config.learning.samples import Method
from uqueue_worker.learning.errors import ActiveLearningError
from uqueue_worker.learning.metrics import FloatArray, IntArray
from uqueue_worker.learning.models.features import FeatureSpec, Float32Array, model_matrix
from uqueue_worker.learning.models.shapley import TreeModel, coalitions, kernel_shap, tree_shap

#: From the columns of the model, float32 (n, columns), to probabilities (n, K).
PredictProbabilities = Callable[[Float32Array], NDArray[Any]]
#: How reported samples are explained.
Explanation = Literal["OCCLUSION", "SHAP", "PERMUTATION"]
_ROWS_PER_CALL = 65_536
_OTHERS = 8
_TIE_DIGITS = 9
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Importances:
    """`scores` float64 (rows, F), None where there are none; `warning` says why."""

    method: Method
    scores: FloatArray | None
    warning: str | None = None


def check_explanation(method: str) -> None:
    """Raise ValueError for a method that there is not, ActiveLearningError where its library is not installed."""
    if method not in get_args(Explanation):
        raise ValueError(f"explanation: expected one of {', '.join(get_args(Explanation))}, got {method!r}")
    if method == "SHAP" and find_spec("shap") is None:
        reason = 'explanations by SHAP need the package shap: pip install "uqueue[learning-shap]"'
        raise ActiveLearningError(reason=reason)


def explained_by(
    method: Explanation,
    values: FloatArray,
    spec: FeatureSpec,
    classes: IntArray,
    predict: PredictProbabilities,
    trees: TreeModel | None = None,
) -> Importances:
    """Return what `occlusion`, `shap` (which looks into `trees` where they are given) or `permutation` says."""
    if method == "SHAP":
        return shap(values, spec, classes, predict, trees)
    return (permutation if method == "PERMUTATION" else occlusion)(values, spec, classes, predict)


def occlusion(values: FloatArray, spec: FeatureSpec, classes: IntArray, predict: PredictProbabilities) -> Importances:
    """Return by how much the probability of each row's class drops when a feature is set to its training median.

    `values` are features as the samples have them, (rows, F). All copies of all rows go through the model in one call,
    as long as they are at most 65,536. A model that fails gives the method NONE and a warning.
    """

    def explained(part: slice) -> FloatArray:
        return occlusion_scores(predict(occluded_columns(values[part], spec)), classes[part])

    return _importances("OCCLUSION", values.shape, 1 + len(spec.features), explained)


def shap(
    values: FloatArray,
    spec: FeatureSpec,
    classes: IntArray,
    predict: PredictProbabilities,
    trees: TreeModel | None = None,
) -> Importances:
    """Return what each feature adds to the probability of each row's class: see `shapley`. Arguments, calls and
    failures are those of `occlusion`; trees are not asked but looked into."""

    def explained(part: slice) -> FloatArray:
        if trees is not None and not spec.indicators:
            return _rounded(tree_shap(values[part], spec, classes[part], trees))
        return _rounded(kernel_shap(values[part], spec, classes[part], predict))

    return _importances("SHAP", values.shape, 2 + coalitions(spec), explained)


def permutation(values: FloatArray, spec: FeatureSpec, classes: IntArray, predict: PredictProbabilities) -> Importances:
    """Return by how much the probability of each row's class drops on average when a feature has the value that it has
    in another row: 8 other rows (or all, if there are fewer), drawn with a fixed seed whatever order the rows have.

    Arguments, calls and failures are those of `occlusion`; a single row is such a failure.
    """
    others = _others(values)
    n_features = values.shape[1]
    places = np.arange(n_features)

    def explained(part: slice) -> FloatArray:
        if len(others) == 0:
            raise ValueError("a single sample has no other one to take values from")
        copies = np.repeat(values[part][:, None, :], 1 + len(others) * n_features, axis=1)
        for number, chosen in enumerate(others):
            copies[:, 1 + number * n_features + places, places] = values[chosen[part]]
        answers = predict(model_matrix(copies.reshape(-1, n_features), spec))
        drops = occlusion_scores(answers, classes[part]).reshape(-1, len(others), n_features)
        return _rounded(drops.mean(axis=1))

    return _importances("PERMUTATION", values.shape, 1 + len(others) * n_features, explained)


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
    return _rounded(scores)


def _importances(
    method: Method, shape: tuple[int, ...], rows_each: int, explained: Callable[[slice], FloatArray]
) -> Importances:
    """Return what `explained` says of the rows, as many at a time as the model may be asked about in one call."""
    per_call = max(1, _ROWS_PER_CALL // rows_each)
    try:
        parts = [explained(slice(start, start + per_call)) for start in range(0, shape[0], per_call)]
    except Exception as error:  # any model may stand behind the function; metrics do not depend on it
        _LOG.warning("explanations failed", exc_info=True)
        return Importances("NONE", None, f"explanations failed: {type(error).__name__}: {error}"[:300])
    return Importances(method, np.concatenate(parts) if parts else np.zeros((0, shape[1])))


def _others(values: FloatArray) -> list[IntArray]:
    """Return up to eight lists with a different row for each row, which depend on values and not on their order."""
    n_rows = len(values)
    shuffled = np.random.default_rng(0).permutation(np.lexsort(values.T))
    found = []
    for shift in range(1, min(_OTHERS, n_rows - 1) + 1):
        chosen = np.empty(n_rows, dtype=np.int64)
        chosen[shuffled] = np.roll(shuffled, -shift)
        found.append(chosen)
    return found


def _rounded(scores: FloatArray) -> FloatArray:
    """Return importances so that equal ones stay equal, in whatever order members were added up. Raises ValueError."""
    if not np.isfinite(scores).all():
        raise ValueError("the model answered what is no number")
    return np.round(scores, _TIE_DIGITS)
