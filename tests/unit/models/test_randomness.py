"""The mask stream: against SplitMix64 in plain integers, and as a source of independent coin flips."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from uqueue_config.seeds import seed_from_job_id
from uqueue_worker.models.randomness import (
    DropoutLayer,
    counter_steps,
    kept,
    lanes,
    lay_out,
    mix64,
    row_keys,
    table_keys,
)

MASK = (1 << 64) - 1
GAMMA = 0x9E3779B97F4A7C15
ALPHA = 1e-6  # chance that a correct stream fails one test below; the seeds are fixed, so it does not flicker


def mix_slowly(word: int) -> int:
    word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    word = (word ^ (word >> 27)) * 0x94D049BB133111EB & MASK
    return word ^ (word >> 31)


def test_the_finalizer_is_splitmix64() -> None:
    """The first outputs for seed 1234567, as published with the reference implementation."""
    states = np.array([1234567 + (index + 1) * GAMMA & MASK for index in range(5)], np.uint64)
    assert mix64(states).tolist() == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


@given(
    seed=st.integers(0, 2**63 - 1),
    row=st.integers(0, 10**6),
    start=st.integers(0, 1000),
    unit=st.integers(0, 36),
    rate=st.floats(0.01, 0.99),
)
def test_a_mask_depends_on_seed_row_pass_layer_and_unit_only(
    seed: int, row: int, start: int, unit: int, rate: float
) -> None:
    layers, words = lay_out([(5, 0.3), (37, rate)])
    key = mix_slowly(mix_slowly(seed + GAMMA & MASK) + (row + 1) * GAMMA & MASK)
    counter = start * words + 2 + unit // 4
    word = mix_slowly(key + (counter + 1) * GAMMA & MASK)
    expected = (word >> 16 * (unit % 4)) & 0xFFFF < round((1 - rate) * 65536)
    drawn = lanes(row_keys(seed, 1, row), counter_steps(start, 1, words), words)
    assert kept(drawn, layers[1])[0, 0, unit] == expected


def test_tiles_rows_and_layers_are_parts_of_one_stream() -> None:
    layers, words = lay_out([(10, 0.1), (7, 0.2)])
    whole = lanes(row_keys(9, 20), counter_steps(0, 50, words), words)
    part = lanes(row_keys(9, 3, first_row=11), counter_steps(30, 5, words), words)
    np.testing.assert_array_equal(whole[11:14, 30:35], part)
    assert [(layer.offset, layer.words) for layer in layers] == [(0, 3), (3, 2)]


def flips(seed: int, rows: int, passes: int, units: int, rate: float = 0.1) -> np.ndarray:
    layers, words = lay_out([(units, rate)])
    return kept(lanes(row_keys(seed, rows), counter_steps(0, passes, words), words), layers[0])


def test_every_unit_is_kept_as_often_as_the_rate_says() -> None:
    drawn = flips(1, 400, 500, 128)
    share = 58982 / 65536
    counts = drawn.sum(axis=(0, 1))
    z = (counts - share * 200_000) / np.sqrt(200_000 * share * (1 - share))
    assert stats.chi2.sf((z**2).sum(), 128) > ALPHA
    assert np.abs(z).max() < stats.norm.isf(ALPHA / 128)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_neighbouring_rows_passes_and_units_are_independent(axis: int) -> None:
    drawn = np.moveaxis(flips(2, 300, 300, 64, rate=0.5), axis, 0)
    for lag in (1, 2, 3, 4, 16):
        same = (drawn[lag:] == drawn[:-lag]).sum()
        total = drawn[lag:].size
        assert stats.binomtest(int(same), total, 0.5).pvalue > ALPHA


def test_the_number_of_kept_units_is_binomial() -> None:
    counts = flips(3, 500, 200, 20, rate=0.25).sum(axis=2).ravel()
    law = stats.binom(20, round(0.75 * 65536) / 65536)
    observed = np.bincount(np.clip(counts, 9, 20), minlength=21)[9:]
    expected = np.array([law.cdf(9), *law.pmf(range(10, 21))]) * counts.size
    assert stats.chisquare(observed, expected).pvalue > ALPHA


def test_one_bit_of_the_seed_changes_half_of_the_stream() -> None:
    base = lanes(row_keys(77, 1), counter_steps(0, 100, 4), 4)
    total = base.size * 16
    for bit in range(63):
        other = lanes(row_keys(77 ^ (1 << bit), 1), counter_steps(0, 100, 4), 4)
        changed = int(np.unpackbits((base ^ other).view(np.uint8)).sum())
        assert stats.binomtest(changed, total, 0.5).pvalue > ALPHA


def test_rows_of_neighbouring_seeds_share_no_stream() -> None:
    keys = np.concatenate([row_keys(seed, 1000) for seed in range(50)])
    assert len(np.unique(keys)) == len(keys)


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_a_seed_outside_63_bits_is_refused(seed: int) -> None:
    with pytest.raises(ValueError, match="seed"):
        row_keys(seed, 1)


def test_a_rate_below_the_resolution_never_drops() -> None:
    layer = DropoutLayer(4, 1e-6)
    assert not layer.acts
    assert kept(np.full((1, 1, 4), 65535, np.uint16), layer).all()


def test_a_seed_from_a_job_id_is_stable_and_fits_a_double() -> None:
    assert seed_from_job_id("") == 0xE3B0C44298FC1C149AFBF4C8996FB924 >> (128 - 53)
    seeds = {seed_from_job_id(f"job-{index}") for index in range(10_000)}
    assert len(seeds) == 10_000
    assert all(int(float(seed)) == seed for seed in seeds)


def test_the_keys_of_several_tables_are_those_of_each() -> None:
    seeds, lengths = [0, 7, 2**63 - 1, 7], [3, 1, 5, 2]
    each = np.concatenate([row_keys(seed, length) for seed, length in zip(seeds, lengths, strict=True)])
    np.testing.assert_array_equal(table_keys(seeds, lengths), each)
    with pytest.raises(ValueError, match="seed"):
        table_keys([-1], [1])
