"""Samples as CSV, Parquet and HDF5, read back by the libraries that others read them with."""

from __future__ import annotations

import csv
import json
import shutil
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders.learning_scenarios import CLOCK, PARAMETERS, a_generator, a_scenario, raw_samples
from uqueue_config.learning.model_manifest import Feature
from uqueue_worker.learning.avro import write_samples
from uqueue_worker.learning.avro.schemas import PACKAGED
from uqueue_worker.learning.errors import GenerationFailed
from uqueue_worker.learning.exports.arrow import defused
from uqueue_worker.learning.generator import FORMATS
from uqueue_worker.learning.models.features import FeatureSpec, feature_values

TABLES = ("dataframe_csv", "dataframe_parquet", "hdf5")
READINGS = "sensor_readings_map.readings"
IMAGE = f"{READINGS}.U26_Lepton35.thermal_image_celsius"
SPECTRUM = f"{READINGS}.U29_TFEMF.frequency_spectrum_data"
REDUCERS = {"max": np.max, "mean": np.mean, "std": np.std, "p95": lambda one: np.percentile(one, 95)}
CSVW = {
    "string": pa.string(),
    "json": pa.string(),
    "boolean": pa.bool_(),
    "long": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "dateTimeStamp": pa.string(),
}


def export(folder: Path, raw: list[dict[str, Any]], output_format: str, name: str = "d") -> Path:
    path = a_generator(folder).export(raw, output_format, name)
    assert isinstance(path, str)
    return Path(path)


def read_csv(path: Path) -> pa.Table:
    """Read it with the types that its metadata says, and take the apostrophes off."""
    told = json.loads(path.with_name(f"{path.name}-metadata.json").read_text())
    types = {one["titles"]: CSVW[one["datatype"]] for one in told["tableSchema"]["columns"]}
    options = pa.csv.ConvertOptions(
        column_types=types, strings_can_be_null=True, quoted_strings_can_be_null=False, null_values=[""]
    )
    parsing = pa.csv.ParseOptions(newlines_in_values=True)
    return pa.csv.read_csv(path, convert_options=options, parse_options=parsing)


def raised_apostrophe(text: str) -> str:
    return text[1:] if text.startswith("'") and text.lstrip("'")[:1] in {*"=+-@\t\r"} else text


def columns(path: Path, output_format: str) -> dict[str, list[Any]]:
    """Return the columns of a file, None for null; moments as text."""
    if output_format == "hdf5":
        with h5py.File(path) as file:
            return {name: _hdf5_column(file, name) for name in file["columns"]}
    if output_format == "dataframe_csv":
        found = read_csv(path).to_pydict()
        return {
            name: [raised_apostrophe(one) if isinstance(one, str) else one for one in values]
            for name, values in found.items()
        }
    found = pa.parquet.read_table(path).to_pydict()
    return {name: [iso(one) if isinstance(one, datetime) else one for one in values] for name, values in found.items()}


def _hdf5_column(file: Any, name: str) -> list[Any]:
    values = file["columns"][name]
    text = h5py.check_string_dtype(values.dtype) is not None
    held = values.asstr()[:].tolist() if text else values[:].tolist()
    return [one if there else None for one, there in zip(held, file["valid"][name][:], strict=True)]


def iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def reached(record: dict[str, Any], column: str) -> Any:
    """Return what a column must hold, by the record alone."""
    source, _, reducer = column.partition("|")
    value: Any = record
    for part in source.split("."):
        key = "" if part == "%" else unquote(part)
        value = value.get(key) if isinstance(value, dict) else None
    if reducer and value is not None:
        return float(REDUCERS[reducer](np.asarray(value, dtype=np.float64)))
    return iso(value) if isinstance(value, datetime) else value


def differences(records: list[dict[str, Any]], found: dict[str, list[Any]]) -> list[str]:
    wrong = []
    for name, values in found.items():
        for record, value in zip(records, values, strict=True):
            expected = reached(record, name)
            same = value == expected and isinstance(value, bool) == isinstance(expected, bool)
            if isinstance(expected, list) or not same:
                same = isinstance(value, str) and json.loads(value) == expected
            if not same and isinstance(expected, float) and isinstance(value, float):
                same = np.float32(value) == np.float32(expected) or value == pytest.approx(expected, rel=1e-12)
            if not same:
                wrong.append(f"{name}: {value!r} and not {expected!r}")
    return wrong


