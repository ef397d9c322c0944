"""Labelled samples of three classes, and forests trained on them, in memory and as versions in a folder."""

from __future__ import annotations

import functools
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from uqueue_config.learning.model_manifest import Feature, ModelManifest
from uqueue_worker.learning.models.training import FittedForest, ForestSettings, train
from uqueue_worker.learning.models.writing import write_forest

CLASSES = ("NORMAL", "SMOKE", "ARC")
FEATURES = (
    Feature(path="sensor_readings_map.readings.U20_SPS30.pm2_5", unit="ug/m3"),
    Feature(path="sensor_readings_map.readings.U29_TFEMF.field_strength", unit="uT"),
    Feature(path="sensor_readings_map.readings.U26_Lepton35.thermal_image_celsius", reducer="max"),
    Feature(path="sample_metadata.U21_SHT85__relative_humidity_percent"),
)
_CENTRES = {"NORMAL": (10.0, 1.0, 22.0, 50.0), "SMOKE": (60.0, 1.5, 30.0, 60.0), "ARC": (15.0, 8.0, 45.0, 40.0)}
MOMENT = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


def sample(number: int, label: str | None, values: Any) -> dict[str, Any]:
    """Return an exported sample; a value that is None is missing, and so is its sensor's reading."""
    particles, field, hottest, humidity = values
    readings: dict[str, Any] = {
        "U20_SPS30": None if particles is None else {"pm2_5": float(particles)},
        "U29_TFEMF": None if field is None else {"field_strength": float(field)},
        "U26_Lepton35": None if hottest is None else {"thermal_image_celsius": [[20.0, 21.0], [float(hottest), 20.5]]},
    }
    metadata = {} if humidity is None else {"U21_SHT85__relative_humidity_percent": float(humidity)}
    return {
        "sample_id": f"s{number:05d}",
        "scenario_id": f"scenario-{number % 7}",
        "scenario_timestep_seconds": float(number),
        "sensor_readings_map": {"map_timestamp_utc": MOMENT, "readings": readings},
        "ground_truth_labels": {"event_type": "anything"},
        "extracted_class_label": label,
        "sample_metadata": metadata,
    }


def samples(count: int, seed: int = 0, overlap: float = 1.0) -> list[dict[str, Any]]:
    """Return samples whose classes take turns; with more overlap, more of them look like another class."""
    random = np.random.default_rng(seed)
    made = []
    for number in range(count):
        label = CLASSES[number % len(CLASSES)]
        spread = np.array([20.0, 2.0, 8.0, 10.0]) * overlap
        made.append(sample(number, label, np.array(_CENTRES[label]) + random.standard_normal(4) * spread))
    return made


@functools.cache
def forest(seed: int = 0, trees: int = 12, count: int = 90) -> FittedForest:
    return train(samples(count, seed=100 + seed), FEATURES, CLASSES, seed=seed, settings=ForestSettings(trees))


def written(root: Path, model: str = "air", seed: int = 0, **more: Any) -> ModelManifest:
    """Write a forest as a version and return its manifest."""
    return write_forest(root, model, forest(seed), **more)
