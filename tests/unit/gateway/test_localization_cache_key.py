"""What tells two localizations apart, and how rows share jobs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from uqueue.gateway.localization.cache import cache_key
from uqueue.gateway.localization.features import Features
from uqueue.gateway.localization.running import rows_per_job
from uqueue_config.localization import Declaration, ModelCard

CARD = ModelCard(name="m", version="3", content="0123456789abcdef", sha256="a" * 64, declaration=Declaration())
ROW = np.arange(12, dtype=np.float32)[None]
FEATURES = Features(ROW, (3, 2, 2), 3, 1.0, 0.0)
PARAMETERS = {"sample_rate_hz": 192000.0, "receivers": 3}


def key(card: ModelCard = CARD, recipe: str = "r", features: Features = FEATURES, **parameters: Any) -> str:
    return cache_key(card, recipe, {**PARAMETERS, **parameters}, features)


def test_equal_inputs_have_one_key() -> None:
    again = Features(ROW.copy(), (3, 2, 2), 1, 9.0, 5.0)
    assert key() == key(features=again)
    assert key() == cache_key(CARD, "r", dict(reversed(PARAMETERS.items())), FEATURES)
    assert key().startswith("pred:")


@pytest.mark.parametrize(
    "other",
    [
        key(CARD.model_copy(update={"version": "4"})),
        key(CARD.model_copy(update={"name": "n"})),
        key(CARD.model_copy(update={"sha256": "b" * 64})),
        key(recipe="s"),
        key(sample_rate_hz=48000.0),
        key(features=replace(FEATURES, shape=(2, 3, 2))),
        key(features=replace(FEATURES, row=-ROW)),
        key(features=replace(FEATURES, row=ROW.astype(np.float64).astype(np.float16).astype(np.float32) + 1)),
    ],
)
def test_whatever_is_another_has_another_key(other: str) -> None:
    assert other != key()


def test_fields_do_not_run_into_each_other() -> None:
    one, two = (
        CARD.model_copy(update={"name": name, "version": version}) for name, version in (("m1", "2"), ("m", "12"))
    )
    assert key(one) != key(two)


def test_rows_of_a_batch_fit_their_messages() -> None:
    assert rows_per_job(32, 49152, 4 * 1024 * 1024) == 32
    assert rows_per_job(100, 49152, 4 * 1024 * 1024) == 63
    assert rows_per_job(100, 49152, 1024) == 1
