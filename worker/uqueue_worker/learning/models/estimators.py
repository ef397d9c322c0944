"""Classifiers of scikit-learn in memory, as members."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uqueue_config.learning.model_manifest import ModelManifest
from uqueue_worker.learning.errors import ModelNotFitted, UnsupportedModelFormat
from uqueue_worker.learning.metrics import FloatArray
from uqueue_worker.learning.models.features import Float32Array, scaled
from uqueue_worker.learning.models.loaded import LoadedModel, one_member
from uqueue_worker.learning.models.shapley import TreeModel, is_tree


def estimator_model(estimator: Any, manifest: ModelManifest) -> LoadedModel:
    """Return a classifier as a model: an ensemble with `estimators_` by its members, any other as a single model.

    Its classes are the manifest's, by name or by number. Raises ModelNotFitted, and UnsupportedModelFormat for what
    has no `predict_proba` or has other classes.
    """
    if not hasattr(estimator, "predict_proba"):
        raise UnsupportedModelFormat(file=manifest.file, reason="it holds nothing that has predict_proba")
    if not hasattr(estimator, "classes_"):
        raise ModelNotFitted(model=manifest.reference)
    columns = class_columns(estimator.classes_, manifest)
    n_classes = len(manifest.classes)
    trees = None
    if is_tree(estimator):
        trees = TreeModel(estimator, columns, n_classes, lambda matrix: scaled(matrix, manifest))
    if manifest.uncertainty.method == "single_model":
        return LoadedModel(
            manifest,
            lambda matrix: one_member(placed(estimator.predict_proba(matrix), columns, n_classes)),
            _weights(estimator, columns, manifest),
            trees,
        )
    members = list(np.ravel(getattr(estimator, "estimators_", [])))
    if manifest.uncertainty.method != "ensemble" or len(members) != manifest.uncertainty.members:
        reason = f"its manifest says {manifest.uncertainty.text} and it has {len(members)} members"
        raise UnsupportedModelFormat(file=manifest.file, reason=reason)

    def run(matrix: Float32Array) -> NDArray[Any]:
        return np.stack([placed(one.predict_proba(matrix), columns, n_classes) for one in members], axis=1)

    return LoadedModel(manifest, run, trees=trees)


def class_columns(found: Sequence[Any], manifest: ModelManifest) -> list[int]:
    """Return the column of the manifest for each class of an estimator. Raises UnsupportedModelFormat."""
    numbers = {name: number for number, name in enumerate(manifest.classes)}
    columns = []
    for one in list(found):
        if isinstance(one, int | np.integer) and 0 <= one < len(numbers):
            columns.append(int(one))
        elif str(one) in numbers:
            columns.append(numbers[str(one)])
        else:
            reason = f"it knows a class {str(one)[:80]!r} that its manifest does not"
            raise UnsupportedModelFormat(file=manifest.file, reason=reason)
    return columns


def placed(probabilities: NDArray[Any], columns: Sequence[int], n_classes: int) -> FloatArray:
    """Return probabilities (n, found) in their places among all classes; classes never seen have 0."""
    whole = np.zeros((len(probabilities), n_classes))
    whole[:, list(columns)] = probabilities
    return whole


def _weights(estimator: Any, columns: Sequence[int], manifest: ModelManifest) -> FloatArray | None:
    """Return the coefficients of a linear classifier that knows all classes, for its columns before scaling."""
    found = getattr(estimator, "coef_", None)
    if found is None or list(columns) != list(range(len(manifest.classes))):
        return None
    weights = np.array(found, dtype=np.float64)
    if manifest.preprocessing.scaling == "standard":
        std = np.array([feature.std for feature in manifest.feature_spec])
        weights[:, : len(std)] /= np.where(std > 0, std, 1)
    return weights
