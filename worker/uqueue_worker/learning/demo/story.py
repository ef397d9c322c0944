"""What the demo is about: six classes, fourteen features, and three things that the start model never saw."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from uqueue_config.learning.model_manifest import Feature

CLASSES = ("NORMAL_OPERATION", "SMOULDERING", "EARLY_COMBUSTION", "ARCING", "CORONA", "EQUIPMENT_OVERHEATING")
#: Which class a sample belongs to, by the event type of its label.
CLASS_OF_EVENT: Mapping[str, str] = {
    "normal_baseline_operation": "NORMAL_OPERATION",
    "cellulose_pyrolysis": "SMOULDERING",
    "early_combustion": "EARLY_COMBUSTION",
    "arcing_event": "ARCING",
    "corona_discharge": "CORONA",
    "equipment_overheat": "EQUIPMENT_OVERHEATING",
}
#: Path of each feature within a sample, and its unit.
FEATURES: Mapping[str, str] = {
    "sensor_readings_map.readings.U19_TFSGS.voc_channel_1_formaldehyde_ppb": "ppb",
    "sensor_readings_map.readings.U19_TFSGS.voc_channel_2_acetaldehyde_ppb": "ppb",
    "sensor_readings_map.readings.U19_TFSGS.voc_channel_4_phenol_ppb": "ppb",
    "sensor_readings_map.readings.U20_SPS30.mass_concentration_pm2_5_micrograms_per_m3": "µg/m³",
    "sensor_readings_map.readings.U20_SPS30.mass_concentration_pm10_0_micrograms_per_m3": "µg/m³",
    "sensor_readings_map.readings.U29_TFEMF.ac_field_strength_microteslas": "µT",
    "sensor_readings_map.readings.U27_SPU0410HR5H.sound_pressure_level_db": "dB",
    "sensor_readings_map.readings.U26_Lepton35.derived_max_temp_celsius": "°C",
    "sensor_readings_map.readings.U26_Lepton35.derived_delta_temp_celsius_baseline": "°C",
    "sensor_readings_map.readings.U19_TFSGS.voc_channel_7_general_ppb": "ppb",
    "sensor_readings_map.readings.U19_TFSGS.voc_channel_8_general_ppb": "ppb",
    "sample_metadata.U21_SHT85__air_temperature_celsius": "°C",
    "sample_metadata.U21_SHT85__relative_humidity_percent": "%",
    "sample_metadata.U24_FT205__wind_speed_mps": "m/s",
}
#: The same as a model's manifest has it.
FEATURE_SPEC = tuple(Feature(path=path, unit=unit) for path, unit in FEATURES.items())
#: Name of the model, and of the distribution that it is used in.
NAME = "fire_precursors"
IMAGE_PIXELS = (16, 12)
FAR_METRES, PLAIN_STRENGTH, HUMID_PERCENT, DENSE_TRAFFIC = 14.0, 0.4, 85.0, 0.9


def class_of(sample: Mapping[str, Any]) -> str | None:
    """Return the class of a raw or an exported sample; None for an event that the demo does not know."""
    labels = sample.get("labels") or sample.get("ground_truth_labels") or {}
    return CLASS_OF_EVENT.get(labels.get("event_type") or "")


def unseen(label: str, conditions: Mapping[str, float]) -> bool:
    """Say whether the start model's data lack such a scenario: distant smouldering, corona in humid air, dense traffic.

    `conditions` are those of `uqueue_worker.learning.demo.deployment`.
    """
    if label == "SMOULDERING":
        return conditions["distance"] > FAR_METRES and conditions["strength"] > PLAIN_STRENGTH
    if label == "CORONA":
        return conditions["humidity"] > HUMID_PERCENT
    return label == "NORMAL_OPERATION" and conditions["traffic"] > DENSE_TRAFFIC
