"""A data set as evaluation needs it: the columns of the model and a few facts, without the samples themselves."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uqueue_config.learning.feature_path import FeaturePath
from uqueue_worker.learning.errors import DatasetFormat, EmptyDataset
from uqueue_worker.learning.metrics import FloatArray
from uqueue_worker.learning.models.features import (
    FeatureSpec,
    Float32Array,
    Found,
    MissingReport,
    check_missing,
    model_matrix,
    values_of,
)
from uqueue_worker.learning.models.labels import label_of
from uqueue_worker.learning.models.path_walk import readings_of
from uqueue_worker.learning.sensors import DEFAULT_SENSOR_ID_TO_TYPE_MAPPING

METADATA = "sample_metadata"
_ROWS_AT_ONCE = 512
#: What is read of every sample, and holds text.
_FACTS = frozenset({"sample_id", "scenario_id", "extracted_class_label", "event_type"})
_Key = tuple[tuple[Any, ...], ...]


@dataclass(frozen=True, eq=False)
class SampleTable:
    """Row by row, in the order of the data set.

    identifier    the data set's name and the beginning of its SHA-256
    values        float64 (N, F) as the samples have them, NaN where a feature is missing
    labels        the true class, None where a sample is not labelled
    scenario_ids  None where a sample names no scenario
    seconds       time within the scenario, None where a sample does not say
    present       bool (N, S): whether the sample has a reading of the sensor, in the order of `sensors`
    """

    spec: FeatureSpec
    identifier: str
    ids: tuple[str, ...]
    values: FloatArray
    labels: tuple[str | None, ...]
    scenario_ids: tuple[str | None, ...]
    seconds: tuple[float | None, ...]
    sensors: tuple[str, ...]
    present: NDArray[np.bool_]
    missing: MissingReport

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def matrix(self) -> Float32Array:
        """What the model reads, float32 (N, columns)."""
        return model_matrix(self.values, self.spec)


def read_table(
    samples: Iterable[Mapping[str, Any]], spec: FeatureSpec, *, identifier: str | None = None, label: str | None = None
) -> SampleTable:
    """Return the table of samples, of which one is held at a time.

    Without an identifier the data set is named by the SHA-256 of what the table holds. Raises EmptyDataset,
    DatasetFormat for what is no sample or has no `sample_id`, and FeatureMismatch.
    """
    name = identifier or "the list given"
    reader = _Reader(spec, label, name)
    for sample in samples:
        reader.add(sample)
    if not reader.ids:
        raise EmptyDataset(dataset=name)
    return reader.table(identifier)


def fields_wanted(spec: FeatureSpec, label: str | None) -> frozenset[str] | None:
    """Return the fields that a table of samples is made of, for `open_dataset`; None is all of them."""
    return spec.fields | _FACTS if label is None else None


def sensor_of(path: FeaturePath) -> str | None:
    """Return the sensor that a feature comes from: of its reading, or of its scalar in the sample's metadata."""
    if path.sensor_id is None and path.segments[0] == METADATA and len(path.segments) > 1:
        sensor, bar, _ = str(path.segments[1]).partition("__")
        return sensor if bar and sensor else None
    return path.sensor_id


class _Reader:
    def __init__(self, spec: FeatureSpec, label: str | None, name: str) -> None:
        self.ids: list[str] = []
        self._spec = spec
        self._label = label
        self._name = name
        self._rows: list[Found] = []
        self._values: list[FloatArray] = []
        self._labels: list[str | None] = []
        self._scenarios: list[str | None] = []
        self._seconds: list[float | None] = []
        self._read_by: list[frozenset[str]] = []
        self._known: dict[_Key, frozenset[str]] = {}
        named = (sensor_of(path) for path in spec.paths if path.segments[0] == METADATA)
        self._scalar_sensors = {*DEFAULT_SENSOR_ID_TO_TYPE_MAPPING, *(one for one in named if one is not None)}

    def add(self, sample: Any) -> None:
        is_object = type(sample) is dict or isinstance(sample, Mapping)  # a dict is told at once
        given = sample.get("sample_id") if is_object else None
        if given is None:
            what = "it has no sample_id" if is_object else "it is no object"
            raise DatasetFormat(dataset=self._name, reason=f"sample {len(self.ids)}: {what}")
        self.ids.append(str(given))
        self._labels.append(label_of(sample, self._label))
        scenario = sample.get("scenario_id")
        self._scenarios.append(None if scenario is None else str(scenario))
        self._seconds.append(_seconds(sample))
        self._read_by.append(self._sensors(sample))
        self._rows.append(self._spec.found_in(sample))
        if len(self._rows) == _ROWS_AT_ONCE:
            self._reckon()

    def table(self, identifier: str | None) -> SampleTable:
        self._reckon()
        values = np.concatenate(self._values)
        sensors = sorted(set().union(*self._known.values()))
        rows = {read: [sensor in read for sensor in sensors] for read in self._known.values()}
        present = np.array([rows[read] for read in self._read_by], dtype=bool)
        return SampleTable(
            spec=self._spec,
            identifier=identifier or f"list#sha256:{self._fingerprint(values)}",
            ids=tuple(self.ids),
            values=values,
            labels=tuple(self._labels),
            scenario_ids=tuple(self._scenarios),
            seconds=tuple(self._seconds),
            sensors=tuple(sensors),
            present=present.reshape(len(self.ids), len(sensors)),
            missing=check_missing(values, self._spec),
        )

    def _reckon(self) -> None:
        self._values.append(values_of(self._rows, self._spec))
        self._rows = []

    def _sensors(self, sample: Mapping[str, Any]) -> frozenset[str]:
        """Return the sensors of a sample; most samples have the same ones, told by keys and types alone."""
        readings, told = readings_of(sample) or {}, sample.get(METADATA) or {}
        key = (*readings,), (*map(type, readings.values()),), (*told,), (*map(type, told.values()),)
        if key not in self._known:
            found = {str(name) for name, reading in readings.items() if reading is not None}
            scalars = (name.partition("__") for name, value in told.items() if value is not None)
            found |= {sensor for sensor, bar, _ in scalars if bar and sensor in self._scalar_sensors}
            self._known[key] = frozenset(found)
        return self._known[key]

    def _fingerprint(self, values: FloatArray) -> str:
        digest = hashlib.sha256(self._spec.fingerprint.encode())
        digest.update(repr((self.ids, self._labels)).encode("utf-8", "surrogatepass"))
        digest.update(np.ascontiguousarray(values).tobytes())
        return digest.hexdigest()[:16]


def _seconds(sample: Mapping[str, Any]) -> float | None:
    value = sample.get("scenario_timestep_seconds", sample.get("timestamp_scenario_seconds"))
    if type(value) is float:  # what files hold
        return value if 0 <= value < math.inf else None
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if number and math.isfinite(value) and value >= 0 else None
