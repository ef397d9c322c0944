"""How much each sample weighs, and which ones are kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from uqueue_worker.learning.strategies.evidence import Fields, number
from uqueue_worker.learning.strategies.spot import Source


@dataclass(frozen=True)
class Scored:
    """A sample of the feedback with its weight; `source` as in a weak spot."""

    sample: Fields
    score: float
    wrong: bool
    source: Source


def merged(uncertain: Iterable[Fields], misclassified: Iterable[Fields]) -> list[tuple[Fields, bool]]:
    """Return every sample once, with whether it is wrong. Fields of both lists are put together.

    Samples without an id cannot be told apart from others and stay as they are.
    """
    found: dict[object, tuple[Fields, bool]] = {}
    for samples, listed_as_wrong in ((uncertain, False), (misclassified, True)):
        for sample in samples:
            raw = sample.get("raw_sample_id")
            key = object() if raw is None else str(raw)
            held, held_wrong = found.get(key, ({}, False))
            given = {name: value for name, value in sample.items() if value is not None or name not in held}
            found[key] = ({**held, **given}, held_wrong or listed_as_wrong or is_wrong(sample))
    return list(found.values())


def is_wrong(sample: Mapping[str, Any]) -> bool:
    true, predicted = sample.get("true_label"), sample.get("predicted_label")
    return true is not None and predicted is not None and true != predicted


def scored(samples: Sequence[tuple[Fields, bool]], weight: Callable[[Fields], float]) -> list[Scored]:
    """Return the samples with their weights, the heaviest first; ties by id, whatever the order they came in."""
    largest = max((_epistemic(sample)[0] for sample, _ in samples), default=0.0)
    found = [
        Scored(sample, unscaled(sample, wrong, largest) * weight(sample), wrong, _epistemic(sample)[1])
        for sample, wrong in samples
    ]
    return sorted(found, key=lambda one: (-one.score, str(one.sample.get("raw_sample_id"))))


def unscaled(sample: Mapping[str, Any], wrong: bool, largest_epistemic: float) -> float:
    """Return (e + epistemic / (2 * largest)) * (1 - aleatoric / 2), without criticality and the sensor's weight."""
    share = 0.5 * _epistemic(sample)[0] / largest_epistemic if largest_epistemic > 0 else 0.0
    return (float(wrong) + share) * (1 - 0.5 * number(sample, "aleatoric_uncertainty_score"))


def heaviest(samples: list[Scored], keep_quantile: float, counted: int | None) -> list[Scored]:
    """Return the best ⌈(1 - keep_quantile) * N⌉; N is how many were evaluated, if these are all of them."""
    total = counted if counted is not None and len(samples) >= counted else len(samples)
    return samples[: math.ceil((1 - Fraction(str(keep_quantile))) * total)]


def _epistemic(sample: Mapping[str, Any]) -> tuple[float, Source]:
    if sample.get("epistemic_uncertainty_score") is None and sample.get("uncertainty_score") is not None:
        return number(sample, "uncertainty_score"), "total"
    return number(sample, "epistemic_uncertainty_score"), None
