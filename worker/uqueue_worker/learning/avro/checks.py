"""What must be true of a sample beyond its Avro types."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np

_FLOAT32_MAX = 3.4028234663852886e38
_ABSOLUTE_ZERO = -273.15
_AMBIENT = (-50.0, 100.0)
_HOTTEST = 1000.0
#: Limits by what a field's name looks like; the first pattern that matches counts.
_LIMITS: tuple[tuple[re.Pattern[str], tuple[float, float]], ...] = tuple(
    (re.compile(pattern), limits)
    for pattern, limits in (
        (r"_ppb$|^(mass|number)_concentration_|^typical_particle_size_|_microteslas$|^distance_to_", (0.0, math.inf)),
        (r"^sound_pressure_level_db$", (0.0, 194.0)),
        (r"_delta_temp_", (-math.inf, math.inf)),
        (r"^(derived_|thermal_).*_celsius", (_ABSOLUTE_ZERO, _HOTTEST)),
        (r"_celsius$", _AMBIENT),
        (r"humidity.*_percent$", (0.0, 100.0)),
        (r"_hz$", (math.ulp(0.0), math.inf)),
        (r"^reading_(quality_score|confidence)$|^emissivity_", (0.0, 1.0)),
    )
)
_MASSES = [f"mass_concentration_pm{size}_micrograms_per_m3" for size in ("1_0", "2_5", "4_0", "10_0")]


def sample_problems(sample: Mapping[str, Any], *, now: datetime | None = None) -> list[str]:
    """Return what is wrong with the values of an MLDataSample, as sentences with paths; [] if nothing is.

    `now` is the moment that no timestamp may be after; it defaults to the clock.
    """
    limit = (now or datetime.now(UTC)).timestamp()
    return [f"{path}: {problem}" for path, problem in _problems(sample, limit)]


def _problems(sample: Mapping[str, Any], now: float) -> Iterator[tuple[str, str]]:
    labels, container = sample["ground_truth_labels"], sample["sensor_readings_map"]
    yield from _time("generation_timestamp_utc", sample["generation_timestamp_utc"], now)
    yield from _time("sensor_readings_map.map_timestamp_utc", container["map_timestamp_utc"], now)
    yield from _time("ground_truth_labels.label_timestamp_utc", labels["label_timestamp_utc"], now)
    yield from _within("ground_truth_labels.anomaly_severity_score", labels.get("anomaly_severity_score"), (0.0, 1.0))
    yield from _tags("ground_truth_labels.anomaly_tags", labels.get("anomaly_tags") or [])
    step = sample["scenario_timestep_seconds"]
    yield from _within("scenario_timestep_seconds", step, (0.0, math.inf))
    for sensor, reading in container["readings"].items():
        if reading is not None:
            yield from _reading(f"sensor_readings_map.readings.{sensor}", sensor, reading, now)
    for key, value in (sample.get("sample_metadata") or {}).items():
        yield from _within(f"sample_metadata.{key}", value, _limits(key.rpartition("__")[2]))


def _reading(path: str, sensor: str, reading: Any, now: float) -> Iterator[tuple[str, str]]:
    base = reading.get("base_data") if isinstance(reading, Mapping) else None
    if not isinstance(base, Mapping):
        yield path, "expected a reading with base_data"
        return
    if base.get("sensor_id") != sensor:
        yield f"{path}.base_data.sensor_id", "differs from the key of the reading"
    yield from _time(f"{path}.base_data.timestamp_sensor_local", base.get("timestamp_sensor_local"), now)
    for name, value in [*base.items(), *reading.items()]:
        yield from _field(f"{path}.{name}", name, value)
    yield from _image(path, reading)
    masses = [reading[name] for name in _MASSES if reading.get(name) is not None]
    if masses != sorted(masses):
        yield path, "expected PM1 <= PM2.5 <= PM4 <= PM10"


def _field(path: str, name: str, value: Any) -> Iterator[tuple[str, str]]:
    if name.endswith(("status_flags", "_flags_specific")):
        yield from _tags(path, value or [])
    elif name == "frequency_spectrum_data":
        for place, part in enumerate(value or []):
            for inner, number in part.items():
                yield from _within(f"{path}[{place}].{inner}", number, _limits(inner))
    else:
        yield from _within(path, value, _limits(name))


def _image(path: str, reading: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if "thermal_image_celsius" not in reading:
        return
    where = f"{path}.thermal_image_celsius"
    try:
        image = np.asarray(reading["thermal_image_celsius"], dtype=np.float64)
    except (TypeError, ValueError):
        yield where, "expected rows of equal length"
        return
    if image.shape != (reading.get("image_height_pixels"), reading.get("image_width_pixels")) or image.size == 0:
        yield where, "expected image_height_pixels rows of image_width_pixels values"
    elif not np.all((image >= _ABSOLUTE_ZERO) & (image <= _HOTTEST)):
        yield where, f"expected {_ABSOLUTE_ZERO:g} to {_HOTTEST:g}"


def _limits(name: str) -> tuple[float, float]:
    return next((limits for pattern, limits in _LIMITS if pattern.search(name)), (-math.inf, math.inf))


def _within(path: str, value: Any, limits: tuple[float, float]) -> Iterator[tuple[str, str]]:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return  # the schema says what it may be instead
    low, high = limits
    if not abs(value) <= _FLOAT32_MAX:
        yield path, "expected a finite number"
    elif not low <= value <= high:
        expected = "above 0" if low == math.ulp(0.0) else f"at least {low:g}" if high == math.inf else None
        yield path, f"expected {expected or f'{low:g} to {high:g}'}"


def _time(path: str, value: Any, now: float) -> Iterator[tuple[str, str]]:
    seconds = value.timestamp() if isinstance(value, datetime) else value / 1000 if isinstance(value, int) else None
    if seconds is None or seconds <= 0:
        yield path, "expected a time after 1970"
    elif seconds > now:
        yield path, "lies in the future"


def _tags(path: str, tags: Any) -> Iterator[tuple[str, str]]:
    if any(not isinstance(tag, str) or not tag.strip() for tag in tags):
        yield path, "expected texts that are not empty"
