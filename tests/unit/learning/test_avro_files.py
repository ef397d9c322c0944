"""What is written can be read by anybody, is what was given, and is nothing that cannot be."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from builders.learning_scenarios import CLOCK, PARAMETERS, a_generator, a_scenario, raw_samples
from uqueue_config.learning.scenario import ScenarioDefinition
from uqueue_worker.learning.avro import (
    iter_samples,
    read_definitions,
    read_packages,
    read_samples,
    sample_problems,
    sample_record,
    write_definitions,
    write_packages,
    write_samples,
)
from uqueue_worker.learning.errors import DatasetFormat, GenerationFailed, ScenarioInvalid
from uqueue_worker.learning.scenarios import BaseScenario

FOREIGN_READER = """
import json, sys
sys.path = [place for place in sys.path if not place.endswith(("config", "producer", "worker"))]
import fastavro
with open(sys.argv[1], "rb") as file:
    records = list(fastavro.reader(file))
assert not any(name.startswith("uqueue") for name in sys.modules)
print(json.dumps(records, default=str))
"""


def records(folder: Path, count: int = 3) -> list[dict[str, Any]]:
    return [
        sample_record(raw, seed=1, index=index, generated=CLOCK) for index, raw in enumerate(raw_samples(folder, count))
    ]


def a_raw(**labels: Any) -> dict[str, Any]:
    return {"timestamp_scenario_seconds": 2.5, "scenario_id": "s", "sensor_readings": {}, "labels": labels}


def labels_of(**labels: Any) -> dict[str, Any]:
    truth: dict[str, Any] = sample_record(a_raw(**labels), seed=0, index=0, generated=CLOCK)["ground_truth_labels"]
    return truth


def test_samples_come_back_as_they_were(tmp_path: Path):
    given = records(tmp_path)
    report = write_samples(tmp_path / "data.avro", given)
    assert report.written == 6
    assert not report.rejected
    assert report.schema_fingerprint == "0585824cf339b390"
    assert read_samples(tmp_path / "data.avro") == given


def test_a_program_that_knows_nothing_of_us_reads_the_file(tmp_path: Path):
    given = records(tmp_path)
    write_samples(tmp_path / "data.avro", given)
    command = [sys.executable, "-I", "-c", FOREIGN_READER, str(tmp_path / "data.avro")]
    answer = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, env={})
    assert json.loads(answer.stdout) == json.loads(json.dumps(given, default=str))


def test_the_same_samples_give_the_same_bytes(tmp_path: Path):
    hashes = {write_samples(tmp_path / name, records(tmp_path)).sha256 for name in ("one.avro", "two.avro")}
    assert len(hashes) == 1
    assert (tmp_path / "one.avro").read_bytes() == (tmp_path / "two.avro").read_bytes()


def test_labels_beyond_the_nine_go_to_the_details():
    truth = labels_of(event_type="fire", flame_height_m=0.5, scenario_specific_details={"fuel": "wood"})
    assert truth["event_type"] == "fire"
    assert truth["scenario_specific_details"] == {"flame_height_m": 0.5, "fuel": "wood"}
    assert list(truth) == [
        "label_timestamp_utc",
        "scenario_id",
        "event_type",
        "event_subtype",
        "is_anomaly",
        "anomaly_severity_score",
        "anomaly_tags",
        "scenario_specific_details",
        "sensor_specific_ground_truth",
    ]


def test_a_missing_event_type_is_unknown_and_a_null_one_unlabelled():
    assert labels_of()["event_type"] == "UNKNOWN_EVENT_TYPE"
    assert labels_of(event_type=None)["event_type"] is None


def test_truths_of_sensors_travel_as_json():
    truth = labels_of(sensor_specific_ground_truth={"U19": {"ppb": 3}, "U20": {"value_type": "int", "value_json": "1"}})
    assert truth["sensor_specific_ground_truth"] == {
        "U19": {"value_type": "dict", "value_json": '{"ppb": 3}'},
        "U20": {"value_type": "int", "value_json": "1"},
    }


def test_scalars_of_the_metadata_keep_type_and_precision(tmp_path: Path):
    raw = a_raw(event_type="e") | {
        "sample_metadata": {"d": 0.1, "n": 2**40, "b": True, "s": "x", "none": None, "w": 2.0}
    }
    write_samples(tmp_path / "m.avro", [sample_record(raw, seed=0, index=0, generated=CLOCK)])
    (back,) = read_samples(tmp_path / "m.avro")
    assert back["sample_metadata"] == raw["sample_metadata"]
    assert [type(value) for value in back["sample_metadata"].values()] == [float, int, bool, str, type(None), float]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"labels": None}, "must be mappings"),
        ({"timestamp_scenario_seconds": -1}, "at least 0"),
        ({"timestamp_scenario_seconds": True}, "at least 0"),
        ({"timestamp_scenario_seconds": float("nan")}, "at least 0"),
        ({"scenario_id": ""}, "not empty"),
        ({"sample_metadata": [1]}, "sample_metadata"),
        ({"readings": {}}, "no readings"),
    ],
)
def test_what_is_no_raw_sample_is_refused(change: dict[str, Any], said: str):
    with pytest.raises(DatasetFormat, match=said):
        sample_record(a_raw() | change, seed=0, index=0, generated=CLOCK)


VOC, PM, EMF, MIC, HEAT = "U19_TFSGS", "U20_SPS30", "U29_TFEMF", "U27_SPU0410HR5H", "U26_Lepton35"


@pytest.mark.parametrize(
    ("sensor", "field", "value", "said"),
    [
        (VOC, "voc_channel_4_phenol_ppb", -0.1, "at least 0"),
        (VOC, "voc_channel_4_phenol_ppb", float("nan"), "finite"),
        (VOC, "voc_channel_4_phenol_ppb", 1e300, "finite"),
        (VOC, "humidity_on_voc_sensor_percent", 100.5, "0 to 100"),
        (VOC, "temperature_on_voc_sensor_celsius", 120.0, "-50 to 100"),
        (VOC, "voc_status_flags_specific", [""], "not empty"),
        (PM, "mass_concentration_pm1_0_micrograms_per_m3", 1e6, "PM1 <= PM2.5"),
        (EMF, "ac_field_strength_microteslas", -1.0, "at least 0"),
        (EMF, "dominant_frequency_hz", 0.0, "above 0"),
        (EMF, "frequency_spectrum_data", [{"frequency_hz": 50.0, "magnitude_microteslas": -1.0}], "at least 0"),
        (MIC, "sound_pressure_level_db", 195.0, "0 to 194"),
        (HEAT, "image_height_pixels", 13, "image_height_pixels rows"),
        (HEAT, "thermal_image_celsius", [[1.0], [1.0, 2.0]], "equal length"),
        (HEAT, "thermal_image_celsius", [[2000.0] * 16] * 12, "to 1000"),
        (HEAT, "derived_max_temp_celsius", 1001.0, "to 1000"),
    ],
)
def test_values_that_cannot_be_are_named(tmp_path: Path, sensor: str, field: str, value: Any, said: str):
    sample = records(tmp_path, 1)[0]
    assert sample_problems(sample) == []
    sample["sensor_readings_map"]["readings"][sensor][field] = value
    problems = sample_problems(sample)
    assert len(problems) == 1
    assert said in problems[0]
    assert f"readings.{sensor}" in problems[0]


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("sensor_readings_map", "readings", VOC, "base_data", "sensor_id"), "U20", "differs from the key"),
        (("sensor_readings_map", "readings", VOC, "base_data", "reading_confidence"), 1.5, "0 to 1"),
        (("sensor_readings_map", "map_timestamp_utc"), CLOCK + timedelta(days=1), "future"),
        (("generation_timestamp_utc",), 0, "after 1970"),
        (("ground_truth_labels", "anomaly_severity_score"), 1.5, "0 to 1"),
        (("ground_truth_labels", "anomaly_tags"), [" "], "not empty"),
        (("sample_metadata", "U21_SHT85__relative_humidity_percent"), 101.0, "0 to 100"),
    ],
)
def test_facts_that_cannot_be_are_named(tmp_path: Path, path: tuple[str, ...], value: Any, said: str):
    sample = records(tmp_path, 1)[0]
    holder: Any = sample
    for part in path[:-1]:
        holder = holder[part]
    holder[path[-1]] = value
    (problem,) = sample_problems(sample, now=CLOCK)
    assert problem.startswith(path[0])
    assert said in problem


def test_bad_samples_are_set_aside_and_the_others_written(tmp_path: Path):
    given = records(tmp_path, 15)
    given[4]["sensor_readings_map"]["readings"][VOC]["voc_channel_9_ppb"] = 1.0
    report = write_samples(tmp_path / "data.avro", given)
    assert list(report.rejected) == [given[4]["sample_id"]]
    assert report.written == len(read_samples(tmp_path / "data.avro")) == 29
    (entry,) = (tmp_path / "data.avro.rejected.jsonl").read_text().splitlines()
    assert "voc_channel_9_ppb" in str(json.loads(entry)["problems"])


def test_more_than_five_percent_bad_samples_give_no_file(tmp_path: Path):
    given = records(tmp_path, 5)
    given[1]["scenario_timestep_seconds"] = -1.0
    with pytest.raises(GenerationFailed, match="1 of 10 samples were refused"):
        write_samples(tmp_path / "data.avro", given)
    assert [path.name for path in tmp_path.iterdir()] == ["data.avro.rejected.jsonl"]


def test_time_does_not_run_backwards_within_a_run(tmp_path: Path):
    given = records(tmp_path, 2)
    report = write_samples(tmp_path / "data.avro", [given[1], given[0]], max_rejected_fraction=0.5)
    assert "comes after" in str(report.rejected[given[0]["sample_id"]])


def test_an_interrupted_writing_leaves_the_old_file(tmp_path: Path):
    given = records(tmp_path, 1)
    write_samples(tmp_path / "data.avro", given)
    before = (tmp_path / "data.avro").read_bytes()

    def breaking():
        yield given[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_samples(tmp_path / "data.avro", breaking())
    assert (tmp_path / "data.avro").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["data.avro"]


def test_samples_are_read_one_block_at_a_time(tmp_path: Path):
    write_samples(tmp_path / "data.avro", records(tmp_path, 20))
    reading = iter_samples(tmp_path / "data.avro")
    assert next(reading)["scenario_id"] == "coronadischarge-1"
    reading.close()


@pytest.mark.parametrize("family", PARAMETERS)
def test_every_family_survives_an_avro_file(tmp_path: Path, family: str):
    scenario = a_scenario(family)
    write_definitions(tmp_path / "scenarios.avro", [scenario.to_definition()])
    (record,) = read_definitions(tmp_path / "scenarios.avro")
    again = BaseScenario.from_scenario_definition_dict(record)
    assert type(again) is type(scenario)
    assert again.to_scenario_definition_dict() == scenario.to_scenario_definition_dict()


def test_a_run_package_comes_back(tmp_path: Path):
    identity, scenario = uuid.uuid4(), a_scenario("CoronaDischarge").to_definition()
    package = {
        "package_id": str(identity),
        "generation_timestamp_utc": CLOCK,
        "scenario_definition": scenario,
        "simulation_engine_version": "1",
        "data_generator_version": "0.1.0",
        "ml_data_samples_embedded": records(tmp_path, 1),
        "run_metadata": {"random_seed": 3, "originating_weak_spot_ids": '["rg_1"]'},
    }
    write_packages(tmp_path / "package.avro", [package])
    (back,) = read_packages(tmp_path / "package.avro")
    assert back["package_id"] == identity
    assert ScenarioDefinition.read(back["scenario_definition"]) == scenario
    assert back["ml_data_samples_embedded"] == package["ml_data_samples_embedded"]
    assert back["run_metadata"] == package["run_metadata"]
    assert back["data_schema_versions"]["MLDataSample"] == "0585824cf339b390"
    with pytest.raises(ScenarioInvalid, match="package_id"):
        write_packages(tmp_path / "bad.avro", [package | {"package_id": "42"}])
    with pytest.raises(DatasetFormat, match="colour"):
        write_packages(tmp_path / "bad.avro", [package | {"colour": "red"}])
    assert not (tmp_path / "bad.avro").exists()


def test_both_forms_of_an_export_are_equal(tmp_path: Path):
    generator, raw = a_generator(tmp_path), raw_samples(tmp_path)
    path = generator.export(raw, "avro", "both")
    assert generator.export(raw, "list_of_dicts", "both") == read_samples(str(path))
