"""A small classifier in this process and labelled samples for it, without any file."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from uqueue_config.learning.model_manifest import Feature
from uqueue_worker.learning.models.in_process import function_model
from uqueue_worker.learning.models.loaded import LoadedModel

CLASSES = ("NORMAL", "SMOULDER", "CORONA", "ARC")
FEATURES = (
    Feature(path="sensor_readings_map.readings.U19_TFSGS.voc_channel_4_phenol_ppb", impute=3.0, median=3.0),
    Feature(path="sensor_readings_map.readings.U20_SPS30.mass_concentration_pm2_5_micrograms_per_m3", median=10.0),
    Feature(path="sensor_readings_map.readings.U29_TFEMF.ac_field_strength_microteslas", median=1.0),
    Feature(path="sample_metadata.U21_SHT85__relative_humidity_percent", impute=50.0, median=50.0),
)
_PATHS = [
    ("U19_TFSGS", "voc_channel_4_phenol_ppb"),
    ("U20_SPS30", "mass_concentration_pm2_5_micrograms_per_m3"),
    ("U29_TFEMF", "ac_field_strength_microteslas"),
]


def ensemble(members: int = 5, *, version: str = "7", features: tuple[Feature, ...] = FEATURES) -> LoadedModel:
    """Return an ensemble of softmax layers with drawn weights."""
    draw = np.random.default_rng(3)
    weights = draw.normal(size=(members, len(features), len(CLASSES)))
    offsets = draw.normal(size=(members, 1, len(CLASSES)))

    def run(matrix: NDArray[np.float32]) -> NDArray[np.float32]:
        scale = np.array([5.0, 10.0, 2.0, 40.0])
        scores = np.einsum("nf,mfk->mnk", matrix / scale, weights) + offsets
        shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
        shares /= shares.sum(axis=-1, keepdims=True)
        return shares.transpose(1, 0, 2).astype(np.float32)

    return function_model(run, CLASSES, features, members=members, conformal_q=0.6, name="airguard", version=version)


def samples(n: int = 300, seed: int = 1) -> list[dict[str, Any]]:
    """Return exported samples with random readings and labels; a few lack a reading, one has no label."""
    draw = np.random.default_rng(seed)
    found = []
    for number in range(n):
        values = draw.gamma(2.0, (3.0, 8.0, 1.0))
        readings = {sensor: {field: float(value)} for (sensor, field), value in zip(_PATHS, values, strict=True)}
        if number % 17 == 0:
            readings.pop("U19_TFSGS")
        found.append(
            {
                "sample_id": f"sample-{number:05}",
                "scenario_id": f"scenario-{number % 7}",
                "scenario_timestep_seconds": float(number),
                "sensor_readings_map": {"map_timestamp_utc": 1_700_000_000_000, "readings": readings},
                "ground_truth_labels": {"event_type": None},
                "extracted_class_label": None if number == 4 else CLASSES[int(draw.integers(len(CLASSES)))],
                "sample_metadata": {"U21_SHT85__relative_humidity_percent": float(draw.uniform(20, 98))},
            }
        )
    return found
