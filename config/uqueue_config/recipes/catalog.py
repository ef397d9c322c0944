"""The recipes there are, by the id under which a model declares its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from uqueue_config.recipes.envelope_logmel import EnvelopeLogmel


class Recipe(Protocol):
    """Turns the samples of one request into the inputs of a model."""

    @property
    def id(self) -> str: ...

    @property
    def parameters(self) -> dict[str, float | int]:
        """What was declared beside the id; with the id it names the computation, as in a cache key."""
        ...

    def features(self, samples: NDArray[np.complex64]) -> dict[str, NDArray[np.float32]]:
        """Return {input name: float32 array with a batch axis of 1} for samples (receivers, n)."""
        ...


_RECIPES = {EnvelopeLogmel.id: EnvelopeLogmel}


def find_recipe(recipe_id: str, parameters: Mapping[str, Any] | None = None) -> Recipe:
    """Return the recipe of this id. ValueError, saying which there are, for an unknown id or unknown parameters."""
    if recipe_id not in _RECIPES:
        raise ValueError(f"there is no feature recipe {recipe_id!r}; there is {', '.join(sorted(_RECIPES))}")
    made = _RECIPES[recipe_id]
    unknown = sorted(set(parameters or {}) - set(made.PARAMETERS))
    if unknown:
        raise ValueError(f"recipe {recipe_id} has no parameter {unknown[0]!r}; it has {', '.join(made.PARAMETERS)}")
    return made(**(parameters or {}))
