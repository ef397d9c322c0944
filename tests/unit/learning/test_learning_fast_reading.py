"""Evaluations read files in a shorter way; what they find is what a plain reading of every sample gives."""

from __future__ import annotations

import math
import tempfile
from collections import OrderedDict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import fastavro
import fastavro.schema
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders.ensembles import write_dataset
from uqueue_config.learning.feature_path import FeaturePath
from uqueue_config.learning.model_manifest import Feature
from uqueue_worker.learning.avro import SchemaSet, iter_samples, write_samples
from uqueue_worker.learning.avro.lean import lean
from uqueue_worker.learning.errors import FeatureMismatch
from uqueue_worker.learning.models.datasets import open_dataset
from uqueue_worker.learning.models.features import FeatureSpec, feature_values, model_matrix
from uqueue_worker.learning.models.labels import label_of
from uqueue_worker.learning.models.queue.chunks import chunks_of
from uqueue_worker.learning.models.reduction import NotNumeric, as_number, reduced
from uqueue_worker.learning.models.sample_table import SampleTable, fields_wanted, read_table
from uqueue_worker.learning.sensors import DEFAULT_SENSOR_ID_TO_TYPE_MAPPING

MOMENT = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
TIME = {"type": "long", "logicalType": "timestamp-millis"}
KIND = {"type": "enum", "name": "Kind", "symbols": ["A", "B"]}
READINGS = "sensor_readings_map.readings"
THERMAL = f"{READINGS}.U26_Lepton35.thermal_image_celsius"
NUMBERS = (
    f"{READINGS}.U19_TFSGS.voc_channel_4_phenol_ppb",
    f"{READINGS}.U19_TFSGS.voc_channel_5_cresol_ppb",
    f"{READINGS}.U19_TFSGS.base_data.reading_quality_score",
    f"{READINGS}.U29_TFEMF.ac_field_strength_microteslas",
    f"{READINGS}.U29_TFEMF.frequency_spectrum_data[1].magnitude_microteslas",
    f"{READINGS}.U29_TFEMF.frequency_spectrum_data[0].frequency_hz",
    f"{READINGS}.U26_Lepton35.image_width_pixels",
    f"{READINGS}.U99_none.voc_channel_4_phenol_ppb",
    *(f"{THERMAL}|{reducer}" for reducer in ("max", "mean", "std", "p95")),
    f"{THERMAL}[0]|max",
    f"{THERMAL}[1][0]",
    "sample_metadata.U21_SHT85__relative_humidity_percent",
    "sample_metadata.trial",
    "scenario_timestep_seconds",
    "ground_truth_labels.is_anomaly",
    "ground_truth_labels.anomaly_severity_score",
)
#: Texts, times, lists and objects: a mismatch where a sample has them.
OTHERS = (
    "sample_metadata.site",
    "sample_id",
    "generation_timestamp_utc",
    f"{READINGS}.U19_TFSGS.base_data.timestamp_sensor_local",
    f"{READINGS}.U19_TFSGS.base_data.timestamp_sensor_local|max",
    f"{READINGS}.U19_TFSGS.base_data",
    f"{READINGS}.U29_TFEMF.frequency_spectrum_data|max",
    THERMAL,
)
SMALL = st.floats(0, 1e6, width=32)
MAYBE = st.none() | SMALL


def reading(kind: str, model: str, sensor: str, own: dict[str, Any], quality: float | None) -> dict[str, Any]:
    base = {"sensor_id": sensor, "sensor_type_general": kind, "timestamp_sensor_local": MOMENT}
    base |= {"status_flags": ["WARM"], "reading_quality_score": quality}
    return {"base_data": base, f"{kind}_sensor_type_specific": model, f"{kind}_status_flags_specific": [], **own}


@st.composite
def samples(draw: st.DrawFn) -> list[dict[str, Any]]:
    return [draw(sample(number)) for number in range(draw(st.integers(1, 6)))]


