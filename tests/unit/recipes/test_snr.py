"""The estimate of the signal-to-noise ratio, against its formula written out with sums."""

from __future__ import annotations

import cmath
import math
import statistics

import numpy as np
import pytest
from numpy.typing import NDArray

from uqueue_config.recipes.snr import snr_db


def slow_snr_db(rows: list[list[complex]]) -> float:
    """Per receiver: a periodogram of each 2048 samples by direct Fourier sums, their average, mean over median."""
    n = 2048
    window = np.array([0.5 - 0.5 * math.cos(2 * math.pi * k / n) for k in range(n)])
    turns = np.array([cmath.exp(-2j * math.pi * k / n) for k in range(n)])
    levels = []
    for row in rows:
        segments = [np.array(row[at : at + n]) * window for at in range(0, len(row) - n + 1, n)]
        average = []
        for k in range(n):
            wave = turns[(np.arange(n) * k) % n]
            average.append(statistics.fmean(abs(complex((segment * wave).sum())) ** 2 for segment in segments))
        mean, median = statistics.fmean(average), statistics.median(average)
        levels.append(10 * math.log10(max(mean / median - 1, 1e-3)))
    return statistics.fmean(levels)


def samples(seed: int, receivers: int, n: int, *, tone: float = 0.0, noise: float = 1.0) -> NDArray[np.complex64]:
    generator = np.random.default_rng(seed)
    white = generator.normal(0, noise, (receivers, n, 2)).view(np.complex128)[..., 0]
    return (white + tone * np.exp(2j * np.pi * 0.1234 * np.arange(n))).astype(np.complex64)


@pytest.mark.parametrize(
    ("receivers", "n", "tone"), [(1, 2048, 0.0), (1, 5000, 0.5), (3, 4096, 3.0), (3, 6143, 0.0), (2, 2049, 100.0)]
)
def test_agrees_with_the_formula(receivers: int, n: int, tone: float) -> None:
    given = samples(receivers + n, receivers, n, tone=tone)
    assert snr_db(given) == pytest.approx(slow_snr_db(given.astype(np.complex128).tolist()), abs=1e-9)


def test_silence_is_minus_30_and_no_estimate_is_infinite() -> None:
    assert snr_db(np.zeros((3, 4096), np.complex64)) == -30
    assert snr_db(np.ones(4096, np.complex64)) == 200  # one line of the spectrum, nothing elsewhere
    huge = np.full((1, 2048), np.finfo(np.float32).max * (1 + 1j), np.complex64)
    assert -30 <= snr_db(huge) <= 200


def test_a_silent_receiver_counts_as_minus_30() -> None:
    loud = samples(1, 1, 4096, tone=2.0)
    both = np.concatenate([loud, np.zeros_like(loud)])
    assert snr_db(both) == pytest.approx((snr_db(loud) - 30) / 2)


def test_grows_with_the_signal_and_not_with_the_gain() -> None:
    levels = [snr_db(samples(7, 3, 131072, tone=tone)) for tone in (0, 0.3, 1, 3, 10)]
    assert levels == sorted(levels)
    # A tone of power 1 per complex sample of noise power 2: 3 dB below it.
    assert levels[2] == pytest.approx(10 * math.log10(0.5), abs=0.2)
    loud = samples(7, 3, 16384, tone=1)
    assert snr_db(loud * np.float32(1e6)) == pytest.approx(snr_db(loud), abs=1e-4)


def test_one_receiver_may_come_without_its_axis() -> None:
    given = samples(3, 1, 4096)
    assert snr_db(given[0]) == snr_db(given)


def test_says_how_many_samples_it_needs() -> None:
    with pytest.raises(ValueError, match="expected at least 2048 samples per receiver, got 2047"):
        snr_db(np.ones((3, 2047), np.complex64))
