"""Scenario definitions: fifteen fields, immutable, and a mapping."""

from __future__ import annotations

import copy
import json
import pickle
from datetime import UTC, datetime
from typing import Any

import pytest

from uqueue_config.learning.errors import ScenarioInvalid
from uqueue_config.learning.scenario import ScenarioComplexityLevel, ScenarioDefinition, parameters_text

FIELDS = [
    "scenario_definition_id",
    "scenario_class_module",
    "scenario_class_name",
    "scenario_instance_id",
    "name",
    "description",
    "category",
    "tags",
    "difficulty_level",
    "expected_duration_seconds",
    "version",
    "creation_timestamp_utc",
    "specific_params_json",
    "author",
    "related_scenario_ids",
]
RECORD: dict[str, Any] = {
    "scenario_definition_id": "smoulder-distant-012",
    "scenario_class_module": "uqueue_worker.learning.scenarios",
    "scenario_class_name": "LigninDecomposition",
    "scenario_instance_id": "smoulder-distant-012",
    "name": "Distant smouldering",
    "description": "Wood far away",
    "category": "fire_precursor",
    "tags": ["class_FIRE_PRECURSOR", "sensor_VOCSensorArray"],
    "difficulty_level": "HIGH",
    "expected_duration_seconds": 2700.0,
    "version": 3,
    "creation_timestamp_utc": 1_772_442_847_000,
    "specific_params_json": '{"peak_time_factor": 0.7, "location": [0, 0, 0.5]}',
    "author": None,
    "related_scenario_ids": ["smoulder-1"],
}


def test_a_record_comes_back_as_it_was() -> None:
    definition = ScenarioDefinition.read(RECORD)
    assert definition.to_record() == RECORD
    assert list(definition) == list(ScenarioDefinition.model_fields) == FIELDS
    assert ScenarioDefinition.read(definition) == definition
    assert pickle.loads(pickle.dumps(definition)) == copy.deepcopy(definition) == definition
    assert json.loads(definition.model_dump_json()) == RECORD


def test_it_is_a_mapping() -> None:
    definition = ScenarioDefinition.read(RECORD)
    assert definition["name"] == definition.name == definition.get("name") == dict(definition)["name"]
    assert (len(definition), "author" in definition, "origin" in definition) == (15, True, False)
    assert definition.get("origin", "none") == "none"
    with pytest.raises(KeyError):
        definition["model_fields"]


def test_it_does_not_change() -> None:
    definition = ScenarioDefinition.read(RECORD)
    with pytest.raises(ValueError, match="frozen"):
        definition.name = "other"  # type: ignore[misc]
    definition.specific_params["location"].append(1)
    definition.to_record()["tags"].append("x")
    assert definition == ScenarioDefinition.read(RECORD)
    assert hash(definition) == hash(ScenarioDefinition.read(RECORD))


def test_a_copy_with_changes_is_checked() -> None:
    definition = ScenarioDefinition.read(RECORD).replace(version=4, specific_params_json={"b": 1, "a": [2]})
    assert (definition.version, definition.specific_params_json) == (4, '{"a":[2],"b":1}')
    with pytest.raises(ScenarioInvalid, match="version"):
        definition.replace(version=0)


def test_a_name_and_an_id_are_enough() -> None:
    definition = ScenarioDefinition.read({"scenario_definition_id": "a", "name": "b"})
    assert (definition.scenario_instance_id, definition.difficulty_level, definition.version) == ("a", "MEDIUM", 1)
    assert abs((datetime.now(UTC) - definition.created_at).total_seconds()) < 60


@pytest.mark.parametrize(
    "time",
    [
        1_772_442_847_000,
        1_772_442_847_000.0,
        datetime(2026, 3, 2, 9, 14, 7, tzinfo=UTC),
        datetime(2026, 3, 2, 9, 14, 7),
        "2026-03-02T09:14:07Z",
        "2026-03-02T10:14:07+01:00",
    ],
)
def test_times_are_milliseconds(time: Any) -> None:
    assert ScenarioDefinition.read(RECORD | {"creation_timestamp_utc": time}) == ScenarioDefinition.read(RECORD)


def test_a_level_is_taken_as_well_as_its_name() -> None:
    level = ScenarioComplexityLevel.VERY_HIGH
    assert ScenarioDefinition.read(RECORD | {"difficulty_level": level}).difficulty_level == "VERY_HIGH"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("name", "a\x00b"),
        ("name", "\ud800"),
        ("tags", ["a", ""]),
        ("tags", "class_x"),
        ("difficulty_level", "HARD"),
        ("expected_duration_seconds", 0),
        ("expected_duration_seconds", float("inf")),
        ("version", 2**31),
        ("creation_timestamp_utc", True),
        ("creation_timestamp_utc", float("nan")),
        ("creation_timestamp_utc", "yesterday"),
        ("creation_timestamp_utc", -1),
        ("specific_params_json", "[]"),
        ("specific_params_json", "{"),
        ("specific_params_json", '{"a": NaN}'),
        ("specific_params_json", '{"a": 1e999}'),
        ("specific_params_json", {"a": float("nan")}),
        ("specific_params_json", {"a": object()}),
        ("specific_params_json", '{"a":' + "[" * 10_000 + "]" * 10_000 + "}"),
        ("specific_params_json", '{"a": "' + "x" * 1_100_000 + '"}'),
        ("__class__", "os.system"),
    ],
)
def test_what_is_wrong_is_refused(field: str, value: Any) -> None:
    with pytest.raises(ScenarioInvalid, match=field):
        ScenarioDefinition.read(RECORD | {field: value})


def test_every_problem_is_named() -> None:
    with pytest.raises(ScenarioInvalid) as raised:
        ScenarioDefinition.read({"tags": [1], "version": 0})
    for path in ("scenario_definition_id", "name", "tags[0]", "version"):
        assert f"{path}: " in str(raised.value)


def test_parameters_have_one_text() -> None:
    assert parameters_text({"b": 1, "a": {"d": 2, "c": "é"}}) == '{"a":{"c":"é","d":2},"b":1}'