@st.composite
def sample(draw: st.DrawFn, number: int) -> dict[str, Any]:
    size = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    row = st.lists(st.floats(-20, 200, width=32), min_size=size[1], max_size=size[1])
    image = draw(st.lists(row, min_size=size[0], max_size=size[0]))
    bins = [
        {"frequency_hz": 50.0 * (place + 1), "magnitude_microteslas": draw(SMALL)}
        for place in range(draw(st.integers(0, 3)))
    ]
    quality = draw(st.none() | st.just(0.5))
    made = {
        "U19_TFSGS": reading(
            "voc",
            "TFSGS_MULTI2_ENV",
            "U19_TFSGS",
            {"voc_channel_4_phenol_ppb": draw(MAYBE), "voc_channel_5_cresol_ppb": draw(MAYBE)},
            quality,
        ),
        "U29_TFEMF": reading(
            "emf",
            "TF_EMF_PWR1",
            "U29_TFEMF",
            {"ac_field_strength_microteslas": draw(MAYBE), "frequency_spectrum_data": draw(st.none() | st.just(bins))},
            quality,
        ),
        "U26_Lepton35": reading(
            "thermal",
            "FLIR_LEPTON_3_5",
            "U26_Lepton35",
            {"thermal_image_celsius": image, "image_height_pixels": size[0], "image_width_pixels": size[1]},
            quality,
        ),
    }
    fates = {sensor: draw(st.sampled_from(["there", "null", "absent"])) for sensor in draw(st.permutations(list(made)))}
    metadata = {
        "U21_SHT85__relative_humidity_percent": draw(st.none() | st.floats(0, 100)),
        "U20_SPS30__trial": draw(st.none() | st.integers(0, 5)),
        "trial": draw(st.none() | st.booleans() | st.integers(-(2**40), 2**40)),
        "site": draw(st.none() | st.just("north")),
    }
    told = draw(st.lists(st.sampled_from(list(metadata)), unique=True))
    label = draw(st.sampled_from([None, "UNKNOWN_EVENT_TYPE", "ARC"]))
    return {
        "sample_id": f"s{number}",
        "scenario_id": f"scenario-{number % 2}",
        "scenario_timestep_seconds": float(number) + draw(st.floats(0, 0.5)),
        "generation_timestamp_utc": MOMENT + timedelta(seconds=number),
        "sensor_readings_map": {
            "map_timestamp_utc": MOMENT,
            "readings": {
                sensor: made[sensor] if fate == "there" else None for sensor, fate in fates.items() if fate != "absent"
            },
        },
        "ground_truth_labels": {
            "label_timestamp_utc": MOMENT,
            "scenario_id": f"scenario-{number % 2}",
            "event_type": draw(st.sampled_from([None, "UNKNOWN_EVENT_TYPE", "corona_discharge"])),
            "is_anomaly": draw(st.booleans()),
            "anomaly_severity_score": draw(st.none() | st.just(0.25)),
            "scenario_specific_details": draw(st.none() | st.just({"phase": 2})),
        },
        "extracted_class_label": label,
        "sample_metadata": draw(st.just({name: metadata[name] for name in told}) | st.none()),
    }


def plainly(sample: Any, path: FeaturePath) -> float:
    """Return a feature of a sample, step by step."""
    for step in path.segments:
        if isinstance(step, int):
            sample = sample[step] if isinstance(sample, list) and step < len(sample) else None
        else:
            sample = sample.get(step) if isinstance(sample, dict) else None
    number = as_number(sample) if path.reducer is None else reduced(sample, path.reducer)
    return number if abs(number) <= float(np.finfo(np.float32).max) else math.nan


def sensors_of(sample: dict[str, Any]) -> set[str]:
    scalars = (
        name.partition("__")[0] for name, value in (sample["sample_metadata"] or {}).items() if value is not None
    )
    read = sample["sensor_readings_map"]["readings"]
    return {name for name, one in read.items() if one is not None} | {
        sensor for sensor in scalars if sensor in DEFAULT_SENSOR_ID_TO_TYPE_MAPPING
    }


def fast(path: Path, spec: FeatureSpec, label: str | None, rows: int | None = None) -> Iterator[SampleTable]:
    opened = open_dataset(path, [path.parent], fields_wanted(spec, label))
    if rows is None:
        yield read_table(opened.samples, spec, identifier=opened.identifier, label=label)
    else:
        yield from chunks_of(opened, spec, rows, label).tables


@settings(deadline=None, max_examples=60)
@given(made=samples(), data=st.data())
def test_a_table_of_a_file_is_what_every_sample_says(made: list[dict[str, Any]], data: st.DataObject) -> None:
    paths = data.draw(st.lists(st.sampled_from(NUMBERS), min_size=1, unique=True))
    odd = data.draw(st.lists(st.sampled_from(OTHERS), max_size=1))
    indicators = data.draw(st.sets(st.sampled_from(paths)))
    label = data.draw(st.sampled_from([None, "event_subtype", "phase", "label_timestamp_utc"]))
    features = (*(Feature(path=path, impute=3.5, indicator=path in indicators) for path in paths),)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data.avro"
        assert write_samples(path, made).rejected == {}
        whole = list(iter_samples(path))
        spec = FeatureSpec((*features, *(Feature(path=one) for one in odd)), max_missing_rate=1.0)
        try:
            expected = np.array([[plainly(one, feature) for feature in spec.paths] for one in whole])
        except NotNumeric:
            with pytest.raises(FeatureMismatch):
                next(fast(path, spec, label))
            with pytest.raises(FeatureMismatch):
                list(fast(path, spec, label, 2))
            return
        (table,) = fast(path, spec, label)
        chunks = list(fast(path, spec, label, 2))
    assert table.values.tobytes() == expected.tobytes() == np.concatenate([one.values for one in chunks]).tobytes()
    assert feature_values(whole, spec).tobytes() == expected.tobytes()
    assert table.matrix.tobytes() == model_matrix(expected, spec).tobytes()
    assert table.labels == tuple(label_of(one, label) for one in whole) == joined(chunks, "labels")
    assert table.ids == tuple(one["sample_id"] for one in whole) == joined(chunks, "ids")
    assert table.scenario_ids == tuple(one["scenario_id"] for one in whole) == joined(chunks, "scenario_ids")
    assert table.seconds == tuple(one["scenario_timestep_seconds"] for one in whole) == joined(chunks, "seconds")
    assert read_by([table]) == [sensors_of(one) for one in whole] == read_by(chunks)
    assert table.sensors == tuple(sorted(set().union(*map(sensors_of, whole))))


