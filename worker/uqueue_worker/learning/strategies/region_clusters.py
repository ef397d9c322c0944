"""Regions: clusters of samples, each with the sample at its heart and the box around it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from uqueue_worker.learning.strategies.region_scores import Scored
from uqueue_worker.learning.strategies.region_space import FloatArray, Position, Space

_STARTS = 3


@dataclass(frozen=True)
class Cluster:
    """`members` by weight, the heaviest first; `region` per parameter {"min", "max"} in the parameter's own unit."""

    members: list[Scored]
    medoid: Scored
    medoid_position: Position
    region: dict[str, dict[str, float]]

    @property
    def mass(self) -> float:
        return sum(one.score for one in self.members)


def clusters(kept: Sequence[Scored], space: Space, n_regions: int, seed: int) -> list[Cluster]:
    """Return at most `n_regions` clusters; the order is that of their heaviest members.

    The medoid is the member with the least mean squared distance to the others, which is the one nearest to the mean.
    """
    labels = _k_means(space.coordinates, n_regions, seed)
    found = []
    for label in dict.fromkeys(labels.tolist()):
        rows = np.flatnonzero(labels == label)
        around = space.coordinates[rows]
        heart = int(rows[((around - around.mean(axis=0)) ** 2).sum(axis=1).round(12).argmin()])
        found.append(
            Cluster(
                members=[kept[row] for row in rows],
                medoid=kept[heart],
                medoid_position=space.positions[heart],
                region=_box([space.positions[row] for row in rows]),
            )
        )
    return found


def _k_means(coordinates: FloatArray, n_regions: int, seed: int) -> NDArray[np.int32]:
    try:
        from sklearn.cluster import KMeans
        from threadpoolctl import threadpool_limits
    except ImportError as error:
        raise ImportError(
            f'the region strategy needs scikit-learn ({error}): pip install "uqueue[worker,learning]"'
        ) from error
    distinct = len(np.unique(coordinates, axis=0))
    with threadpool_limits(limits=1):  # threads add up in any order, and the last bit decides ties
        model = KMeans(n_clusters=min(n_regions, distinct), n_init=_STARTS, random_state=seed)
        labels: NDArray[np.int32] = model.fit(coordinates).labels_
    return labels


def _box(found: Sequence[Position]) -> dict[str, dict[str, float]]:
    names = sorted({name for position in found for name in position})
    values = {name: [position[name] for position in found if name in position] for name in names}
    return {name: {"min": min(those), "max": max(those)} for name, those in values.items()}