@pytest.fixture(scope="module")
def raw() -> list[dict[str, Any]]:
    """Samples of all twelve families; sensors that gave nothing, a waveform and spectra among them."""
    made = a_generator(Path("never written")).generate_training_dataset(
        scenarios=[a_scenario(family) for family in PARAMETERS],
        samples_per_scenario=2,
        imperfection_settings={"dropout_probability": 0.2},
    )
    assert isinstance(made, list)
    (heard, *_) = (one for one in made if one["sensor_readings"]["U27_SPU0410HR5H"])
    heard["sensor_readings"]["U27_SPU0410HR5H"] |= {"raw_waveform_data": [3, -7, 12], "waveform_sampling_rate_hz": 8000}
    fields = [one["sensor_readings"]["U29_TFEMF"] for one in made if one["sensor_readings"]["U29_TFEMF"]]
    fields[0]["frequency_spectrum_data"] = [{"frequency_hz": 50.0, "magnitude_microteslas": 0.25}]
    fields[1]["frequency_spectrum_data"] = []
    return made


@pytest.mark.parametrize("output_format", TABLES)
def test_every_family_comes_back_from_every_format(tmp_path: Path, raw: Any, output_format: str) -> None:
    records = a_generator(tmp_path).export(raw, "list_of_dicts", "d")
    assert isinstance(records, list)
    found = columns(export(tmp_path, raw, output_format), output_format)
    assert len(found["sample_id"]) == 2 * len(PARAMETERS) == 24
    assert differences(records, found) == []
    assert {None, *found[f"{READINGS}.U20_SPS30.base_data.sensor_id"]} == {None, "U20_SPS30"}
    details = {name for one in records for name in one["ground_truth_labels"]["scenario_specific_details"] or {}}
    assert {f"ground_truth_labels.scenario_specific_details.{name}" for name in details} <= found.keys()
    assert {f"sample_metadata.{name}" for one in records for name in one["sample_metadata"]} <= found.keys()


def test_columns_are_feature_paths_that_models_read(tmp_path: Path, raw: Any) -> None:
    records = a_generator(tmp_path).export(raw, "list_of_dicts", "d")
    frame = pd.read_parquet(export(tmp_path, raw, "dataframe_parquet"))
    names = [name for name in frame.columns if frame[name].dtype.kind == "f" and name.startswith((READINGS, "sample_"))]
    assert len(names) > 50
    spec = FeatureSpec(tuple(Feature(path=name) for name in names))
    expected = feature_values(records, spec)  # type: ignore[arg-type]
    np.testing.assert_allclose(frame[names].to_numpy(dtype=np.float64), expected, rtol=1e-7)
    assert np.isnan(expected).any()


def test_hdf5_keeps_images_waveforms_and_spectra_whole(tmp_path: Path, raw: Any) -> None:
    with h5py.File(export(tmp_path, raw, "hdf5")) as file:
        image, frame = file["arrays"][IMAGE], file["columns"]
        offsets = image["offsets"][:]
        for row, one in enumerate(raw):
            camera = one["sensor_readings"]["U26_Lepton35"]
            assert image["valid"][row] == (camera is not None)
            held = image["values"][offsets[row] : offsets[row + 1]]
            if camera is None:
                assert held.size == 0
            else:
                shape = frame[f"{READINGS}.U26_Lepton35.image_height_pixels"][row], 16
                np.testing.assert_array_equal(held.reshape(shape), np.float32(camera["thermal_image_celsius"]))
        assert image["values"].compression == "gzip"
        waveform = file["arrays"][f"{READINGS}.U27_SPU0410HR5H.raw_waveform_data"]
        assert (waveform["values"][:].tolist(), waveform["values"].dtype) == ([3, -7, 12], np.dtype("int64"))
        spectrum = file["arrays"][f"{SPECTRUM}[].magnitude_microteslas"]
        assert (spectrum["values"][:].tolist(), spectrum["valid"][:].sum()) == ([0.25], 2)
        told = json.loads(file["metadata"][()])
        assert [one["name"] for one in told["columns"]] == list(file["columns"])
        assert SPECTRUM not in told["left_out"]


def test_files_say_what_they_hold_and_what_they_leave_out(tmp_path: Path, raw: Any) -> None:
    parquet = pa.parquet.read_schema(export(tmp_path, raw, "dataframe_parquet"))
    told = json.loads(parquet.metadata[b"uqueue"])
    assert [one["name"] for one in told["columns"]] == parquet.names
    assert (told["samples"], told["schema_fingerprint"]) == (24, "0585824cf339b390")
    assert told["left_out"][SPECTRUM] == "a list of records; only hdf5 keeps it"
    beside = json.loads(export(tmp_path, raw, "dataframe_csv").with_name("d.csv-metadata.json").read_text())
    assert (beside["url"], beside["notes"][0]["left_out"]) == ("d.csv", told["left_out"])
    silent = [{**one, "sensor_readings": {**one["sensor_readings"], "U20_SPS30": None}} for one in raw]
    without = json.loads(pa.parquet.read_schema(export(tmp_path, silent, "dataframe_parquet")).metadata[b"uqueue"])
    assert without["left_out"][f"{READINGS}.U20_SPS30"] == "no sample has a reading of it"