def joined(tables: list[SampleTable], name: str) -> tuple[Any, ...]:
    return tuple(one for table in tables for one in getattr(table, name))


def read_by(tables: list[SampleTable]) -> list[set[str]]:
    return [
        {sensor for sensor, there in zip(table.sensors, row, strict=True) if there}
        for table in tables
        for row in table.present.tolist()
    ]


def test_only_what_nobody_looks_at_stays_as_it_is_stored(tmp_path: Path) -> None:
    path = write_dataset(tmp_path / "data.avro", 3)
    whole, some = list(iter_samples(path)), list(iter_samples(path, wanted=["map_timestamp_utc", "sample_id"]))
    for one, other in zip(whole, some, strict=True):
        assert other["sensor_readings_map"]["map_timestamp_utc"] == one["sensor_readings_map"]["map_timestamp_utc"]
        assert other["generation_timestamp_utc"] == one["generation_timestamp_utc"].timestamp() * 1000
        assert (other["sample_id"], other["scenario_id"]) == (one["sample_id"], one["scenario_id"].encode())
        assert other["scenario_timestep_seconds"] == one["scenario_timestep_seconds"]


def test_a_lean_schema_is_made_once_for_the_fields_that_it_has() -> None:
    schemas = SchemaSet()
    assert schemas.lean("MLDataSample", ()) is schemas.lean("MLDataSample", ["no_such_field"])
    assert schemas.lean("MLDataSample", ["map_timestamp_utc"]) is not schemas.lean("MLDataSample", ())
    assert "timestamp-millis" in str(schemas.parsed("MLDataSample"))
    assert "timestamp-millis" not in str(schemas.lean("MLDataSample", ()))


def test_records_in_their_places_read_the_same_bytes(tmp_path: Path) -> None:
    leaf = {"type": "record", "name": "Leaf", "fields": [{"name": "kind", "type": KIND}, {"name": "at", "type": TIME}]}
    fields = [
        {"name": "first", "type": leaf},
        {"name": "second", "type": ["null", "Leaf"]},
        {"name": "kinds", "type": {"type": "map", "values": "Kind"}},
        {"name": "below", "type": {"type": "array", "items": "Tree"}},
        {"name": "seen", "type": {"type": "array", "items": TIME}},
    ]
    schema = fastavro.schema.parse_schema({"type": "record", "name": "Tree", "fields": fields})
    one = {"kind": "B", "at": MOMENT}
    bare = {"first": one, "second": None, "kinds": {}, "below": [], "seen": []}
    tree = {
        "first": one,
        "second": one,
        "kinds": {"a": "A"},
        "below": [bare, {**bare, "below": [bare]}],
        "seen": [MOMENT],
    }
    data = BytesIO()
    fastavro.schemaless_writer(data, schema, tree)
    plain = fastavro.schema.parse_schema(lean(schema, ["seen"]))
    found: Any = fastavro.schemaless_reader(BytesIO(data.getvalue()), plain, None)
    assert found["first"] == found["second"] == {"kind": 1, "at": MOMENT.timestamp() * 1000}
    assert found["below"][1]["below"][0]["first"] == found["first"]
    assert (found["kinds"], found["seen"]) == ({"a": 0}, [MOMENT])


def test_an_index_finds_nothing_in_an_object() -> None:
    holder = {"a": {0: 1.0, "0": 2.0}, "b": [{"c": 3.0}], "d": {"e": np.array([4.0])}}
    spec = FeatureSpec(tuple(Feature(path=path) for path in ("a[0]", "b[0].c", "b[0].none", "d.e[0]", "d.e[1]", "b.c")))
    assert spec.found_in(holder) == (None, 3.0, None, 4.0, None, None)
    assert FeatureSpec((Feature(path="b[0].c"),)).found_in(OrderedDict(holder)) == (3.0,)
