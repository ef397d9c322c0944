"""Dropout masks from a counter: no state, no order, one stream per (seed, row).

SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014, figure 17):

    row_key                = mix64(mix64(seed + GAMMA) + (row + 1) GAMMA)
    word(row, pass, k)     = mix64(row_key + (pass * words_per_pass + k + 1) GAMMA)

all modulo 2**64. Each word holds four 16-bit lanes, the lowest bits first; dropout layer j owns whole words, and its
unit u is lane u % 4 of word offset_j + u // 4. A unit is kept when its lane < round(keep * 65536). So a mask depends on
nothing but seed, row, pass, layer and unit, and can be computed anywhere in any order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from uqueue_config.seeds import SEED_LIMIT

UInt64 = NDArray[np.uint64]

GAMMA = 0x9E3779B97F4A7C15
MIX_STEPS = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))
MIX_LAST_SHIFT = 31
LANES = 4
LANE_RANGE = 1 << 16


@dataclass(frozen=True)
class DropoutLayer:
    """One dropout layer: how many units it decides on, the share it drops, and where its words start within a pass."""

    units: int
    rate: float
    offset: int = 0

    @property
    def words(self) -> int:
        return -(-self.units // LANES)

    @property
    def threshold(self) -> int:
        """Lanes below it are kept: round(keep * 65536)."""
        return round((1.0 - self.rate) * LANE_RANGE)

    @property
    def scale(self) -> float:
        """What kept units are multiplied by, 1 / (1 - rate)."""
        return 1.0 / (1.0 - self.rate)

    @property
    def acts(self) -> bool:
        """False where the rate is too small to ever drop a unit."""
        return self.threshold < LANE_RANGE


def lay_out(layers: Sequence[tuple[int, float]]) -> tuple[list[DropoutLayer], int]:
    """Return the layers, given as (units, rate), with their word offsets, and the words per pass."""
    placed, offset = [], 0
    for units, rate in layers:
        placed.append(DropoutLayer(units, rate, offset))
        offset += placed[-1].words
    return placed, offset


def row_keys(seed: int, n_rows: int, first_row: int = 0) -> UInt64:
    """Return uint64 (n_rows,): the keys of rows first_row, first_row + 1 ... Raises ValueError for a bad seed."""
    if not 0 <= seed < SEED_LIMIT:
        raise ValueError(f"a seed must lie in 0 .. 2**63 - 1, got {seed}")
    start = mix64(np.array([seed], np.uint64) + np.uint64(GAMMA))
    rows = np.arange(first_row + 1, first_row + n_rows + 1, dtype=np.uint64)
    return mix64(start + rows * np.uint64(GAMMA))


def table_keys(seeds: Sequence[int], lengths: Sequence[int]) -> UInt64:
    """Return the keys of several tables one after the other: `row_keys(seed, length)` of each, in one go."""
    if not all(0 <= seed < SEED_LIMIT for seed in seeds):
        raise ValueError("every seed must lie in 0 .. 2**63 - 1")
    counts = np.asarray(lengths, dtype=np.uint64)
    starts = mix64(np.array(seeds, np.uint64) + np.uint64(GAMMA))
    first_rows = np.cumsum(counts, dtype=np.uint64) - counts
    rows = np.arange(1, int(counts.sum()) + 1, dtype=np.uint64) - np.repeat(first_rows, counts.astype(np.int64))
    return mix64(np.repeat(starts, counts.astype(np.int64)) + rows * np.uint64(GAMMA))


def mix64(words: UInt64) -> UInt64:
    """Return the SplitMix64 finalizer of every word; `words` is overwritten."""
    shifted = np.empty_like(words)
    for shift, factor in MIX_STEPS:
        np.right_shift(words, np.uint64(shift), out=shifted)
        np.bitwise_xor(words, shifted, out=words)
        np.multiply(words, np.uint64(factor), out=words)
    np.right_shift(words, np.uint64(MIX_LAST_SHIFT), out=shifted)
    return np.bitwise_xor(words, shifted, out=words)


def counter_steps(start: int, count: int, words_per_pass: int) -> UInt64:
    """Return uint64 (count * words_per_pass,): what each word of those passes adds to a row's key."""
    counters = np.arange(start * words_per_pass + 1, (start + count) * words_per_pass + 1, dtype=np.uint64)
    return counters * np.uint64(GAMMA)


def lanes(keys: UInt64, steps: UInt64, words_per_pass: int) -> NDArray[np.uint16]:
    """Return uint16 (rows, passes, 4 * words_per_pass): the lanes of whole passes, layer after layer."""
    words = mix64(keys[:, None] + steps[None, :])
    little = words.astype("<u8", copy=False).view("<u2")
    return little.reshape(len(keys), -1, LANES * words_per_pass)


def kept(all_lanes: NDArray[np.uint16], layer: DropoutLayer) -> NDArray[np.bool_]:
    """Return bool (rows, passes, units), True where the layer keeps the unit."""
    begin = layer.offset * LANES
    mine = all_lanes[..., begin : begin + layer.units]
    if not layer.acts:
        return np.ones(mine.shape, np.bool_)
    return mine < np.uint16(layer.threshold)
