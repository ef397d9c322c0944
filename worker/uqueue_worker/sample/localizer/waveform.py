"""What the receivers record of an emitter: a carrier, amplitude-modulated with a falling tone, in noise.

The tone sweeps from 1600 to 300 Hz two to four times a second, as distress beacons on 121.5 MHz do. What the features
keep of a recording is the shape of its envelope's spectrum: how far the tone stands above the noise, per receiver.
Levels are lost (each receiver's gain is off by up to 3 dB), delays of microseconds do not show in frames of 10 ms.
"""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from typing import Final

import numpy as np
from numpy.typing import NDArray

from uqueue_config.recipes import EnvelopeLogmel
from uqueue_worker.sample.localizer.scene import RECEIVERS_M, SAMPLE_RATE_HZ, Emitter, Floats, draw_emitter

WINDOW_SAMPLES: Final = 16_384
MODULATION: Final = 0.9
_TONE_HZ: Final = (1600.0, 300.0)
_SWEEPS_PER_SECOND: Final = (2.0, 4.0)
_CARRIER_OFFSET_HZ: Final = 2000.0
_LEVEL: Final = 0.1  # rms of full scale, so that noise and modulation do not clip
_GAIN_ERROR_DB: Final = 3.0
_CHUNK: Final = 64
_WORTH_A_PROCESS: Final = 4  # chunks; fewer take less time than a process takes to start


@dataclass(frozen=True)
class Heard:
    """Emitters and what was heard of them.

    features     float32 (n, 3, 128, 32), by the recipe envelope-logmel-v1
    positions_m  float64 (n, 2), east and north
    snr_db       float64 (n, 3)
    """

    features: NDArray[np.float32]
    positions_m: Floats
    snr_db: Floats


def record(emitter: Emitter, rng: np.random.Generator) -> NDArray[np.complex64]:
    """Return IQ samples (receivers, 16384), full scale 1, of one emitter."""
    seconds = np.arange(WINDOW_SAMPLES) / SAMPLE_RATE_HZ
    sent = 1 + MODULATION * np.sin(_tone_phase(seconds, rng))
    offset = 2 * np.pi * rng.uniform(-_CARRIER_OFFSET_HZ, _CARRIER_OFFSET_HZ)
    carrier = np.exp(1j * offset * seconds).astype(np.complex64) * sent.astype(np.float32)
    rows = np.empty((len(emitter.snr_db), WINDOW_SAMPLES), np.complex64)
    for row, snr_db in zip(rows, emitter.snr_db, strict=True):
        noise = rng.standard_normal(2 * WINDOW_SAMPLES, np.float32).view(np.complex64) * np.float32(0.5**0.5)
        signal = 10 ** (snr_db / 20) / np.sqrt(1 + MODULATION**2 / 2) * np.exp(2j * np.pi * rng.random())
        row[:] = carrier * np.complex64(signal) + noise
        gain = 10 ** (rng.uniform(-_GAIN_ERROR_DB, _GAIN_ERROR_DB) / 20) / np.sqrt(1 + 10 ** (snr_db / 10))
        row *= np.float32(_LEVEL * gain)
    return rows


def _tone_phase(seconds: Floats, rng: np.random.Generator) -> Floats:
    """Return the phase of a tone that falls linearly, jumps up and falls again."""
    first, last = _TONE_HZ
    period = 1 / rng.uniform(*_SWEEPS_PER_SECOND)
    at = (seconds + rng.uniform(0, period)) % period
    return np.asarray(2 * np.pi * (first * at + (last - first) * at**2 / (2 * period)))


def hear(count: int, *, seed: int, stream: int) -> Heard:
    """Return `count` emitters, drawn independently of each other and of other streams, on all cores at hand.

    Each has a random generator of its own, so that the numbers do not depend on how many processes there are.
    """
    chunks = [range(first, min(first + _CHUNK, count)) for first in range(0, count, _CHUNK)]
    processes = min(len(chunks) // _WORTH_A_PROCESS, len(os.sched_getaffinity(0)))
    work = partial(_hear_some, seed, stream)
    if processes > 1:
        with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
            parts = list(pool.map(work, chunks))
    else:
        parts = [work(chunk) for chunk in chunks]
    return Heard(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def draw(seed: int, stream: int, index: int) -> tuple[Emitter, NDArray[np.complex64]]:
    """Return one emitter of a stream and its recording."""
    rng = np.random.default_rng([seed, stream, index])
    emitter = draw_emitter(rng)
    return emitter, record(emitter, rng)


def _hear_some(seed: int, stream: int, indices: range) -> tuple[NDArray[np.float32], Floats, Floats]:
    recipe = EnvelopeLogmel(sample_rate_hz=SAMPLE_RATE_HZ, receivers=len(RECEIVERS_M))
    features, positions, ratios = [], [], []
    for index in indices:
        emitter, samples = draw(seed, stream, index)
        features.append(recipe.features(samples)["mel_spectrogram"])
        positions.append(emitter.position_m)
        ratios.append(emitter.snr_db)
    return np.concatenate(features), np.array(positions), np.array(ratios)
