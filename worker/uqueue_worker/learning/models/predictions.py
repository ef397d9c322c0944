"""What a model said of the rows of a data set, wherever the model ran."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from uqueue_worker.learning.metrics import FloatArray, IntArray, checked_shares
from uqueue_worker.learning.uncertainty import entropy, uncertainties

FAILED = -1
_TIE_DIGITS = 12


@dataclass(frozen=True, eq=False)
class Predictions:
    """Row by row, in the order of the data set.

    predicted           int64 (N,): number of the class, -1 in the rows of `failed`
    probabilities       float64 (N, K), means over members, rows summing to 1; None where the model gave labels only
    total, epistemic,   float64 (N,) within [0, 1], as `learning.uncertainty` defines them; None where the model does
    aleatoric,          not give them: a single model knows its total only, labels alone say nothing
    disagreement
    uncertainty_method  as feedback names it, such as `ensemble:120`
    failed              rows without an answer; their floats are NaN
    """

    classes: tuple[str, ...]
    predicted: IntArray
    probabilities: FloatArray | None
    total: FloatArray | None
    epistemic: FloatArray | None
    aleatoric: FloatArray | None
    disagreement: FloatArray | None
    model_version: str
    uncertainty_method: str
    failed: tuple[int, ...] = ()

    @classmethod
    def from_members(
        cls, members: ArrayLike, classes: Sequence[str], *, model_version: str, uncertainty_method: str
    ) -> Self:
        """Return what members' probabilities (N, M, K) come to. Raises ValueError for what are no probabilities.

        Members may be float32; their rows are scaled to sum to 1 exactly, as far as float64 goes.
        """
        shares = checked_shares(members)
        if shares.ndim != 3 or shares.shape[1] == 0 or shares.shape[2] != len(classes):
            raise ValueError(f"expected probabilities (rows, members, {len(classes)}), got the shape {shares.shape}")
        by_member = _scaled(shares).transpose(1, 0, 2)
        found = uncertainties(by_member)
        means = by_member.mean(axis=0)
        return cls(
            classes=tuple(classes),
            predicted=_most_probable(means),
            probabilities=means,
            total=found.total,
            epistemic=found.epistemic,
            aleatoric=found.aleatoric,
            disagreement=found.disagreement,
            model_version=model_version,
            uncertainty_method=uncertainty_method,
        )

    @classmethod
    def from_probabilities(
        cls,
        probabilities: ArrayLike,
        classes: Sequence[str],
        *,
        model_version: str,
        uncertainty_method: str = "single_model",
        total: FloatArray | None = None,
        epistemic: FloatArray | None = None,
        aleatoric: FloatArray | None = None,
        disagreement: FloatArray | None = None,
    ) -> Self:
        """Return what probabilities (N, K) say, with the uncertainties that came with them.

        The total is computed where it is not given. Raises ValueError for what are no probabilities.
        """
        shares = checked_shares(probabilities)
        if shares.ndim != 2 or shares.shape[1] != len(classes):
            raise ValueError(f"expected probabilities (rows, {len(classes)}), got the shape {shares.shape}")
        means = _scaled(shares)
        return cls(
            classes=tuple(classes),
            predicted=_most_probable(means),
            probabilities=means,
            total=entropy(means) if total is None else _score(total, len(means)),
            epistemic=None if epistemic is None else _score(epistemic, len(means)),
            aleatoric=None if aleatoric is None else _score(aleatoric, len(means)),
            disagreement=None if disagreement is None else _score(disagreement, len(means)),
            model_version=model_version,
            uncertainty_method=uncertainty_method,
        )

    @classmethod
    def from_labels(cls, labels: Sequence[str], classes: Sequence[str], *, model_version: str) -> Self:
        """Return predictions of a model that gives labels alone. Raises ValueError for labels not in `classes`."""
        numbers = {name: number for number, name in enumerate(classes)}
        unknown = sorted(set(labels) - numbers.keys())
        if unknown:
            raise ValueError(f"expected labels of {len(numbers)} known classes, got {', '.join(unknown[:5])}")
        predicted = np.array([numbers[label] for label in labels], dtype=np.int64)
        return cls(tuple(classes), predicted, None, None, None, None, None, model_version, "none")

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """Return parts of one model version as one, in their order. Raises ValueError where they are of several."""
        first = parts[0]
        told = {(part.classes, part.model_version, part.uncertainty_method) for part in parts}
        if len(told) != 1:
            raise ValueError("expected parts of one model version with the same classes")
        starts = np.cumsum([0, *(len(part) for part in parts)])
        return replace(
            first,
            predicted=np.concatenate([part.predicted for part in parts]),
            probabilities=_joined([part.probabilities for part in parts]),
            failed=tuple(int(start) + row for start, part in zip(starts, parts, strict=False) for row in part.failed),
            total=_joined([part.total for part in parts]),
            epistemic=_joined([part.epistemic for part in parts]),
            aleatoric=_joined([part.aleatoric for part in parts]),
            disagreement=_joined([part.disagreement for part in parts]),
        )

    def spread(self, rows: Sequence[int], n_rows: int) -> Self:
        """Return predictions of `n_rows` rows: these in the places `rows`, all others failed."""
        places = np.asarray(rows, dtype=np.int64)
        predicted = np.full(n_rows, FAILED, dtype=np.int64)
        predicted[places] = self.predicted
        answered = np.zeros(n_rows, dtype=bool)
        answered[places] = True
        answered[places[list(self.failed)]] = False
        return replace(
            self,
            predicted=predicted,
            probabilities=_spread(self.probabilities, places, n_rows),
            failed=tuple(np.flatnonzero(~answered).tolist()),
            total=_spread(self.total, places, n_rows),
            epistemic=_spread(self.epistemic, places, n_rows),
            aleatoric=_spread(self.aleatoric, places, n_rows),
            disagreement=_spread(self.disagreement, places, n_rows),
        )

    def __len__(self) -> int:
        return len(self.predicted)

    @property
    def labels(self) -> list[str | None]:
        """The predicted class of each row; None where it failed."""
        return [None if number == FAILED else self.classes[number] for number in self.predicted.tolist()]

    @property
    def confidence(self) -> FloatArray | None:
        """Probability of the predicted class, float64 (N,)."""
        return None if self.probabilities is None else self.probabilities.max(axis=1)


def member_means(members: ArrayLike) -> FloatArray:
    """Return the means over members (N, M, K) as `Predictions.from_members` has them. Raises ValueError."""
    means: FloatArray = _scaled(checked_shares(members)).mean(axis=1)
    return means


def _scaled(shares: FloatArray) -> FloatArray:
    scaled: FloatArray = shares / shares.sum(axis=-1, keepdims=True)
    return scaled


def _most_probable(means: FloatArray) -> IntArray:
    """Return the first of the most probable classes; which of equal ones that is depends on no rounding of sums."""
    found: IntArray = np.round(means, _TIE_DIGITS).argmax(axis=1).astype(np.int64)
    return found


def _score(values: ArrayLike, n_rows: int) -> FloatArray:
    scores = np.asarray(values, dtype=np.float64)
    if scores.shape != (n_rows,) or not ((scores >= 0) & (scores <= 1)).all():
        raise ValueError(f"expected {n_rows} uncertainties within [0, 1]")
    return scores


def _joined(parts: Sequence[FloatArray | None]) -> FloatArray | None:
    found = [part for part in parts if part is not None]
    return np.concatenate(found) if len(found) == len(parts) else None


def _spread(values: FloatArray | None, places: NDArray[np.int64], n_rows: int) -> FloatArray | None:
    if values is None:
        return None
    whole = np.full((n_rows, *values.shape[1:]), np.nan)
    whole[places] = values
    return whole
