"""From samples to the columns of a model: only what its feature specification names, by path and never by place.

A value that is absent, None, NaN, infinite or beyond float32 is missing: NaN in `feature_values`, the feature's
imputation constant in `model_matrix`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain, islice
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from uqueue_config.learning.feature_path import FeaturePath, Reducer, parse_feature_path
from uqueue_config.learning.model_manifest import Feature, ModelManifest, feature_spec_fingerprint
from uqueue_worker.learning.errors import FeatureMismatch
from uqueue_worker.learning.metrics import FloatArray, IntArray
from uqueue_worker.learning.models.path_walk import PathWalk, Sample
from uqueue_worker.learning.models.reduction import NotNumeric, as_number, reduced

Float32Array = NDArray[np.float32]
MAX_MISSING_RATE = 0.5
_FLOAT32_MAX = float(np.finfo(np.float32).max)
_ROWS_AT_ONCE = 512
_PLAIN = {float, int, bool, type(None)}
Found = tuple[Any, ...] | list[Any]


@dataclass(frozen=True)
class FeatureSpec:
    """The features of a model in the order of its columns; `paths` are theirs, parsed.

    max_missing_rate  share of the samples that may lack a feature before they count as another kind of samples
    """

    features: tuple[Feature, ...]
    max_missing_rate: float = MAX_MISSING_RATE
    paths: tuple[FeaturePath, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not 0 <= self.max_missing_rate <= 1:
            raise ValueError(f"max_missing_rate: expected a share from 0 to 1, got {self.max_missing_rate}")
        object.__setattr__(self, "paths", tuple(parse_feature_path(one.name) for one in self.features))

    @classmethod
    def of(cls, manifest: ModelManifest, max_missing_rate: float = MAX_MISSING_RATE) -> Self:
        return cls(manifest.feature_spec, max_missing_rate)

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(feature.name for feature in self.features)

    @cached_property
    def fingerprint(self) -> str:
        return feature_spec_fingerprint(self.features)

    @property
    def indicators(self) -> tuple[int, ...]:
        """The numbers of the features that have an indicator, in the order of the indicators' columns."""
        return tuple(number for number, feature in enumerate(self.features) if feature.indicator)

    @cached_property
    def fields(self) -> frozenset[str]:
        """The names of all fields that the features' paths lead through."""
        return frozenset(step for path in self.paths for step in path.segments if isinstance(step, str))

    def found_in(self, sample: Sample) -> Found:
        """Return what lies at the paths, with reducers applied; None where one does not reach.

        Raises FeatureMismatch for what a reducer makes no number of.
        """
        found = self._walk(sample)
        if not self._reducing:
            return found
        numbers = list(found)
        for column, reducer in self._reducing:
            try:
                numbers[column] = reduced(found[column], reducer)
            except NotNumeric as problem:
                raise FeatureMismatch(reason=f"{self.paths[column]} {problem}") from None
        return numbers

    @cached_property
    def _walk(self) -> PathWalk:
        return PathWalk(self.paths)

    @cached_property
    def _reducing(self) -> tuple[tuple[int, Reducer], ...]:
        return tuple((column, path.reducer) for column, path in enumerate(self.paths) if path.reducer is not None)


@dataclass(frozen=True)
class MissingReport:
    """Of each feature that is missing somewhere, the share of the samples that lack it."""

    rates: dict[str, float]

    def warnings(self) -> list[str]:
        if not self.rates:
            return []
        worst = sorted(self.rates.items(), key=lambda one: (-one[1], one[0]))[:5]
        told = ", ".join(f"{name} in {rate:.1%}" for name, rate in worst)
        return [f"{len(self.rates)} features are missing somewhere and were imputed; most of all {told}"]


def feature_matrix(samples: Iterable[Sample], spec: FeatureSpec) -> tuple[Float32Array, MissingReport]:
    """Return what the model reads of samples, float32 (N, columns), and which features they lack.

    Raises FeatureMismatch for values that are no numbers and for features that too many samples lack.
    """
    values = feature_values(samples, spec)
    report = check_missing(values, spec)
    return model_matrix(values, spec), report


def feature_values(samples: Iterable[Sample], spec: FeatureSpec) -> FloatArray:
    """Return the features as the samples have them, float64 (N, F), NaN where one is missing.

    Takes exported samples and raw ones. Raises FeatureMismatch for a value that is no number.
    """
    rest = map(spec.found_in, samples)
    parts = [values_of([], spec)]
    while rows := list(islice(rest, _ROWS_AT_ONCE)):
        parts.append(values_of(rows, spec))
    return np.concatenate(parts)


def values_of(rows: list[Found], spec: FeatureSpec) -> FloatArray:
    """Return the same from what `spec.found_in` found in each sample."""
    values = _numbers(rows, spec)
    values[~(np.abs(values) <= _FLOAT32_MAX)] = np.nan
    return values


def check_missing(values: FloatArray, spec: FeatureSpec) -> MissingReport:
    """Return which features are missing how often. Raises FeatureMismatch where it is too often."""
    return missing_report(np.isnan(values).sum(axis=0), len(values), spec)


def missing_report(counts: IntArray, n_samples: int, spec: FeatureSpec) -> MissingReport:
    """Return the same from how many of so many samples lack each feature. Raises FeatureMismatch."""
    if n_samples == 0:
        return MissingReport({})
    rates = dict(zip(spec.names, (counts / n_samples).tolist(), strict=True))
    beyond = {name: rate for name, rate in rates.items() if rate > spec.max_missing_rate}
    if beyond:
        told = ", ".join(f"{name} is missing in {rate:.1%}" for name, rate in list(beyond.items())[:5])
        more = f" and {len(beyond) - 5} more" if len(beyond) > 5 else ""
        raise FeatureMismatch(reason=f"{told}{more}; at most {spec.max_missing_rate:.0%} may lack a feature")
    return MissingReport({name: rate for name, rate in rates.items() if rate > 0})


def model_matrix(values: FloatArray, spec: FeatureSpec) -> Float32Array:
    """Return the columns of the model, float32 (N, columns): features imputed where missing, then the indicators."""
    missing = np.isnan(values)
    impute = np.array([feature.impute for feature in spec.features])
    filled = np.where(missing, impute, values)
    return np.hstack([filled, missing[:, list(spec.indicators)]]).astype(np.float32)


def scaled(matrix: Float32Array, manifest: ModelManifest) -> Float32Array:
    """Return the columns as the model file wants them: what whoever runs the file does first."""
    if manifest.preprocessing.scaling == "none":
        return matrix
    mean = np.array([feature.mean for feature in manifest.feature_spec])
    std = np.array([feature.std for feature in manifest.feature_spec])
    n_features = len(mean)
    standard = (matrix[:, :n_features].astype(np.float64) - mean) / np.where(std > 0, std, 1)
    return np.hstack([standard, matrix[:, n_features:]]).astype(np.float32)


def _numbers(rows: list[Found], spec: FeatureSpec) -> FloatArray:
    """Return rows as numbers: at once where they hold nothing else, and None."""
    shape = len(rows), len(spec.features)
    if _PLAIN.issuperset(map(type, chain.from_iterable(rows))):
        try:
            return np.array(rows, dtype=np.float64).reshape(shape)
        except OverflowError:
            pass  # an integer beyond float64
    values = np.empty(shape)
    for column, path in enumerate(spec.paths):
        try:
            values[:, column] = [as_number(row[column]) for row in rows]
        except NotNumeric as problem:
            raise FeatureMismatch(reason=f"{path} {problem}") from None
    return values