def test_types_are_those_of_the_schema(tmp_path: Path, raw: Any) -> None:
    schema = pa.parquet.read_schema(export(tmp_path, raw, "dataframe_parquet"))
    types = {name: str(schema.field(name).type) for name in schema.names}
    assert types["generation_timestamp_utc"] == "timestamp[ms, tz=UTC]"
    assert types["scenario_timestep_seconds"] == "double"
    assert types["ground_truth_labels.is_anomaly"] == "bool"
    assert types["ground_truth_labels.anomaly_tags"] == "string"
    assert types[f"{READINGS}.U20_SPS30.mass_concentration_pm2_5_micrograms_per_m3"] == "float"
    assert types[f"{READINGS}.U26_Lepton35.image_height_pixels"] == "int64"
    assert types[f"{IMAGE}|p95"] == "double"


def bare(details: dict[str, Any], metadata: dict[str, Any] | None = None, **labels: Any) -> dict[str, Any]:
    return {
        "timestamp_scenario_seconds": 1.5,
        "scenario_id": "s",
        "sensor_readings": {},
        "labels": {"event_type": "x", "scenario_specific_details": details, **labels},
        "sample_metadata": metadata,
    }


TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=6),
    st.sampled_from(["", "null", "NA", "=1+1", "'=1", "-3", "+", "@x", "\tx", "\r", "a\nb", 'q"q', "a,b", "' x", "é"]),
)
VALUES = st.one_of(
    st.none(), TEXTS, st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(-1e30, 1e30), st.just(0), st.just(-0.0)
)
NAMES = st.one_of(st.sampled_from(["a", "b", "a.b", "a/b", "", "x|max", "%41", "a b"]), TEXTS)


@settings(max_examples=15)
@given(st.lists(st.tuples(st.dictionaries(NAMES, VALUES, max_size=4), TEXTS), max_size=4))
@pytest.mark.parametrize("output_format", TABLES)
def test_nulls_and_odd_texts_come_back(output_format: str, rows: list[tuple[dict[str, Any], str]]) -> None:
    if output_format == "hdf5":  # it has no NUL in texts
        rows = json.loads(json.dumps(rows).replace("\\u0000", "0"))
    made = [bare(details, {**details, "n": number}, event_subtype=text) for number, (details, text) in enumerate(rows)]
    with tempfile.TemporaryDirectory() as folder:
        generator = a_generator(Path(folder))
        records = generator.export(made, "list_of_dicts", "d")
        written = generator.export(made, output_format, "d")
        assert isinstance(records, list)
        allowed = [one for one in records if not refused(folder, one)]
        if len(allowed) < 0.95 * len(records):
            assert written is None
            return
        assert isinstance(written, str)
        found = columns(Path(written), output_format)
    assert differences(allowed, found) == []
    assert len(found["sample_id"]) == len(allowed)


def refused(folder: str, record: dict[str, Any]) -> bool:
    """Tell whether Avro refuses a record, such as one with a number beyond what its name allows."""
    return bool(write_samples(Path(folder, "one.avro"), [record], max_rejected_fraction=1.0).rejected)


def test_values_of_several_types_under_one_key_keep_their_types(tmp_path: Path) -> None:
    made = [bare({"mixed": "1", "numbers": 1, "large": 2**60}), bare({"mixed": 1, "numbers": 0.5, "large": 0.5})]
    made.append(bare({"mixed": None, "numbers": None, "large": None}))
    frame = pa.parquet.read_table(export(tmp_path, made, "dataframe_parquet")).to_pydict()
    details = "ground_truth_labels.scenario_specific_details"
    assert frame[f"{details}.mixed"] == ['"1"', "1", None]
    assert frame[f"{details}.numbers"] == [1.0, 0.5, None]
    assert frame[f"{details}.large"] == [str(2**60), "0.5", None]


def test_texts_that_a_spreadsheet_would_run_are_defused_and_numbers_are_not(tmp_path: Path) -> None:
    made = [bare({"note": "=cmd|'/c calc'!A1", "number": -5, "small": -0.25}, event_subtype="-x")]
    path = export(tmp_path, made, "dataframe_csv")
    with path.open(newline="") as file:
        (row,) = csv.DictReader(file)
    details = "ground_truth_labels.scenario_specific_details"
    assert row[f"{details}.note"] == "'=cmd|'/c calc'!A1"
    assert (row[f"{details}.number"], row[f"{details}.small"]) == ("-5", "-0.25")
    assert row["ground_truth_labels.event_subtype"] == "'-x"
    assert row["generation_timestamp_utc"] == iso(CLOCK) == "2026-03-02T09:14:07.123Z"
    assert row["extracted_class_label"] == ""
    assert [defused(one) for one in ("'=", "'x", "''+", "x=", "")] == ["''=", "'x", "'''+", "x=", ""]
    assert (
        "=cmd|'/c calc'!A1"
        in pa.parquet.read_table(export(tmp_path, made, "dataframe_parquet")).to_pydict()[f"{details}.note"]
    )


