"""How a cycle's samples are shared out."""

from __future__ import annotations

from collections.abc import Sequence


def exploring(budget: int, fraction: float) -> int:
    """Return how many samples of a budget explore: the share rounded, at least one unless the share is 0."""
    if fraction == 0 or budget == 0:
        return 0
    return min(budget, max(1, round(fraction * budget)))


def allocate(budget: int, priorities: Sequence[float]) -> list[int]:
    """Return whole shares of the budget in proportion to the priorities (the highest first), by largest remainder.

    Each gets at least 1, as long as there is enough for all; where there is not, the first ones get 1 each. Equal
    remainders go to the first. The shares sum to the budget, unless there are no priorities at all.
    """
    if not priorities:
        return []
    if budget <= len(priorities):
        return [1] * budget + [0] * (len(priorities) - budget)
    total = sum(priorities)
    weights = [priority / total for priority in priorities] if total > 0 else [1 / len(priorities)] * len(priorities)
    spare = budget - len(priorities)
    exact = _above_one(weights, budget)
    scale = spare / sum(exact) if sum(exact) > 0 else 0.0
    quotas = [one * scale for one in exact]
    shares = [1 + int(quota) for quota in quotas]
    order = sorted(range(len(quotas)), key=lambda place: (-(quotas[place] - int(quotas[place])), place))
    for place in order[: budget - sum(shares)]:
        shares[place] += 1
    return shares


def _above_one(weights: Sequence[float], budget: int) -> list[float]:
    """Return what each is due beyond the one that it gets anyway."""
    beyond = [max(0.0, weight * budget - 1) for weight in weights]
    return beyond if sum(beyond) > 0 else [1.0] * len(weights)
