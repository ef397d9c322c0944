"""What an interval model predicts of a sample, and in which classes feedback tells it."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Self

import numpy as np
from numpy.typing import ArrayLike
from pydantic import AfterValidator, Field, model_validator

from uqueue_config.learning.feature_path import canonical_feature_path
from uqueue_config.learning.record import Record
from uqueue_config.learning.values import Count, Identifier, Number
from uqueue_worker.learning.errors import ActiveLearningError
from uqueue_worker.learning.metrics import FloatArray, IntArray

FeaturePathText = Annotated[str, AfterValidator(canonical_feature_path)]
Edges = Annotated[tuple[Number, ...], Field(min_length=1, max_length=999)]


class RegressionSpec(Record):
    """What is predicted, in the unit of the model's answers.

    target           where a sample holds the true value, as a feature path: `Y1`, `sample_metadata.heating_load`
    edges            increasing borders of the classes: n of them make n + 1, the first and the last without an end
    reference_width  width of an interval that says nothing, such as `central_width` of the training targets
    output           which of the model's targets, by number or by its name in `outputs`
    outputs          names of the model's targets in their order; needed for names only
    """

    target: FeaturePathText
    edges: Edges
    reference_width: Annotated[Number, Field(gt=0)]
    output: Count | Identifier = 0
    outputs: tuple[Identifier, ...] = ()
    unit: str | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if any(low >= high for low, high in pairwise(self.edges)):
            raise ValueError("edges: expected increasing numbers")
        if len({_told(edge) for edge in self.edges}) != len(self.edges):
            raise ValueError("edges: expected numbers that differ in their first 12 digits")
        if isinstance(self.output, str) and self.outputs.count(self.output) != 1:
            named = ", ".join(self.outputs) or "none"
            raise ValueError(f"output: expected one of the names in outputs ({named}), or a number")
        return self

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes in words: `below 20`, `[20, 40)`, `40 and above`."""
        told = [_told(edge) for edge in self.edges]
        return (f"below {told[0]}", *(f"[{low}, {high})" for low, high in pairwise(told)), f"{told[-1]} and above")

    def classes_of(self, values: ArrayLike) -> IntArray:
        """Return the number of the class that each value lies in."""
        found: IntArray = np.searchsorted(self.edges, np.asarray(values, dtype=np.float64), side="right")
        return found.astype(np.int64)

    def output_of(self, n_targets: int) -> int:
        """Return which of so many targets is meant. Raises ActiveLearningError where the model has others."""
        if self.outputs and len(self.outputs) != n_targets:
            reason = f"outputs names {len(self.outputs)} targets, the model has {n_targets}"
            raise ActiveLearningError(reason=reason)
        found = self.outputs.index(self.output) if isinstance(self.output, str) else self.output
        if found >= n_targets:
            raise ActiveLearningError(reason=f"there is no output {found}: the model has {n_targets} targets, from 0")
        return found


def central_width(targets: ArrayLike, share: float = 0.9) -> float:
    """Return the width of the middle `share` of training targets (n,): the interval of a model that knows only them.

    Give the nominal coverage of the model as the share: then a width of 1 means "knows nothing", as an entropy of 1
    does for classes. A share of 0.5 is the interquartile range, 1 the range. Raises ValueError for targets that are not
    finite, or of which that share is equal.
    """
    values: FloatArray = np.asarray(targets, dtype=np.float64)
    if values.ndim != 1 or len(values) == 0 or not np.isfinite(values).all():
        raise ValueError("targets: expected finite numbers (n,)")
    if not 0 < share <= 1:
        raise ValueError(f"share: expected more than 0 and at most 1, got {share}")
    low, high = np.quantile(values, [(1 - share) / 2, (1 + share) / 2])
    if not high > low:
        raise ValueError(f"targets: the middle {share:g} of them are equal, which is no width to compare with")
    return float(high - low)


def _told(edge: float) -> str:
    return f"{edge:.12g}"