@pytest.mark.parametrize("output_format", TABLES)
def test_the_same_samples_give_the_same_bytes(tmp_path: Path, output_format: str) -> None:
    made = raw_samples(tmp_path)
    one, two = (export(tmp_path / name, made, output_format) for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize("output_format", TABLES)
def test_refused_samples_are_set_aside_and_too_many_leave_no_file(tmp_path: Path, output_format: str) -> None:
    made = raw_samples(tmp_path, 12)
    made[3]["sensor_readings"]["U20_SPS30"]["mass_concentration_pm1_0_micrograms_per_m3"] = -1.0
    path = export(tmp_path, made, output_format)
    assert len(columns(path, output_format)["sample_id"]) == 23
    aside = path.with_name(f"{path.name}.rejected.jsonl")
    (line,) = aside.read_text().splitlines()
    assert "mass_concentration_pm1_0_micrograms_per_m3: expected at least 0" in json.loads(line)["problems"][0]
    assert a_generator(tmp_path).export(made[:4], output_format, "few") is None
    left = sorted(one.name for one in tmp_path.iterdir() if one.name.startswith("few") or one.name.startswith("."))
    assert left == [f"few{path.suffix}.rejected.jsonl"]
    export(tmp_path, made[:3], output_format)
    assert not aside.exists()


def test_no_samples_make_a_table_without_rows(tmp_path: Path) -> None:
    for output_format in TABLES:
        found = columns(export(tmp_path, [], output_format), output_format)
        assert found["sample_id"] == found["ground_truth_labels.is_anomaly"] == []


def test_hdf5_refuses_texts_that_it_cannot_hold(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = [bare({}, event_subtype="a\0b")]
    assert a_generator(tmp_path).export(made, "hdf5", "d") is None
    assert "event_subtype: HDF5 has no texts with NUL characters" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []
    assert columns(export(tmp_path, made, "dataframe_csv"), "dataframe_csv")["ground_truth_labels.event_subtype"] == [
        "a\0b"
    ]


def test_schemas_of_one_s_own_have_columns_of_their_own(tmp_path: Path) -> None:
    folder = shutil.copytree(PACKAGED, tmp_path / "schemas")
    file = folder / "com.envirosense.schema.ml.MLDataSample.avsc"
    schema = json.loads(file.read_text())
    schema["fields"].append({"name": "site", "type": ["null", "string"], "default": None})
    file.write_text(json.dumps(schema))
    path = a_generator(tmp_path, schema_base_dir=folder).export([bare({})], "dataframe_parquet", "d")
    table = pa.parquet.read_table(str(path))
    assert table.schema.names[-1] == "site"
    assert table["site"].to_pylist() == [None]
    assert json.loads(table.schema.metadata[b"uqueue"])["schema_fingerprint"] != "0585824cf339b390"


def test_more_columns_than_a_table_has_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = [bare({f"k{number}": 1 for number in range(10_001)})]
    assert a_generator(tmp_path).export(made, "dataframe_parquet", "d") is None
    assert "more than 10000 columns" in capsys.readouterr().out


@pytest.mark.parametrize("output_format", TABLES)
def test_bad_folders_names_and_formats(tmp_path: Path, output_format: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out").write_text("a file where the folder should be")
    assert a_generator(tmp_path / "out").export([], output_format, "d") is None
    assert "export failed" in capsys.readouterr().out
    for name in ("../evil", "a/b", "/tmp/x", "a\\b", ""):
        with pytest.raises(GenerationFailed, match="no path"):
            a_generator(tmp_path).export([], output_format, name)
    with pytest.raises(ValueError, match="no output format 'xlsx'; there are list_of_dicts, avro, dataframe_csv, data"):
        a_generator(tmp_path).export([], "xlsx", "d")
    assert ("list_of_dicts", "avro", *TABLES) == FORMATS


@pytest.mark.parametrize(("output_format", "library"), [*zip(TABLES, ("pyarrow", "pyarrow", "h5py"), strict=True)])
def test_a_library_that_is_missing_is_named_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output_format: str, library: str
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(GenerationFailed, match=rf'needs {library} .*: pip install "uqueue\[learning-export\]"'):
        a_generator(tmp_path).generate_training_dataset([a_scenario("ArcingEvent")], 10_000, output_format)
