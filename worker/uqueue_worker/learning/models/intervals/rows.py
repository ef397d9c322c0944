"""Samples as evaluation of intervals needs them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from uqueue_config.learning.model_manifest import Feature
from uqueue_worker.learning.errors import FeatureMismatch
from uqueue_worker.learning.metrics import FloatArray
from uqueue_worker.learning.models.features import FeatureSpec, check_missing
from uqueue_worker.learning.models.sample_table import SampleTable, read_table


@dataclass(frozen=True, eq=False)
class Rows:
    """Row by row, what feedback says of samples besides the answers.

    truth    float64 (N,), NaN where a sample has no true value
    present  bool (N, S): whether a sample has a reading of a sensor, in the order of `sensors`
    """

    ids: tuple[str, ...]
    truth: FloatArray
    scenario_ids: tuple[str | None, ...]
    seconds: tuple[float | None, ...]
    sensors: tuple[str, ...]
    present: NDArray[np.bool_]

    @classmethod
    def of(cls, ids: Sequence[str], truth: ArrayLike, scenario_ids: Sequence[str | None] | None = None) -> Self:
        """Return rows that are known by their ids, and by scenarios where given."""
        n_rows = len(ids)
        return cls(
            ids=tuple(ids),
            truth=np.asarray(truth, dtype=np.float64),
            scenario_ids=tuple(scenario_ids or [None] * n_rows),
            seconds=(None,) * n_rows,
            sensors=(),
            present=np.zeros((n_rows, 0), dtype=bool),
        )

    @classmethod
    def of_table(cls, table: SampleTable, truth: FloatArray) -> Self:
        return cls(table.ids, truth, table.scenario_ids, table.seconds, table.sensors, table.present)

    def __len__(self) -> int:
        return len(self.ids)


def read_rows(
    samples: Iterable[Mapping[str, Any]], spec: FeatureSpec, target: str, *, identifier: str | None
) -> tuple[SampleTable, FloatArray]:
    """Return the table of samples and their true values (N,), NaN where one is missing.

    Raises as `read_table` does, and FeatureMismatch for a target that is no number.
    """
    both = FeatureSpec((*spec.features, Feature(path=target)), max_missing_rate=1.0)
    whole = read_table(samples, both, identifier=identifier)
    values = whole.values[:, :-1]
    table = replace(whole, spec=spec, values=values, missing=check_missing(values, spec))
    return table, whole.values[:, -1]


def with_references(spec: FeatureSpec, values: FloatArray) -> FeatureSpec:
    """Return the features with the medians of these values (N, F) as references where none are given."""
    medians = [
        float(np.median(column[~np.isnan(column)])) if not np.isnan(column).all() else 0.0 for column in values.T
    ]
    features = [
        one if one.median is not None else one.model_copy(update={"median": median})
        for one, median in zip(spec.features, medians, strict=True)
    ]
    return FeatureSpec(tuple(features), spec.max_missing_rate)


def feature_spec(features: Sequence[str | Feature], max_missing_rate: float) -> FeatureSpec:
    """Return the columns of a model, given as paths or with constants. Raises FeatureMismatch for repeated ones."""
    listed = tuple(Feature(path=one) if isinstance(one, str) else one for one in features)
    names = [one.name for one in listed]
    if not names or len(set(names)) != len(names):
        raise FeatureMismatch(reason="expected every column of the model once, and at least one")
    return FeatureSpec(listed, max_missing_rate)
