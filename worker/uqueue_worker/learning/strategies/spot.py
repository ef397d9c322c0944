"""Weak spots out of samples and classes: their ids, and what their details hold."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, Literal
from uuid import uuid4

from uqueue_config.learning.spots import LOW_RECALL, MISCLASSIFIED, UNCERTAIN, WeaknessType, WeakSpot

Source = Literal["total"] | None
_SHORT = {UNCERTAIN: "unc", MISCLASSIFIED: "misc"}
_OF_THE_SPOT = ("raw_sample_id", "sensor_id")


def clip(priority: float) -> float:
    return min(1.0, max(0.0, priority))


def sample_spot(
    prefix: str,
    kind: WeaknessType,
    sample: Mapping[str, Any],
    priority: float,
    source: Source = None,
    more: Mapping[str, Any] | None = None,
) -> WeakSpot:
    """Return the spot of a sample; its id is random only where the sample has none."""
    raw = sample.get("raw_sample_id")
    details = {name: value for name, value in sample.items() if name not in _OF_THE_SPOT}
    return WeakSpot(
        weakness_id=f"{prefix}_{uuid4().hex[:8]}" if raw is None else f"{prefix}_{_SHORT[kind]}_{raw}",
        type=kind,
        priority=clip(priority),
        sensor_id=sample.get("sensor_id"),
        raw_sample_id=None if raw is None else str(raw),
        details={**details, **(more or {})},
        score_source=source,
    )


def class_spot(
    prefix: str, name: str, metrics: Mapping[str, Any], priority: float, sensor_id: str | None = None
) -> WeakSpot:
    """Return the spot of a class, of one sensor's data or (None) of all."""
    scope = sensor_id if sensor_id is not None else hashlib.sha256(f"{name}|global".encode()).hexdigest()[:8]
    return WeakSpot(
        weakness_id=f"{prefix}_recall_{name}_{scope}",
        type=LOW_RECALL,
        priority=clip(priority),
        sensor_id=sensor_id,
        details={**metrics, "class_name": name},
    )


def best_of_each(spots: Iterable[WeakSpot]) -> list[WeakSpot]:
    """Return one spot per sample, by priority, the highest first; ties keep the order given.

    Of two spots of one sample, the higher priority stays, and at equal priority the misclassified one.
    """
    ranked = list(spots)
    best: dict[str, WeakSpot] = {}
    for spot in ranked:
        if spot.raw_sample_id is not None:
            held = best.setdefault(spot.raw_sample_id, spot)
            if (spot.priority, spot.type == MISCLASSIFIED) > (held.priority, held.type == MISCLASSIFIED):
                best[spot.raw_sample_id] = spot
    kept = [spot for spot in ranked if spot.raw_sample_id is None or best[spot.raw_sample_id] is spot]
    return sorted(kept, key=lambda spot: -spot.priority)
