"""The features against the specification, written out the slow way: direct Fourier sums in float64, no FFT."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from uqueue_config.errors import InputError, InvalidSamples, MalformedSamples
from uqueue_config.recipes import EnvelopeLogmel
from uqueue_config.recipes.mel import mel_weights

Features = NDArray[np.float32]


@lru_cache(maxsize=8)
def slow_bank(rate: float) -> NDArray[np.float64]:
    top = 2595 * math.log10(1 + rate / 2 / 700)
    edges = [700 * (10 ** (top * i / 129 / 2595) - 1) for i in range(130)]
    bank = np.zeros((128, 1025))
    for band in range(128):
        low, centre, high = edges[band : band + 3]
        for k in range(1025):
            f = k * rate / 2048
            bank[band, k] = max(0.0, min((f - low) / (centre - low), (high - f) / (high - centre)))
    return bank


@lru_cache(maxsize=1)
def slow_transform() -> NDArray[np.complex128]:
    """(2048, 1025): windowed, scaled Fourier sums; angles are reduced exactly, in whole numbers."""
    n, k = np.arange(2048)[:, None], np.arange(1025)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * n / 2048)
    return np.asarray(window / 1024 * np.exp(-2j * np.pi * ((n * k) % 2048) / 2048))


def slow_receiver(x: NDArray[np.complex64], rate: float) -> NDArray[np.float64]:
    envelope = [math.hypot(z.real, z.imag) for z in x.tolist()]
    padded = [0.0] * 1024 + envelope + [0.0] * 1024
    while (len(padded) - 2048) % 512:
        padded.append(0.0)
    frames = [padded[start : start + 2048] for start in range(0, len(padded) - 2047, 512)]
    power = np.abs(np.array(frames) @ slow_transform()) ** 2
    level = 10 * np.log10(slow_bank(rate) @ power.T + 1e-9)
    level = (level - level.mean()) / max(level.std(), 1e-8)
    count = level.shape[1]
    if count > 32:
        start = (count - 32) // 2
        return level[:, start : start + 32]
    left = (32 - count) // 2
    return level[:, [bounce(frame - left, count) for frame in range(32)]]


def bounce(place: int, count: int) -> int:
    """Walk `place` steps from frame 0, turning round at the first and the last of `count` frames."""
    at, step = 0, 1 if place > 0 else -1
    for _ in range(abs(place)):
        if not 0 <= at + step < count:
            step = -step
        at += step
    return at


def slow(samples: NDArray[np.complex64], rate: float = 192_000.0) -> NDArray[np.float64]:
    rows = [slow_receiver(row, rate) for row in samples]
    return np.stack(rows * 3 if len(rows) == 1 else rows)[None]


def fast(samples: NDArray[Any], **parameters: Any) -> Features:
    return EnvelopeLogmel(**parameters).features(samples)["mel_spectrogram"]


def assert_close(samples: NDArray[np.complex64], rate: float = 192_000.0) -> None:
    made = fast(samples, sample_rate_hz=rate)
    assert (made.shape, made.dtype, made.flags.c_contiguous) == ((1, 3, 128, 32), np.float32, True)
    assert np.abs(made - slow(samples, rate)).max() <= 1e-4


def noise(receivers: int, n: int, seed: int = 0) -> NDArray[np.complex64]:
    pairs = np.random.default_rng(seed).normal(size=(receivers, n, 2))
    return np.asarray(pairs[..., 0] + 1j * pairs[..., 1], np.complex64)


@pytest.mark.parametrize("n", [2048, 2049, 2559, 2560, 2561, 8192, 15_872, 15_873, 16_384, 16_896, 40_000])
def test_features_follow_the_specification(n: int) -> None:
    assert_close(noise(1, n))


def test_the_longest_recording() -> None:
    assert_close(noise(1, 262_144))


SIGNALS = {
    "carrier": lambda n: np.exp(2j * np.pi * 0.1 * n),
    "frequency modulation": lambda n: np.exp(40j * np.sin(2 * np.pi * n / 997)),
    "amplitude modulation": lambda n: (1 + 0.5 * np.cos(2 * np.pi * n / 64)) * np.exp(0.3j * n),
    "bursts": lambda n: (n % 3000 < 700) * np.exp(1j * n),
    "one sample": lambda n: (n == 1500) + 0j,
    "impulses": lambda n: (n % 512 == 0) + 0j,
    "constant": lambda n: np.ones(len(n)) + 0j,
    "alternating": lambda n: n % 2 + 0j,
    "growing": lambda n: np.exp(n / 900 + 1j * n),
}


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(sorted(SIGNALS)),
    n=st.integers(2048, 9000),
    exponent=st.floats(-20, 6),
    noise_level=st.sampled_from([0.0, 1e-6, 1e-3, 1.0]),
    rate=st.sampled_from([192_000.0, 12_500.0, 48_000.0, 2.4e6, 1.0]),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_signal_at_any_strength(
    name: str, n: int, exponent: float, noise_level: float, rate: float, seed: int
) -> None:
    signal = SIGNALS[name](np.arange(n)) + noise_level * noise(1, n, seed)[0]
    assert_close((10**exponent * signal).astype(np.complex64)[None], rate)


def test_each_receiver_is_normalised_by_itself() -> None:
    samples = noise(3, 5000) * np.array([[1], [1e-3], [1e4]], np.complex64)
    assert_close(samples)
    np.testing.assert_array_equal(fast(samples)[:, 1:2], fast(samples[1])[:, :1])


def test_one_receiver_stands_for_all() -> None:
    made = fast(noise(1, 4000)[0])
    np.testing.assert_array_equal(made[0, 0], made[0, 1])
    np.testing.assert_array_equal(made[0, 0], made[0, 2])
    assert fast(noise(1, 4000), receivers=5).shape == (1, 5, 128, 32)


def test_the_mean_is_taken_before_cropping() -> None:
    samples = noise(1, 32_768)
    samples[:, :8000] *= 1000
    assert abs(fast(samples).mean()) > 0.1
    assert_close(samples)


def test_silence_gives_zeros() -> None:
    np.testing.assert_array_equal(fast(np.zeros((3, 16_384), np.complex64)), 0)


def test_empty_bands_stay_at_the_floor() -> None:
    empty = np.flatnonzero(~mel_weights(192_000, 128, 2048).any(axis=1))
    assert empty.tolist() == [0, 1, 4, 9]
    made = fast(noise(1, 16_384))[0, 0]
    assert len(np.unique(made[empty])) == 1
    assert made[empty].max() < made[[2, 3, 5, 6]].min()


def test_triangles_have_peak_one_and_cover_neighbours() -> None:
    weights = mel_weights(192_000, 128, 2048)
    np.testing.assert_allclose(weights, slow_bank(192_000.0), atol=1e-9)
    inside = weights[:, 100:900].sum(axis=0)
    np.testing.assert_allclose(inside, 1, rtol=1e-9)


@pytest.mark.parametrize("strength", [1e-38, 1e19, 1e37])
def test_extreme_strengths_stay_finite(strength: float) -> None:
    assert np.isfinite(fast(noise(3, 4096) * np.float32(strength))).all()


def test_the_same_samples_give_the_same_bytes() -> None:
    samples = noise(3, 16_384)
    forms = [samples, samples.astype(np.complex128), np.asfortranarray(samples), samples.astype(">c8")]
    assert len({fast(form).tobytes() for form in forms}) == 1
    before = samples.copy()
    fast(samples)
    np.testing.assert_array_equal(samples, before)


NAN, INF = complex(math.nan, 0), complex(0, -math.inf)


@pytest.mark.parametrize(
    ("samples", "kind", "sentence"),
    [
        (noise(1, 2047), InvalidSamples, "at least 2048 samples per receiver, got 2047"),
        (noise(3, 0), InvalidSamples, "got 0"),
        (noise(2, 4096), InvalidSamples, "1 or 3 receivers, got 2"),
        (noise(0, 4096), InvalidSamples, "1 or 3 receivers, got 0"),
        (np.full((3, 4096), NAN, np.complex64), InvalidSamples, "finite"),
        (np.full((3, 4096), INF, np.complex64), InvalidSamples, "finite"),
        (np.full((3, 4096), 1e39 + 0j), InvalidSamples, "finite"),
        (np.zeros((3, 4096)), MalformedSamples, r"got an array of float64 and shape \(3, 4096\)"),
        (np.zeros((1, 3, 4096), complex), MalformedSamples, "shape"),
        (np.zeros((), complex), MalformedSamples, "shape"),
        (np.full((3, 4096), "1"), MalformedSamples, "shape"),
        (np.ma.zeros((3, 4096), complex), MalformedSamples, "mask"),
        ([1 + 1j] * 4096, MalformedSamples, "an object of type list"),
        (None, MalformedSamples, "NoneType"),
    ],
)
def test_what_is_no_recording_is_refused(samples: Any, kind: type[InputError], sentence: str) -> None:
    with pytest.raises(kind, match=sentence) as caught:
        EnvelopeLogmel().features(samples)
    assert type(caught.value) is kind
    assert str(caught.value).startswith("IQ samples: expected")


@pytest.mark.parametrize(
    "parameters",
    [{"sample_rate_hz": rate} for rate in (0, -1.0, 0.5, 1e13, math.nan, math.inf, True, "192000", None, np.float32(1))]
    + [{"receivers": number} for number in (0, -3, 65, 3.0, True, "3", None)],
)
def test_impossible_parameters_are_refused(parameters: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(parameters))):
        EnvelopeLogmel(**parameters)
