"""How uncertain a classifier is: its members' probabilities in, scores within [0, 1] out.

Entropies are divided by ln K, K the number of classes, so that 1 is "knows nothing". Total uncertainty splits into what
the members agree on (aleatoric) and what they do not (epistemic: the mutual information; Depeweg et al. 2018).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from uqueue_worker.learning.metrics import FloatArray, checked_shares

_ROUNDING = 1e-12


@dataclass(frozen=True, eq=False)
class Uncertainties:
    """Per sample, float64 (samples,) within [0, 1]. A single model says nothing about the last three: None."""

    total: FloatArray
    aleatoric: FloatArray | None
    epistemic: FloatArray | None
    disagreement: FloatArray | None


def uncertainties(members: ArrayLike) -> Uncertainties:
    """Return the uncertainties of members' probabilities (members, samples, classes).

    Members are those of an ensemble, trees of a forest or passes of Monte Carlo dropout.
    """
    shares = checked_shares(members)
    if shares.ndim != 3 or len(shares) == 0:
        raise ValueError(f"expected probabilities (members, samples, classes), got the shape {shares.shape}")
    total = entropy(shares.mean(axis=0))
    if len(shares) == 1:
        return Uncertainties(total, None, None, None)
    aleatoric = entropy(shares).mean(axis=0)
    epistemic = np.clip(total - aleatoric, 0, 1)
    epistemic[epistemic < _ROUNDING] = 0  # equal members differ from their mean by rounding
    return Uncertainties(total, aleatoric, epistemic, _disagreement(shares))


def entropy(probabilities: ArrayLike) -> FloatArray:
    """Return the entropy of probabilities (..., classes), divided by ln K; 0 where there is one class."""
    shares = checked_shares(probabilities)
    n_classes = shares.shape[-1]
    if n_classes == 1:
        return np.zeros(shares.shape[:-1])
    logs = np.log(shares, out=np.zeros_like(shares), where=shares > 0)
    return _within(-(shares * logs).sum(axis=-1) / np.log(n_classes))


def least_confidence(probabilities: ArrayLike) -> FloatArray:
    """Return (1 - max p) * K / (K - 1) of probabilities (samples, classes)."""
    shares = checked_shares(probabilities)
    n_classes = shares.shape[-1]
    if n_classes == 1:
        return np.zeros(shares.shape[:-1])
    return _within((1 - shares.max(axis=-1)) * n_classes / (n_classes - 1))


def small_margin(probabilities: ArrayLike) -> FloatArray:
    """Return 1 - (p1 - p2), with the two highest of probabilities (samples, classes)."""
    shares = checked_shares(probabilities)
    if shares.shape[-1] == 1:
        return np.zeros(shares.shape[:-1])
    highest = np.sort(shares, axis=-1)[..., -2:]
    return _within(1 - (highest[..., 1] - highest[..., 0]))


def ambiguity(set_sizes: ArrayLike, n_classes: int) -> FloatArray:
    """Return max(0, s - 1) / (K - 1) of the sizes of conformal sets (samples,): 0 for one class, 1 for all of them."""
    sizes = np.asarray(set_sizes)
    if not np.issubdtype(sizes.dtype, np.integer) or (sizes.size and (sizes.min() < 0 or sizes.max() > n_classes)):
        raise ValueError(f"expected sizes of sets from 0 to {n_classes}")
    return np.maximum(0, sizes - 1) / max(1, n_classes - 1)


def _disagreement(shares: FloatArray) -> FloatArray:
    """Return the entropy of the members' votes, divided by the most that so many members can have."""
    n_members, n_samples, n_classes = shares.shape
    most = np.log(min(n_classes, n_members))
    if most == 0:
        return np.zeros(n_samples)
    votes: NDArray[np.int64] = shares.argmax(axis=-1)
    counts = np.stack([(votes == one).sum(axis=0) for one in range(n_classes)], axis=-1)
    return _within(entropy(counts / n_members) * np.log(n_classes) / most)


def _within(values: ArrayLike) -> FloatArray:
    clipped: FloatArray = np.clip(np.asarray(values, dtype=np.float64), 0, 1)
    return clipped
