"""Feedback for tests: the spec's own example, and feedback put together from parts."""

from __future__ import annotations

import copy
from typing import Any

CLASSES = ["NORMAL_OPERATION", "FIRE_PRECURSOR", "ELECTRICAL_ARCING", "EQUIPMENT_OVERHEAT"]
MATRIX = [[190, 6, 1, 3], [22, 50, 0, 8], [4, 0, 54, 2], [9, 7, 2, 42]]
UNCERTAIN: dict[str, Any] = {
    "raw_sample_id": "5d0c5e0e-4f0a-4a3b-9f2c-0f6f2f0f7a11",
    "sensor_id": "U19_TFSGS",
    "true_label": "FIRE_PRECURSOR",
    "predicted_label": "NORMAL_OPERATION",
    "uncertainty_score": 0.763,
    "epistemic_uncertainty_score": 0.31,
    "aleatoric_uncertainty_score": 0.453,
    "disagreement_score": 0.45,
    "predicted_label_distribution": dict(zip(CLASSES, (0.46, 0.41, 0.03, 0.10), strict=True)),
    "sample_features_summary": {
        "method": "OCCLUSION",
        "target_class_for_explanation": "NORMAL_OPERATION",
        "top_n_features": [
            {
                "feature_path": "sensor_readings_map.readings.U19_TFSGS.voc_channel_4_phenol_ppb",
                "importance_score": -0.22,
                "raw_value": 1.9,
            },
            {
                "feature_path": "sensor_readings_map.readings.U20_SPS30.mass_concentration_pm2_5_micrograms_per_m3",
                "importance_score": 0.11,
                "raw_value": 14.2,
            },
        ],
    },
    "original_scenario_id": "smoulder-distant-012",
    "scenario_timestep_seconds": 640.0,
}
MISCLASSIFIED: dict[str, Any] = {
    "raw_sample_id": "0b8b1c92-65a5-4e1b-8a51-4f2f7f1f2b90",
    "sensor_id": "U26_Lepton35",
    "true_label": "EQUIPMENT_OVERHEAT",
    "predicted_label": "NORMAL_OPERATION",
    "confidence_of_prediction": 0.71,
    "epistemic_uncertainty_score": 0.12,
    "aleatoric_uncertainty_score": 0.40,
    "sample_features_summary": {
        "method": "OCCLUSION",
        "target_class_for_explanation": "NORMAL_OPERATION",
        "top_n_features": [
            {
                "feature_path": "sensor_readings_map.readings.U26_Lepton35.thermal_image_celsius|max",
                "importance_score": 0.34,
                "raw_value": 41.7,
            }
        ],
    },
    "original_scenario_id": "overheat-summer-003",
    "scenario_timestep_seconds": 1210.0,
}


def example() -> dict[str, Any]:
    """Return the example of the specification: 400 samples, of which both lists show one."""
    scores = ((0.95, 0.8444, 0.8941, 200), (0.625, 0.7937, 0.6993, 80), (0.90, 0.9474, 0.9231, 60))
    scores += ((0.70, 0.7636, 0.7304, 60),)
    names = ("recall", "precision", "f1_score", "support")
    sensor_class = {"recall": 0.59, "precision": 0.78, "f1_score": 0.6718, "support": 73}
    return copy.deepcopy(
        {
            "schema_version": "1.0",
            "model_version_evaluated": "airguard-rf@7",
            "dataset_identifier": "eval_pool_v3.avro#sha256:9b1c",
            "evaluated_at_utc": "2026-03-02T09:14:07Z",
            "n_samples": 400,
            "n_failed": 0,
            "n_misclassified": 64,
            "uncertainty_method": "ensemble:120",
            "classes": CLASSES,
            "overall_metrics": {
                "accuracy": 0.84,
                "macro_f1_score": 0.8117,
                "weighted_f1_score": 0.8349,
                "ece": 0.041,
            },
            "per_class_metrics": {
                name: dict(zip(names, values, strict=True)) for name, values in zip(CLASSES, scores, strict=True)
            },
            "confusion_matrix": MATRIX,
            "sensor_specific_metrics": {
                "U19_TFSGS": {
                    "overall_accuracy_for_sensor_data": 0.81,
                    "n_samples": 361,
                    "per_class_metrics": {"FIRE_PRECURSOR": sensor_class},
                }
            },
            "uncertain_samples": [UNCERTAIN],
            "misclassified_samples": [MISCLASSIFIED],
        }
    )


def feedback(
    uncertain: list[dict[str, Any]] | None = None,
    misclassified: list[dict[str, Any]] | None = None,
    classes: dict[str, dict[str, Any]] | None = None,
    **more: Any,
) -> dict[str, Any]:
    """Return feedback of these parts alone."""
    return {
        "uncertain_samples": uncertain or [],
        "misclassified_samples": misclassified or [],
        "per_class_metrics": classes or {},
        **more,
    }
