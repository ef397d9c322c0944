"""The schemas are those of the specification, to the field order."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from uqueue_worker.learning.avro import SchemaSet
from uqueue_worker.learning.avro.schemas import PACKAGED, SCHEMA_NAMES

FINGERPRINTS = {
    "SensorReadingBase": "54472a92fe1d2e70",
    "ThermalReading": "6a804b5fdf832373",
    "VOCReading": "19e21a1a5f6aa786",
    "EMFReading": "fcb8f2d035906385",
    "AcousticReading": "56444b341dedd44b",
    "ParticulateMatterReading": "a06314958549f09d",
    "SensorReadingsMap": "01be36a7b49ca4b5",
    "GroundTruthLabels": "87fdad5949d5c173",
    "MLDataSample": "0585824cf339b390",
    "ScenarioDefinition": "f535cb9f451d79e2",
    "ScenarioRunPackage": "39f891114d5b1d9d",
}


def test_fingerprints_are_those_of_the_specification():
    assert SchemaSet().fingerprints() == FINGERPRINTS


def test_there_is_one_file_for_each_schema_named_by_its_full_name():
    assert sorted(path.name.split(".")[-2] for path in PACKAGED.glob("*.avsc")) == sorted(SCHEMA_NAMES)


def test_a_folder_of_ones_own_is_read_instead(tmp_path: Path):
    folder = shutil.copytree(PACKAGED, tmp_path / "schemas")
    base = folder / "com.envirosense.schema.sensor.SensorReadingBase.avsc"
    text = base.read_text().replace('"sensor_type_general"', '"sensor_type"')
    base.write_text(text)
    changed = SchemaSet(folder).fingerprints()
    assert {name for name in changed if changed[name] == FINGERPRINTS[name]} == {
        "GroundTruthLabels",
        "ScenarioDefinition",
    }


def test_another_name_is_refused_with_those_there_are():
    with pytest.raises(KeyError, match="there is no schema 'Sample'; there are SensorReadingBase"):
        SchemaSet().parsed("Sample")
