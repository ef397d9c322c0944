"""Conformalized quantile regression, split version: Romano, Patterson, Candès, NeurIPS 2019, equations 6 to 8.

score_i = max(lower_i - y_i, y_i - upper_i)
q_hat   = the ceil((n + 1)(1 - alpha))-th smallest of n scores
C(x)    = [lower(x) - q_hat, upper(x) + q_hat]
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.floating[Any]]


def conformal_interval(lower: ArrayLike, upper: ArrayLike, q_hat: ArrayLike) -> tuple[Floats, Floats]:
    """Return (lower - q_hat, upper + q_hat).

    lower and upper are (rows, targets); q_hat is a scalar, (1,) or (targets,) and may be negative. The result has the
    wider of the types: float64 for a float64 q_hat (a Python float is one) even where lower and upper are float32.
    """
    low, high, correction = np.asarray(lower), np.asarray(upper), np.asarray(q_hat)
    wide = np.result_type(low.dtype, high.dtype, correction.dtype, np.float32)
    correction = correction.astype(wide)
    return low.astype(wide) - correction, high.astype(wide) + correction


def cqr_scores(y: ArrayLike, lower: ArrayLike, upper: ArrayLike) -> Floats:
    """Return max(lower - y, y - upper) of arrays of one shape: how far y lies outside, negative inside."""
    truth, low, high = np.asarray(y), np.asarray(lower), np.asarray(upper)
    if not truth.shape == low.shape == high.shape:
        raise ValueError(f"y, lower and upper must have one shape, got {truth.shape}, {low.shape} and {high.shape}")
    scores: Floats = np.maximum(low - truth, truth - high)
    return scores


def conformal_quantile(scores: ArrayLike, alpha: float | Fraction) -> float | NDArray[np.float64]:
    """Return q_hat of scores (n,) as a float, or of scores (n, targets) as float64 (targets,).

    The rank is an exact integer, so alpha = 0.1 means one tenth and not its binary neighbour. Raises ValueError when a
    score is NaN, alpha is outside (0, 1), or n is too small for a finite threshold (n < 9 for alpha = 0.1).
    """
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim not in (1, 2):
        raise ValueError(f"scores must be (n,) or (n, targets), got shape {values.shape}")
    if np.isnan(values).any():
        raise ValueError("scores hold NaN: a point without a prediction or without a truth cannot calibrate")
    rank = conformal_rank(len(values), alpha)
    ranked = np.sort(values, axis=0)[rank - 1]
    return float(ranked) if values.ndim == 1 else np.asarray(ranked)


def conformal_rank(n: int, alpha: float | Fraction) -> int:
    """Return ceil((n + 1)(1 - alpha)), counted from 1. Raises ValueError when it exceeds n."""
    share = exact_share(alpha)
    rank = math.ceil((n + 1) * (1 - share))
    if rank > n:
        needed = math.ceil((1 - share) / share)
        raise ValueError(
            f"{n} calibration points give no finite threshold at alpha {alpha}: at least {needed} are needed"
        )
    return rank


def exact_share(alpha: float | Fraction) -> Fraction:
    """Return alpha as the fraction its shortest decimal form names. Raises ValueError outside (0, 1)."""
    try:
        share = Fraction(str(alpha))
    except ValueError:
        share = Fraction(0)
    if not 0 < share < 1:
        raise ValueError(f"alpha must lie strictly between 0 and 1, got {alpha}")
    return share
