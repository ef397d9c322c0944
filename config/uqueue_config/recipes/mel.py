"""A bank of triangular filters, equally spaced on the mel scale m = 2595 log10(1 + f / 700)."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_BLOCK = 2100  # weights in one product: larger blocks hold more zeros, smaller ones cost more calls


class Block(NamedTuple):
    """Neighbouring bands and the only bins that they weigh: weights (bins, bands)."""

    bands: slice
    bins: slice
    weights: NDArray[np.float64]


def mel_weights(sample_rate_hz: float, bands: int, n_fft: int) -> NDArray[np.float64]:
    """Return (bands, n_fft / 2 + 1): triangles from 0 Hz to half the sample rate, peak 1, no area normalisation.

    Low bands that are narrower than a bin may hold none: their rows are zero.
    """
    half = sample_rate_hz / 2
    edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + half / 700), bands + 2) / 2595) - 1)
    low, centre, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    frequency = np.arange(n_fft // 2 + 1) * sample_rate_hz / n_fft
    rising, falling = (frequency - low) / (centre - low), (high - frequency) / (high - centre)
    return np.asarray(np.maximum(0, np.minimum(rising, falling)))


@lru_cache(maxsize=16)
def mel_blocks(sample_rate_hz: float, bands: int, n_fft: int) -> tuple[Block, ...]:
    """Return `mel_weights` cut into blocks of bands without most of the zeros: a tenth of the multiplications."""
    weights = mel_weights(sample_rate_hz, bands, n_fft)
    blocks = []
    first = 0
    while first < bands:
        last = first + 1
        while last < bands and _block(weights, first, last + 1).weights.size <= _BLOCK:
            last += 1
        blocks.append(_block(weights, first, last))
        first = last
    return tuple(blocks)


def _block(weights: NDArray[np.float64], first: int, last: int) -> Block:
    group = weights[first:last]
    used = np.flatnonzero(group.any(axis=0))
    bins = slice(int(used[0]), int(used[-1]) + 1) if len(used) else slice(0, 0)
    block = np.ascontiguousarray(group[:, bins].T)
    block.flags.writeable = False
    return Block(slice(first, last), bins, block)
