"""An estimate of the signal-to-noise ratio of IQ samples, for listings. Not part of any model's input."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

N_FFT = 2048
_LEAST_RATIO = 1e-3  # -30 dB, also for silence
_LEAST_FLOOR = 1e-20  # of the mean: 200 dB is the highest estimate, where the median bin holds nothing


def snr_db(samples: NDArray[np.complex64]) -> float:
    """Return the mean over receivers of 10 log10(max(mean / median - 1, 1e-3)), in dB, from -30 to 200.

    `samples` is complex (n,) or (receivers, n), n >= 2048 and finite, as `read_samples` gives them. Mean and median are
    those of the 2048 bins of a periodogram (periodic Hann window, no overlap, what is left at the end is not used),
    averaged over its segments. White noise alone gives about -3.5 dB from one segment, -13 dB from eight. ValueError
    for fewer samples.
    """
    rows = samples[None] if samples.ndim == 1 else samples
    if rows.shape[1] < N_FFT:
        raise ValueError(f"expected at least {N_FFT} samples per receiver, got {rows.shape[1]}")
    return math.fsum(map(_of_receiver, rows)) / len(rows)


def _of_receiver(row: NDArray[np.complex64]) -> float:
    frames = row[: len(row) // N_FFT * N_FFT].reshape(-1, N_FFT)
    parts = np.fft.fft(frames * _window()).view(np.float64)
    squares = np.einsum("ij,ij->j", parts, parts)
    power = squares[::2] + squares[1::2]  # summed over segments: only ratios matter
    mean, median = float(power.mean()), float(np.median(power))
    ratio = mean / max(median, _LEAST_FLOOR * mean) - 1 if mean > 0 else 0.0
    return 10 * math.log10(max(ratio, _LEAST_RATIO))


@lru_cache(maxsize=1)
def _window() -> NDArray[np.float64]:
    window = np.asarray(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(N_FFT) / N_FFT))
    window.flags.writeable = False
    return window
