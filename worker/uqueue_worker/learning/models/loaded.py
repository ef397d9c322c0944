"""A model in memory, whatever its file was."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from uqueue_config.learning.model_manifest import ModelManifest
from uqueue_worker.learning.errors import ModelIntegrity
from uqueue_worker.learning.metrics import FloatArray
from uqueue_worker.learning.models.features import Float32Array, scaled
from uqueue_worker.learning.models.predictions import Predictions, member_means
from uqueue_worker.learning.models.shapley import TreeModel

BATCH_ROWS = 512
#: From columns as the file wants them, float32 (n, columns), to members' probabilities (n, M, K).
Run = Callable[[Float32Array], NDArray[Any]]


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """`weights` are the coefficients of a linear model of its columns as they come, (K or 1, columns), or None; `trees`
    the trees of scikit-learn that its probabilities are the means of, or None."""

    manifest: ModelManifest
    run: Run
    weights: FloatArray | None = None
    trees: TreeModel | None = None

    def members(self, matrix: Float32Array) -> NDArray[Any]:
        """Return members' probabilities (n, M, K). Raises ModelIntegrity where the model answers something else."""
        answer = np.asarray(self.run(scaled(matrix, self.manifest)))
        expected = (len(matrix), self.manifest.uncertainty.members, len(self.manifest.classes))
        if answer.shape != expected:
            reason = f"it answers with the shape {answer.shape} and not {expected}, as its manifest says"
            raise ModelIntegrity(file=self.manifest.file, reason=reason)
        return answer

    def predictions(self, matrix: Float32Array, batch_rows: int = BATCH_ROWS) -> Predictions:
        """Return the predictions of all rows, so many at a time."""
        return Predictions.joined(list(self.batches(matrix, batch_rows)))

    def batches(self, matrix: Float32Array, batch_rows: int = BATCH_ROWS) -> Iterator[Predictions]:
        """Yield the predictions of the rows, so many at a time. Raises ModelIntegrity for what are no probabilities."""
        declared = self.manifest
        for start in range(0, len(matrix), batch_rows):
            members = self.members(matrix[start : start + batch_rows])
            try:
                yield Predictions.from_members(
                    members,
                    declared.classes,
                    model_version=declared.reference,
                    uncertainty_method=declared.uncertainty.text,
                )
            except ValueError as error:
                raise ModelIntegrity(file=declared.file, reason=f"its answer is of no use: {error}") from None

    def probabilities(self, matrix: Float32Array) -> FloatArray:
        """Return the means over members, (n, K), computed in batches."""
        found = [
            member_means(self.members(matrix[start : start + BATCH_ROWS]))
            for start in range(0, len(matrix), BATCH_ROWS)
        ]
        return np.concatenate(found) if found else np.zeros((0, len(self.manifest.classes)))


def one_member(probabilities: ArrayLike) -> NDArray[Any]:
    """Return probabilities (n, K) as those of a single member, (n, 1, K)."""
    return np.asarray(probabilities)[:, None, :]
