"""A function as a model, for tests and notebooks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uqueue_config.learning.model_manifest import Feature, Method, ModelManifest, UncertaintyDeclaration
from uqueue_worker.learning.models.features import Float32Array
from uqueue_worker.learning.models.loaded import LoadedModel
from uqueue_worker.learning.models.place import no_file_sha256


def function_model(
    function: Callable[[Float32Array], NDArray[Any]],
    classes: Sequence[str],
    features: Sequence[Feature],
    *,
    members: int = 1,
    method: Method | None = None,
    conformal_q: float | None = None,
    name: str = "in_process",
    version: str = "1",
) -> LoadedModel:
    """Return a model that calls a function: columns float32 (n, columns) in, probabilities (n, K) or (n, M, K) out."""
    declared = UncertaintyDeclaration(
        method=method or ("single_model" if members == 1 else "ensemble"), members=members, conformal_q=conformal_q
    )
    manifest = ModelManifest(
        model=name,
        version=version,
        format="in_process",
        file="in_process",
        sha256=no_file_sha256(),
        created=datetime.now(UTC),
        classes=tuple(classes),
        feature_spec=tuple(features),
        uncertainty=declared,
    )

    def run(matrix: Float32Array) -> NDArray[Any]:
        answer = np.asarray(function(matrix))
        return answer[:, None, :] if answer.ndim == 2 else answer

    return LoadedModel(manifest, run)
