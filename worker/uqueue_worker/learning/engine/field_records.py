"""Labelled samples from the field, as they come: from files or as JSON; and as data sets keep them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from uqueue_worker.learning.engine.samples import Sample
from uqueue_worker.learning.errors import DatasetFormat, EmptyDataset
from uqueue_worker.learning.models.labels import label_of

FIELD_SAMPLES = "field samples"
#: What samples are said to come from that name no scenario; no repository has it.
NO_SCENARIO = "field-sample-without-scenario"
#: A run holds no more.
MOST_FIELD_SAMPLES = 10_000
_LONGEST_ID = 200


def field_records(samples: Iterable[Any], moment: datetime) -> dict[str, Sample]:
    """Return the records of samples by their ids, the first of each id; in an order that does not depend on theirs.

    Samples are MLDataSamples with a label, whose times may be ISO texts. What they leave out of times, scenario and
    ground truth is filled in, times with `moment`. Raises EmptyDataset, and DatasetFormat for what is no such sample.
    """
    found: dict[str, Sample] = {}
    for place, sample in enumerate(samples):
        if place == MOST_FIELD_SAMPLES:
            raise refused(f"there are more than {MOST_FIELD_SAMPLES}")
        record = _record(place, sample, moment)
        found.setdefault(record["sample_id"], record)
    if not found:
        raise EmptyDataset(dataset=FIELD_SAMPLES)
    # Within a scenario time must not run backwards.
    return dict(
        sorted(found.items(), key=lambda one: (one[1]["scenario_id"], one[1]["scenario_timestep_seconds"], one[0]))
    )


def refused(reason: str) -> DatasetFormat:
    return DatasetFormat(dataset=FIELD_SAMPLES, reason=reason)


def _record(place: int, sample: Any, moment: datetime) -> Sample:
    if not isinstance(sample, Mapping):
        raise refused(f"sample {place} is no object")
    identity = sample.get("sample_id")
    if not isinstance(identity, str) or not identity or len(identity) > _LONGEST_ID or identity.split() != [identity]:
        raise refused(f"sample {place} has no sample_id, a text of 1 to {_LONGEST_ID} characters without spaces")
    for name, kind in (("ground_truth_labels", Mapping), ("sensor_readings_map", Mapping), ("scenario_id", str)):
        if not isinstance(sample.get(name), kind | None):
            raise refused(f"sample {identity}: {name} has the wrong type")
    label = label_of(sample)
    if label is None:
        raise refused(
            f"sample {identity} has no label; expected extracted_class_label or ground_truth_labels.event_type"
        )
    scenario = sample.get("scenario_id") or NO_SCENARIO
    return {
        **sample,
        "scenario_id": scenario,
        "scenario_timestep_seconds": _seconds(identity, sample.get("scenario_timestep_seconds")),
        "generation_timestamp_utc": _time(identity, sample.get("generation_timestamp_utc"), moment),
        "sensor_readings_map": _readings(identity, sample.get("sensor_readings_map") or {}, moment),
        "ground_truth_labels": _truth(identity, sample.get("ground_truth_labels") or {}, scenario, moment),
        "extracted_class_label": label,
    }


def _seconds(identity: str, value: Any) -> float:
    if value is None:
        return 0.0
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise refused(f"sample {identity}: scenario_timestep_seconds is no number")
    return float(value)


def _readings(identity: str, given: Mapping[str, Any], moment: datetime) -> dict[str, Any]:
    readings = given.get("readings")
    if not isinstance(readings, Mapping):
        raise refused(f"sample {identity} has no sensor_readings_map.readings")
    return {
        **given,
        "map_timestamp_utc": _time(identity, given.get("map_timestamp_utc"), moment),
        "readings": {sensor: _reading(identity, sensor, one, moment) for sensor, one in readings.items()},
    }


def _reading(identity: str, sensor: str, reading: Any, moment: datetime) -> Any:
    base = reading.get("base_data") if isinstance(reading, Mapping) else None
    if not isinstance(base, Mapping):
        return reading  # what is wrong with it, who writes it says
    local = _time(identity, base.get("timestamp_sensor_local"), moment)
    return {**reading, "base_data": {"sensor_id": sensor, **base, "timestamp_sensor_local": local}}


def _truth(identity: str, given: Mapping[str, Any], scenario: str, moment: datetime) -> dict[str, Any]:
    told = {"label_timestamp_utc": moment, "scenario_id": scenario, "event_type": None}
    known = {name: value for name, value in given.items() if value is not None}
    return {**told, **known, "label_timestamp_utc": _time(identity, given.get("label_timestamp_utc"), moment)}


def _time(identity: str, value: Any, moment: datetime) -> Any:
    """Return a moment of whole milliseconds; whole numbers are milliseconds since 1970."""
    if value is None:
        value = moment
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise refused(f"sample {identity}: {value[:50]!r} is no time; expected ISO 8601") from None
    if not isinstance(value, datetime):
        return value
    aware = value if value.tzinfo is not None else value.replace(tzinfo=UTC)
    return aware.replace(microsecond=aware.microsecond // 1000 * 1000)
