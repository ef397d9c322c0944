"""Which version answers a request: pure functions of weights and session.

With a session the choice is weighted rendezvous hashing: each version draws u in (0, 1) from a hash of session and
version, and the smallest -ln(u) / weight wins. A share of the sessions falls to each version as its weight says, every
gateway chooses alike, and a changed weight moves only the sessions that it must.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Mapping


def normalised(weights: Mapping[str, float]) -> dict[str, float]:
    """Return weights, fractions or percents, as shares that sum to 1.

    ValueError unless all are finite and not negative and one is above 0.
    """
    for version, weight in weights.items():
        if not math.isfinite(weight) or weight < 0:
            raise ValueError(f"the weight of version {version} must be a finite number, 0 or more, got {weight}")
    most = max(weights.values(), default=0.0)
    if most <= 0:
        raise ValueError("the weight of at least one version must be above 0")
    parts = {version: weight / most for version, weight in weights.items()}  # a sum of huge weights would overflow
    total = math.fsum(parts.values())
    return {version: part / total for version, part in parts.items()}


def sticky_choice(weights: Mapping[str, float], session_id: str, salt: str) -> str:
    """Return the version that answers this session. ValueError where no weight is above 0."""
    scores = {
        version: -math.log(_unit(salt, session_id, version)) / weight
        for version, weight in weights.items()
        if weight > 0
    }
    if not scores:
        raise ValueError("there is no version to choose from")
    return min(scores, key=lambda version: (scores[version], version))


def random_choice(weights: Mapping[str, float], generator: random.Random) -> str:
    """Return a version as likely as its weight says. ValueError where no weight is above 0."""
    versions = [version for version, weight in sorted(weights.items()) if weight > 0]
    if not versions:
        raise ValueError("there is no version to choose from")
    return generator.choices(versions, [weights[version] for version in versions])[0]


def _unit(salt: str, session_id: str, version: str) -> float:
    digest = hashlib.sha256("\0".join((salt, session_id, version)).encode()).digest()
    return ((int.from_bytes(digest[:8]) >> 12) + 0.5) / 2.0**52
