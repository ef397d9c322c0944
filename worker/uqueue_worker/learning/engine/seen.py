"""Weak spots that earlier cycles went after without success count for less: pure functions of records."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from uqueue_config.learning.feedback import ModelPerformanceData
from uqueue_config.learning.spots import LOW_RECALL, WeakSpot
from uqueue_worker.learning.strategies import same_region


@dataclass(frozen=True)
class Standing:
    """What feedback says of spots: the ids of wrong samples, and recall by class."""

    wrong: frozenset[str]
    recalls: Mapping[str, float]

    @classmethod
    def of(cls, feedback: ModelPerformanceData) -> Standing:
        wrong = frozenset(sample.raw_sample_id for sample in feedback.misclassified_samples)
        return cls(wrong, {name: one.recall or 0.0 for name, one in feedback.per_class_metrics.items()})


def stubborn(targeted: Iterable[WeakSpot], before: Standing, now: Standing) -> list[WeakSpot]:
    """Return the spots that were gone after and are not better now.

    A region is better if fewer of its members are wrong, a class if its recall is higher; any other spot never is,
    because it only comes back where the sample is as weak as before.
    """
    return [spot for spot in targeted if not _better(spot, before, now)]


def decayed(spots: Sequence[WeakSpot], earlier: Sequence[Sequence[WeakSpot]], factor: float) -> list[WeakSpot]:
    """Return the spots with their priorities lowered, the highest first.

    `earlier` holds, for each earlier cycle, the spots that it went after without improvement; each cycle in which the
    same region, class or sample is among them costs one factor. What was lowered keeps its old priority in the details.
    """
    found = [_decayed(spot, sum(_among(spot, cycle) for cycle in earlier), factor) for spot in spots]
    return sorted(found, key=lambda spot: -spot.priority)


def _better(spot: WeakSpot, before: Standing, now: Standing) -> bool:
    if spot.type == LOW_RECALL:
        name = spot.details["class_name"]
        return now.recalls.get(name, 0.0) > before.recalls.get(name, 0.0)
    members = _members(spot)
    return bool(members) and len(members & now.wrong) < len(members & before.wrong)


def _members(spot: WeakSpot) -> frozenset[str]:
    return frozenset(str(one["raw_sample_id"]) for one in spot.details.get("members") or ())


def _among(spot: WeakSpot, earlier: Collection[WeakSpot]) -> bool:
    return any(one.weakness_id == spot.weakness_id or same_region(one, spot) for one in earlier)


def _decayed(spot: WeakSpot, times: int, factor: float) -> WeakSpot:
    if times == 0:
        return spot
    details = {**spot.details, "priority_before_decay": spot.priority, "cycles_without_improvement": times}
    return spot.model_copy(update={"priority": spot.priority * factor**times, "details": details})
