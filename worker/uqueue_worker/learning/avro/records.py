"""From raw samples and definitions to the records of the schemas.

A raw sample has `timestamp_scenario_seconds`, `scenario_id`, `sensor_readings` and `labels`, optionally
`extracted_class_label` and `sample_metadata`.
"""

from __future__ import annotations

import hashlib
import json
import math
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from uqueue_worker.learning.errors import DatasetFormat

#: Where the clock of a simulation starts; sensors stamp their readings with it.
SIMULATION_EPOCH = datetime(2025, 1, 1, tzinfo=UTC)
UNLABELLED = "UNKNOWN_EVENT_TYPE"
_RAW_KEYS = frozenset({"timestamp_scenario_seconds", "scenario_id", "sensor_readings", "labels"}) | {
    "extracted_class_label",
    "sample_metadata",
}
_LABELS = (
    "label_timestamp_utc",
    "scenario_id",
    "event_type",
    "event_subtype",
    "is_anomaly",
    "anomaly_severity_score",
    "anomaly_tags",
    "scenario_specific_details",
    "sensor_specific_ground_truth",
)


def moment_of(scenario_seconds: float) -> datetime:
    """Return the simulated clock's time, in the whole milliseconds that records carry."""
    return SIMULATION_EPOCH + timedelta(milliseconds=int(scenario_seconds * 1000))


def sample_record(raw: Mapping[str, Any], *, seed: int, index: int, generated: datetime) -> dict[str, Any]:
    """Return the MLDataSample of a raw sample, the `index`-th of an export.

    Its id is a random uuid by its form, and the same for the same seed, index and sample. Labels beyond the nine of
    the schema go to `scenario_specific_details`. Raises DatasetFormat for what is not a raw sample.
    """
    _check_raw(raw)
    moment = moment_of(raw["timestamp_scenario_seconds"])
    return {
        "sample_id": str(_sample_id(raw, seed, index)),
        "scenario_id": raw["scenario_id"],
        "scenario_timestep_seconds": float(raw["timestamp_scenario_seconds"]),
        "generation_timestamp_utc": generated.replace(microsecond=generated.microsecond // 1000 * 1000),
        "sensor_readings_map": {"map_timestamp_utc": moment, "readings": dict(raw["sensor_readings"])},
        "ground_truth_labels": _labels(raw, moment),
        "extracted_class_label": raw.get("extracted_class_label"),
        "sample_metadata": dict(raw["sample_metadata"]) if raw.get("sample_metadata") is not None else None,
    }


def _check_raw(raw: Any) -> None:
    reason = None
    if not isinstance(raw, Mapping):
        reason = "a raw sample is a mapping"
    elif unknown := sorted(str(key) for key in raw.keys() - _RAW_KEYS):
        reason = f"a raw sample has no {', '.join(unknown[:5])}"
    elif not _is_time(raw.get("timestamp_scenario_seconds")):
        reason = "timestamp_scenario_seconds must be a number of at least 0"
    elif not isinstance(raw.get("scenario_id"), str) or not raw["scenario_id"]:
        reason = "scenario_id must be a text that is not empty"
    elif not isinstance(raw.get("sensor_readings"), Mapping) or not isinstance(raw.get("labels"), Mapping):
        reason = "sensor_readings and labels must be mappings"
    elif not isinstance(raw.get("sample_metadata") or {}, Mapping):
        reason = "sample_metadata must be a mapping"
    if reason:
        raise DatasetFormat(dataset="raw samples", reason=reason)


def _is_time(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value) and 0 <= value < 1e9


def _sample_id(raw: Mapping[str, Any], seed: int, index: int) -> uuid.UUID:
    parts = (seed, index, raw["scenario_id"], raw["timestamp_scenario_seconds"], dict(raw.get("sample_metadata") or {}))
    digest = hashlib.sha256(repr(parts).encode("utf-8", "surrogatepass")).digest()
    return uuid.UUID(bytes=digest[:16], version=4)


def _labels(raw: Mapping[str, Any], moment: datetime) -> dict[str, Any]:
    given = raw["labels"]
    details = {name: value for name, value in given.items() if name not in _LABELS}
    details |= given.get("scenario_specific_details") or {}
    return {
        "label_timestamp_utc": given.get("label_timestamp_utc") or moment,
        "scenario_id": given.get("scenario_id") or raw["scenario_id"],
        "event_type": given.get("event_type", UNLABELLED),  # one that is None says: not labelled
        "event_subtype": given.get("event_subtype"),
        "is_anomaly": given.get("is_anomaly") or False,
        "anomaly_severity_score": _float32(given.get("anomaly_severity_score")),
        "anomaly_tags": list(given.get("anomaly_tags") or []),
        "scenario_specific_details": details or None,
        "sensor_specific_ground_truth": _sensor_truths(given.get("sensor_specific_ground_truth")),
    }


def _float32(value: Any) -> Any:
    """Return a number as the file will hold it, so that both forms of a sample are equal."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(np.float32(value)) if number else value


def _sensor_truths(given: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Values of any kind travel as JSON text, beside the name of their type."""
    return None if given is None else {sensor: _sensor_truth(value) for sensor, value in given.items()}


def _sensor_truth(value: Any) -> Any:
    if isinstance(value, Mapping) and value.keys() == {"value_type", "value_json"}:
        return dict(value)
    return {"value_type": type(value).__name__, "value_json": json.dumps(value, sort_keys=True)}
