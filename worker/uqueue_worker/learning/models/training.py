"""The default training hook: a random forest of scikit-learn, the same for the same samples, features and seed."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from uqueue_config.learning.model_manifest import Feature, TrainingData
from uqueue_worker.learning.errors import DatasetFormat, EmptyDataset
from uqueue_worker.learning.metrics import FloatArray, IntArray
from uqueue_worker.learning.models.estimators import placed
from uqueue_worker.learning.models.features import (
    FeatureSpec,
    Float32Array,
    check_missing,
    feature_values,
    model_matrix,
)
from uqueue_worker.learning.models.labels import label_of
from uqueue_worker.learning.models.out_of_bag import out_of_bag_scores, quantile

CONFORMAL_ALPHA = 0.1


@dataclass(frozen=True)
class ForestSettings:
    """Hyper-parameters by the names of scikit-learn."""

    n_estimators: int = 120
    min_samples_leaf: int = 2
    max_features: float = 0.5


@dataclass(frozen=True, eq=False)
class FittedForest:
    """A trained forest and what its manifest says of it.

    features     with the imputation constants, means, deviations and medians of the training data
    forest       a RandomForestClassifier whose classes are numbers of `classes`
    conformal_q  of the out-of-bag samples, which is approximate (`out_of_bag`); None where they are too few
    """

    classes: tuple[str, ...]
    features: tuple[Feature, ...]
    forest: Any
    training_data: TrainingData
    training: dict[str, Any]
    conformal_q: float | None = None

    def members(self, matrix: Float32Array) -> FloatArray:
        """Return the trees' probabilities, float64 (n, trees, K)."""
        known = self.forest.classes_.tolist()
        trees = [placed(tree.predict_proba(matrix), known, len(self.classes)) for tree in self.forest.estimators_]
        return np.stack(trees, axis=1)


def train(
    samples: Iterable[Mapping[str, Any]],
    features: Sequence[Feature | str],
    classes: Sequence[str],
    *,
    seed: int,
    settings: ForestSettings = ForestSettings(),
    label: str | None = None,
    conformal_alpha: float = CONFORMAL_ALPHA,
) -> FittedForest:
    """Train on labelled samples, exported or raw, as `train_on` does; those without a label are left out.

    `features` are entries of a manifest or plain feature paths. Raises EmptyDataset, DatasetFormat for labels that are
    not in `classes` or are all the same, and FeatureMismatch.
    """
    spec = FeatureSpec(tuple(one if isinstance(one, Feature) else Feature(path=one) for one in features))
    listed = list(samples)
    labels = [label_of(sample, label) for sample in listed]
    rows = [row for row, one in enumerate(labels) if one is not None]
    values = feature_values([listed[row] for row in rows], spec)
    known = [str(labels[row]) for row in rows]
    return train_on(
        values, known, spec.features, classes, seed=seed, settings=settings, conformal_alpha=conformal_alpha
    )


def train_on(
    values: FloatArray,
    labels: Sequence[str],
    features: Sequence[Feature],
    classes: Sequence[str],
    *,
    seed: int,
    settings: ForestSettings = ForestSettings(),
    conformal_alpha: float = CONFORMAL_ALPHA,
) -> FittedForest:
    """Train on features as samples have them, (N, F) with NaN where one is missing, and on labels (N,).

    `conformal_alpha` is the share of new samples whose conformal set may lack the true class (`out_of_bag`).
    """
    true = _class_numbers(labels, classes)
    check_missing(values, FeatureSpec(tuple(features)))
    described = describe(features, values)
    matrix = model_matrix(values, FeatureSpec(described))
    from sklearn.ensemble import RandomForestClassifier

    forest = RandomForestClassifier(**asdict(settings), random_state=seed, n_jobs=1)
    forest.fit(matrix, true)
    conformal_q = quantile(out_of_bag_scores(forest, matrix, true), conformal_alpha)
    training = {"estimator": "RandomForestClassifier", **asdict(settings), "random_state": seed, **_versions()}
    training["conformal_alpha"] = conformal_alpha
    training["samples_per_class"] = dict(sorted(Counter(labels).items()))
    data = TrainingData(fingerprint=fingerprint(values, labels), n=len(labels))
    return FittedForest(tuple(classes), described, forest, data, training, conformal_q)


def describe(features: Sequence[Feature], values: FloatArray) -> tuple[Feature, ...]:
    """Return the features with mean, population deviation and median of the values that are there.

    The median is also what is imputed. Features that are missing everywhere stay as they are.
    """
    found = []
    for column, feature in enumerate(features):
        there = values[:, column][~np.isnan(values[:, column])]
        if len(there):
            median = float(np.median(there))
            told = {"mean": float(there.mean()), "std": float(there.std()), "median": median, "impute": median}
            feature = feature.model_copy(update=told)
        found.append(feature)
    return tuple(found)


def fingerprint(values: FloatArray, labels: Sequence[str]) -> str:
    """Return the SHA-256 of what a model learns from, in hexadecimal."""
    digest = hashlib.sha256(np.ascontiguousarray(values, dtype=np.float64).tobytes())
    digest.update("\n".join(labels).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _class_numbers(labels: Sequence[str], classes: Sequence[str]) -> IntArray:
    if not labels:
        raise EmptyDataset(dataset="to train on")
    numbers = {name: number for number, name in enumerate(classes)}
    unknown = sorted(set(labels) - numbers.keys())
    if unknown:
        reason = f"it has labels that are no classes of the model: {', '.join(unknown[:5])}"
        raise DatasetFormat(dataset="to train on", reason=reason)
    if len(set(labels)) < 2:
        raise DatasetFormat(dataset="to train on", reason=f"all of its samples are of the class {labels[0]}")
    return np.array([numbers[label] for label in labels], dtype=np.int64)


def _versions() -> dict[str, str]:
    import sklearn

    return {"scikit_learn": sklearn.__version__, "numpy": np.__version__}
