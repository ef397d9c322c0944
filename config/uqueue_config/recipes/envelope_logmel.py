"""Recipe envelope-logmel-v1: the log-mel spectrogram of the envelope |x|, normalised per receiver.

Everything is float64 until the end. In float32 the rounding of the envelope alone would show: under a strong carrier it
fills the bands that hold nothing else.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from uqueue_config.errors import InvalidSamples, MalformedSamples
from uqueue_config.recipes.mel import Block, mel_blocks

N_FFT, HOP, BANDS, FRAMES = 2048, 512, 128, 32
_FLOOR = 1e-9  # added to each band's power: nothing is below -90 dB
_LEAST_DEVIATION = 1e-8
_LEAST_RATE_HZ, _HIGHEST_RATE_HZ = 1.0, 1e12


@dataclass(frozen=True)
class EnvelopeLogmel:
    """`features(samples)` is {"mel_spectrogram": float32 (1, receivers, 128, 32)}, C-contiguous.

    sample_rate_hz  the rate the model was trained for, which places the mel bands
    receivers       what the model reads; a single receiver's spectrogram is repeated for all of them

    ValueError for a rate or a number of receivers that cannot be.
    """

    id: ClassVar[str] = "envelope-logmel-v1"
    PARAMETERS: ClassVar[tuple[str, ...]] = ("sample_rate_hz", "receivers")

    sample_rate_hz: float = 192_000.0
    receivers: int = 3

    def __post_init__(self) -> None:
        rate, receivers = self.sample_rate_hz, self.receivers
        if not _is_real(rate) or not _LEAST_RATE_HZ <= rate <= _HIGHEST_RATE_HZ:
            raise ValueError(f"sample_rate_hz must be a number from 1 to 1e12, got {rate!r}")
        if type(receivers) is not int or not 1 <= receivers <= 64:
            raise ValueError(f"receivers must be a whole number from 1 to 64, got {receivers!r}")

    @property
    def parameters(self) -> dict[str, float | int]:
        return {"sample_rate_hz": float(self.sample_rate_hz), "receivers": self.receivers}

    def features(self, samples: NDArray[np.complex64]) -> dict[str, NDArray[np.float32]]:
        """Return the model's input for samples (n,) or (receivers, n), complex, n >= 2048.

        Deterministic; silence gives zeros. MalformedSamples for what is no such array; InvalidSamples for too few
        samples, a number of receivers that is neither 1 nor the model's, and values that are not finite.
        """
        checked = self._check(samples)
        blocks = mel_blocks(float(self.sample_rate_hz), BANDS, N_FFT)
        made = np.empty((1, self.receivers, BANDS, FRAMES), np.float32)
        for index, row in enumerate(checked):
            level = _normalise(_levels(row, blocks))
            made[0, index] = level[_centre_frames(len(level))].T
        made[0, len(checked) :] = made[0, 0]
        return {"mel_spectrogram": made}

    def _check(self, samples: NDArray[np.complex64]) -> NDArray[np.complex64]:
        if not isinstance(samples, np.ndarray) or samples.dtype.kind != "c" or samples.ndim not in (1, 2):
            raise MalformedSamples(reason=f"expected complex (n,) or (receivers, n), got {_describe(samples)}")
        if np.ma.isMaskedArray(samples):  # type: ignore[no-untyped-call]
            raise MalformedSamples(reason="expected an array without a mask, got a masked one")
        rows = samples[None] if samples.ndim == 1 else samples
        if len(rows) not in (1, self.receivers):
            raise InvalidSamples(reason=f"expected 1 or {self.receivers} receivers, got {len(rows)}")
        if rows.shape[1] < N_FFT:
            raise InvalidSamples(reason=f"expected at least {N_FFT} samples per receiver, got {rows.shape[1]}")
        with np.errstate(over="ignore", invalid="ignore"):
            narrow = np.ascontiguousarray(rows, dtype=np.complex64)
        if not np.isfinite(narrow.view(np.float32)).all():
            raise InvalidSamples(reason="expected finite values that float32 can hold, got NaN or an infinity")
        return narrow


def frame_count(n: int) -> int:
    """How many frames n samples give before they are cut or extended to 32."""
    return -(-n // HOP) + 1


def _levels(row: NDArray[np.complex64], blocks: tuple[Block, ...]) -> NDArray[np.float64]:
    """Return dB (frames, bands) of one receiver."""
    count = frame_count(len(row))
    padded = np.zeros(N_FFT + HOP * (count - 1))
    _envelope(row, padded[N_FFT // 2 : N_FFT // 2 + len(row)])
    frames: NDArray[np.float64] = np.ndarray((count, N_FFT), np.float64, padded, strides=(8 * HOP, 8))
    spectra = np.fft.rfft(frames * _window())
    squares = spectra.view(np.float64)
    squares *= squares
    power = squares[:, ::2] + squares[:, 1::2]
    mel = np.empty((len(power), BANDS))
    for bands, bins, weights in blocks:
        np.matmul(power[:, bins], weights, out=mel[:, bands])
    mel += _FLOOR
    np.log10(mel, out=mel)
    mel *= 10
    return mel


def _envelope(row: NDArray[np.complex64], out: NDArray[np.float64]) -> None:
    squares = row.view(np.float32).astype(np.float64)  # squares of float32 are exact here and cannot overflow
    squares *= squares
    np.add(squares[::2], squares[1::2], out=out)
    np.sqrt(out, out=out)


@lru_cache(maxsize=1)
def _window() -> NDArray[np.float64]:
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(N_FFT) / N_FFT)
    window = np.asarray(hann / (N_FFT / 2))  # the sum of a periodic Hann window
    window.flags.writeable = False
    return window


def _normalise(level: NDArray[np.float64]) -> NDArray[np.float64]:
    centred = level - level.mean()
    deviation = math.sqrt(np.dot(centred.ravel(), centred.ravel()) / centred.size)
    return np.asarray(centred / max(deviation, _LEAST_DEVIATION))


@lru_cache(maxsize=64)
def _centre_frames(count: int) -> NDArray[np.intp]:
    """Return the 32 of `count` frames that stay: the centre, or all of them and their mirror images on both sides."""
    if count >= FRAMES:
        chosen = np.arange(FRAMES) + (count - FRAMES) // 2
    else:
        period = 2 * (count - 1)  # of the endless reflection that does not repeat its edges
        place = (np.arange(FRAMES) - (FRAMES - count) // 2) % period
        chosen = np.minimum(place, period - place)
    chosen.flags.writeable = False
    return chosen


def _is_real(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _describe(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype} and shape {value.shape}"
    return f"an object of type {type(value).__name__}"
