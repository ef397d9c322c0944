"""Feature recipes: IQ samples in, the arrays that a model reads out. Pure numerics, the same on both sides.

`read_samples` and `decode_samples` check what came from outside, `find_recipe` returns the recipe a model declares.
A recipe never changes: a better one gets another id and its own model.
"""

from __future__ import annotations

from uqueue_config.recipes.catalog import Recipe, find_recipe
from uqueue_config.recipes.envelope_logmel import EnvelopeLogmel
from uqueue_config.recipes.samples import MAX_SAMPLES, MIN_SAMPLES, check_sample_rate, decode_samples, read_samples
from uqueue_config.recipes.snr import snr_db

__all__ = [
    "MAX_SAMPLES",
    "MIN_SAMPLES",
    "EnvelopeLogmel",
    "Recipe",
    "check_sample_rate",
    "decode_samples",
    "find_recipe",
    "read_samples",
    "snr_db",
]
