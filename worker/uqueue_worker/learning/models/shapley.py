"""SHAP: how much each feature adds to the probability of a row's class, against the training medians.

The values are Shapley values of the game in which features that do not take part have their median (Lundberg and Lee,
2017); those of a row sum to its probability minus that of the medians. They need the extra `learning-shap`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uqueue_worker.learning.errors import ActiveLearningError
from uqueue_worker.learning.metrics import FloatArray, IntArray
from uqueue_worker.learning.models.features import FeatureSpec, Float32Array, model_matrix

_COALITIONS, _COALITIONS_PER_FEATURE = 512, 4
_TREES = ("RandomForestClassifier", "ExtraTreesClassifier", "DecisionTreeClassifier")
_RANDOM = threading.Lock()


@dataclass(frozen=True, eq=False)
class TreeModel:
    """A forest or tree of scikit-learn.

    columns  class of the model for each class of the estimator
    prepare  from the model's columns to those that the estimator reads
    """

    estimator: Any
    columns: Sequence[int]
    n_classes: int
    prepare: Callable[[Float32Array], Float32Array]


def is_tree(estimator: Any) -> bool:
    """Tell whether an estimator's probabilities are the mean of its trees' leaves."""
    kind = type(estimator)
    return kind.__module__.startswith("sklearn.") and kind.__name__ in _TREES


def coalitions(spec: FeatureSpec) -> int:
    """Return how many sets of features a row is asked with, at most: 512, or four for each feature where that is more.

    A row of up to nine features that differ from the medians has no more than 510, and its values are exact.
    """
    return max(_COALITIONS, _COALITIONS_PER_FEATURE * len(spec.features))


def kernel_shap(
    values: FloatArray, spec: FeatureSpec, classes: IntArray, predict: Callable[[Float32Array], NDArray[Any]]
) -> FloatArray:
    """Return the values (rows, F) of each row's class for any model: kernel SHAP over `coalitions`, the same ones
    every time.

    All copies of all rows go through the model in one call. A feature and its indicator take part together.
    """
    asked = _Asked()
    _kernel(values, spec, asked)
    answers = np.asarray(predict(model_matrix(np.concatenate(asked.rows), spec)), dtype=np.float64)
    found = _kernel(values, spec, _Answered(answers))
    return np.take_along_axis(found, classes[:, None, None], axis=2)[:, :, 0]


def tree_shap(values: FloatArray, spec: FeatureSpec, classes: IntArray, trees: TreeModel) -> FloatArray:
    """Return the same for trees, exactly and without asking the model. Raises ValueError for specs with indicators."""
    if spec.indicators:
        raise ValueError("a feature and its indicator are two columns of the trees")
    explainer = _shap().TreeExplainer(
        trees.estimator, trees.prepare(model_matrix(_medians(spec), spec)), feature_perturbation="interventional"
    )
    found = explainer.shap_values(trees.prepare(model_matrix(values, spec)), check_additivity=False)
    whole = np.zeros((*values.shape, trees.n_classes))
    whole[:, :, list(trees.columns)] = found
    return np.take_along_axis(whole, classes[:, None, None], axis=2)[:, :, 0]


class _Asked:
    """Takes down what is asked; which coalitions these are does not depend on the answers."""

    def __init__(self) -> None:
        self.rows: list[FloatArray] = []

    def __call__(self, rows: FloatArray) -> FloatArray:
        self.rows.append(np.array(rows))
        return np.zeros((len(rows), 1))


class _Answered:
    """Answers what was taken down, in the same order."""

    def __init__(self, answers: FloatArray) -> None:
        self._answers = answers
        self._next = 0

    def __call__(self, rows: FloatArray) -> FloatArray:
        start, self._next = self._next, self._next + len(rows)
        return self._answers[start : self._next]


def _kernel(values: FloatArray, spec: FeatureSpec, model: Callable[[FloatArray], FloatArray]) -> FloatArray:
    """Return the values of all classes, (rows, F, K)."""
    explainer = _shap().KernelExplainer(model, _medians(spec))
    found = []
    for row in values:
        with _seeded():
            found.append(explainer.shap_values(row[None], nsamples=coalitions(spec), l1_reg=0, silent=True)[0])
    return np.stack(found)


def _medians(spec: FeatureSpec) -> FloatArray:
    return np.array([[feature.reference for feature in spec.features]], dtype=np.float64)


@contextmanager
def _seeded() -> Iterator[None]:
    """Seed NumPy's global stream, which the library draws from, and put it back."""
    with _RANDOM:
        before = np.random.get_state()
        np.random.seed(0)
        try:
            yield
        finally:
            np.random.set_state(before)


def _shap() -> Any:
    try:
        import shap
    except ImportError as error:
        reason = f'SHAP needs the package shap ({error}): pip install "uqueue[learning-shap]"'
        raise ActiveLearningError(reason=reason) from None
    return shap
