"""Held-out emitters as SigMF recordings, beside their true positions: something to ask a service about."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uqueue_worker.sample.files import write_in_one_step
from uqueue_worker.sample.localizer.scene import FREQUENCY_HZ, ORIGIN, RECEIVERS_M, SAMPLE_RATE_HZ, Floats
from uqueue_worker.sample.localizer.waveform import draw

_FULL_SCALE = 2**15


def write_recordings(folder: Path, count: int, *, seed: int, stream: int) -> None:
    """Write the first emitters of a stream as NN.sigmf-meta and NN.sigmf-data (ci16_le), and truth.json.

    truth.json is a list of {"recording", "latitude", "longitude", "snr_db"}, in the order of the emitters.
    """
    truth = []
    for index in range(count):
        emitter, samples = draw(seed, stream, index)
        name = f"{index:03d}"
        data = _as_integers(samples)
        write_in_one_step(folder / f"{name}.sigmf-data", data)
        write_in_one_step(folder / f"{name}.sigmf-meta", json.dumps(_metadata(data), indent=2).encode() + b"\n")
        latitude, longitude = degrees(emitter.position_m)
        ratios = [round(float(ratio), 1) for ratio in emitter.snr_db]
        truth.append({"recording": name, "latitude": latitude, "longitude": longitude, "snr_db": ratios})
    write_in_one_step(folder / "truth.json", json.dumps(truth, indent=2).encode() + b"\n")


def degrees(offset_m: Floats) -> tuple[float, float]:
    """Return latitude and longitude of (east, north) metres from the origin, on the ellipsoid's tangent plane.

    The same formula as the specification has for a model's offsets: the truth is not off by another projection.
    """
    axis, flattening = 6_378_137.0, 1 / 298.257223563
    squared = flattening * (2 - flattening)
    latitude = np.radians(ORIGIN[0])
    curvature = 1 - squared * np.sin(latitude) ** 2
    meridian, normal = axis * (1 - squared) / curvature**1.5, axis / np.sqrt(curvature)
    north = np.degrees(offset_m[1] / meridian)
    east = np.degrees(offset_m[0] / (normal * np.cos(latitude)))
    return float(ORIGIN[0] + north), float(ORIGIN[1] + east)


def _as_integers(samples: NDArray[np.complex64]) -> bytes:
    """Return the samples interleaved by receiver, as 16-bit I and Q."""
    parts = np.ascontiguousarray(samples.T).view(np.float32)
    return bytes(np.clip(np.rint(parts * _FULL_SCALE), -_FULL_SCALE, _FULL_SCALE - 1).astype("<i2").tobytes())


def _metadata(data: bytes) -> dict[str, Any]:
    return {
        "global": {
            "core:datatype": "ci16_le",
            "core:sample_rate": SAMPLE_RATE_HZ,
            "core:num_channels": len(RECEIVERS_M),
            "core:version": "1.2.5",
            "core:sha512": hashlib.sha512(data).hexdigest(),
            "core:description": "A simulated distress beacon, heard by three receivers",
        },
        "captures": [{"core:sample_start": 0, "core:frequency": FREQUENCY_HZ}],
        "annotations": [],
    }
