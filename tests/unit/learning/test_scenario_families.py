"""Families: what they take, what they are called, and that data cannot name any other code."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from builders.learning_scenarios import CLOCK, PARAMETERS, a_scenario
from uqueue_config.learning.scenario import ScenarioComplexityLevel
from uqueue_worker.learning.errors import ScenarioInvalid, ScenarioParameterError, UnknownScenarioClass
from uqueue_worker.learning.scenarios import (
    REGISTRY,
    ArcingEvent,
    BaseScenario,
    CoronaDischarge,
    InsulationBreakdown,
    ScenarioRegistry,
    WeatherEvent,
    behaviour_hash,
)
from uqueue_worker.learning.simulator import EnvironmentOrchestrator

TABLE = {
    "DiurnalCycle": ("normal_operation_environmental", "normal_diurnal_cycle", 86400),
    "SeasonalVariation": ("normal_operation_long_term", "normal_seasonal_variation", 7776000),
    "WeatherEvent": ("normal_operation_weather", "normal_weather_event", 24 * 3600),
    "BaselineOperation": ("normal_operation_baseline", "normal_baseline_operation", 28800),
    "CellulosePyrolysis": ("fire_precursor", "cellulose_pyrolysis", 3600),
    "LigninDecomposition": ("fire_precursor", "lignin_decomposition", 2700),
    "EarlyCombustion": ("fire_event", "early_combustion", 1800),
    "FirePrecursorCombo": ("fire_precursor_complex", "multi_fire_precursor", 3600),
    "CoronaDischarge": ("electrical_fault", "corona_discharge", 1200),
    "ArcingEvent": ("electrical_fault_critical", "arcing_event", 60),
    "InsulationBreakdown": ("electrical_fault_progressive", "insulation_breakdown", 180),
    "EquipmentOverheat": ("electrical_thermal_fault", "equipment_overheat", 3600),
}
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


def test_the_twelve_families_are_registered():
    assert {family.__name__ for family in REGISTRY} == set(TABLE) == set(PARAMETERS)


@pytest.mark.parametrize("family", TABLE)
def test_each_family_has_its_category_event_and_duration(family: str):
    scenario = a_scenario(family)
    orchestrator = EnvironmentOrchestrator(seed=1)
    scenario.setup_environment(orchestrator)
    labels = scenario.get_ground_truth_labels(orchestrator.get_state())
    assert (scenario.category, labels["event_type"], scenario.expected_duration_seconds) == TABLE[family]
    assert labels["is_anomaly"] is not scenario.category.startswith("normal")
    assert scenario.validate() == []


@pytest.mark.parametrize("family", TABLE)
def test_each_family_survives_dict_and_json(tmp_path: Path, family: str):
    scenario = a_scenario(family)
    record = scenario.to_scenario_definition_dict()
    assert list(record) == FIELDS
    again = BaseScenario.from_scenario_definition_dict(json.loads(json.dumps(record)))
    assert type(again) is type(scenario)
    assert again.parameters == scenario.parameters
    assert again.to_scenario_definition_dict() == record
    scenario.save_to_json_file(tmp_path / "s.json")
    assert type(scenario).load_from_json_file(tmp_path / "s.json").to_scenario_definition_dict() == record
    assert [path.name for path in tmp_path.iterdir()] == ["s.json"]


@pytest.mark.parametrize("family", TABLE)
def test_each_family_refuses_keys_it_does_not_have(family: str):
    with pytest.raises(ScenarioParameterError, match="colour") as refused:
        a_scenario(family, colour="red")
    assert refused.value.code == "scenario_parameters"
    assert "red" not in refused.value.message


DEFAULTS: dict[str, dict[str, Any]] = {
    "DiurnalCycle": {
        "min_temp_celsius": 10,
        "max_temp_celsius": 25,
        "temp_phase_offset_hours": -2,
        "max_solar_intensity_w_m2": 1000,
        "solar_phase_offset_hours": 0,
        "min_humidity_percent": 40,
        "max_humidity_percent": 80,
        "humidity_phase_offset_hours": 10,
    },
    "BaselineOperation": {
        "target_temperature_celsius": 20,
        "target_relative_humidity_percent": 50,
        "target_solar_intensity_w_m2": 100,
        "wind_speed_mps": 0,
        "precipitation_type": "none",
        "equipment_states": {},
    },
    "CellulosePyrolysis": {
        "location": [0, 0, 0.5],
        "base_emission_rates_g_s": {"CO": 0.001, "CH2O": 0.0005},
        "initial_intensity": 0.1,
        "peak_intensity": 1,
        "peak_time_factor": 0.6,
    },
    "CoronaDischarge": {
        "location": [0, 0, 0.5],
        "emf_strength_v_m": 50,
        "acoustic_level_db": 40,
        "ozone_emission_g_s": 1e-4,
        "nox_emission_g_s": 5e-5,
    },
}


@pytest.mark.parametrize("family", DEFAULTS)
def test_defaults_are_those_of_the_specification(family: str):
    record = REGISTRY.named(family)("id", "name").to_scenario_definition_dict()
    assert json.loads(record["specific_params_json"]) == DEFAULTS[family]


@pytest.mark.parametrize(
    ("family", "parameters", "said"),
    [
        ("DiurnalCycle", {"min_temp_celsius": 30}, "max_temp_celsius must be at least min_temp_celsius"),
        ("DiurnalCycle", {"max_humidity_percent": 101}, "max_humidity_percent"),
        ("WeatherEvent", {"weather_event_type": "hail"}, "rain_storm, high_wind, temperature_event"),
        ("WeatherEvent", {"weather_event_type": ["rain_storm"]}, "rain_storm, high_wind, temperature_event"),
        ("WeatherEvent", {"weather_event_type": "rain_storm", "max_wind_speed_mps": 9}, "max_wind_speed_mps"),
        ("WeatherEvent", {"weather_event_type": "high_wind", "dominant_direction_degrees": 361}, "dominant_direction"),
        (
            "WeatherEvent",
            {"weather_event_type": "temperature_event", "event_type": "heatwave", "temperature_peak_delta_c": -3},
            "must be above 0 for a heatwave",
        ),
        ("BaselineOperation", {"precipitation_type": "snow"}, "precipitation_type"),
        ("CellulosePyrolysis", {"initial_intensity": 0.9, "peak_intensity": 0.5}, "peak_intensity must be at least"),
        ("CellulosePyrolysis", {"location": [0, 0]}, "location"),
        ("CellulosePyrolysis", {"location": [0, 0, "1"]}, "location"),
        ("EarlyCombustion", {"max_heat_w": 100}, "max_heat_w must be at least initial_heat_w"),
        ("EarlyCombustion", {"max_heat_w": True}, "max_heat_w"),
        ("EarlyCombustion", {"max_heat_w": float("nan")}, "max_heat_w"),
        ("EarlyCombustion", {"chemical_emission_rates_g_s": {"../CO": 0.1}}, "chemical_emission_rates_g_s"),
        ("FirePrecursorCombo", {}, "heat_source, chemical_source or both"),
        ("FirePrecursorCombo", {"heat_source": {"duration_factor": 0}}, "heat_source.duration_factor"),
        ("FirePrecursorCombo", {"heat_source": {"start_heat_w": 9000, "max_heat_w": 1}}, "max_heat_w must be"),
        ("InsulationBreakdown", {"stage_durations_s": [1, 2]}, "one entry for each stage"),
        ("CoronaDischarge", {"environment": {"fog": 1}}, "environment.fog"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(family: str, parameters: dict[str, Any], said: str):
    with pytest.raises(ScenarioParameterError, match=said):
        REGISTRY.named(family)("id", "name", **parameters)


def a_record(**changes: Any) -> dict[str, Any]:
    return a_scenario("CoronaDischarge").to_scenario_definition_dict() | changes


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"),
        ("antigravity", "CoronaDischarge"),
        ("uqueue_worker.learning.scenarios.fire", "CoronaDischarge"),  # each of the two is known, the pair is not
        ("uqueue_worker.learning.scenarios.electrical", "InsulationParameters"),
        ("uqueue_worker.learning.scenarios.electrical", "__class__"),
        ("../../etc", "passwd"),
        ("", ""),
    ],
)
def test_data_that_names_other_code_is_refused_and_imports_nothing(module: str, name: str):
    before = set(sys.modules)
    with pytest.raises(UnknownScenarioClass) as refused:
        BaseScenario.from_scenario_definition_dict(a_record(scenario_class_module=module, scenario_class_name=name))
    assert refused.value.code == "unknown_scenario_class"
    assert set(sys.modules) == before


def test_a_module_that_data_names_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "planted.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Planted: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UnknownScenarioClass):
        BaseScenario.from_scenario_definition_dict(
            a_record(scenario_class_module="planted", scenario_class_name="Planted")
        )
    assert not (tmp_path / "ran").exists()


def test_parameters_cannot_overwrite_fields_of_the_definition():
    for taken in ("name", "scenario_id", "category"):
        with pytest.raises(ScenarioParameterError, match=f"{taken} is a field of the definition"):
            BaseScenario.from_scenario_definition_dict(a_record(specific_params_json=json.dumps({taken: "x"})))
    with pytest.raises(ScenarioParameterError, match="multiple values"):
        BaseScenario.from_scenario_definition_dict(a_record(specific_params_json='{"self": 1}'))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (1_700_000_000_123, datetime(2023, 11, 14, 22, 13, 20, 123000, tzinfo=UTC)),
        (1_700_000_000_123.0, datetime(2023, 11, 14, 22, 13, 20, 123000, tzinfo=UTC)),
        ("2023-11-14T22:13:20.123Z", datetime(2023, 11, 14, 22, 13, 20, 123000, tzinfo=UTC)),
        (
            datetime(2023, 11, 15, 0, 13, 20, tzinfo=timezone(timedelta(hours=2))),
            datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC),
        ),
    ],
)
def test_a_time_of_creation_may_be_a_number_a_datetime_or_text(given: Any, expected: datetime):
    scenario = BaseScenario.from_scenario_definition_dict(a_record(creation_timestamp_utc=given))
    assert scenario.creation_timestamp_utc == expected


def test_difficulty_is_a_level_or_its_name():
    assert CoronaDischarge("i", "n").difficulty_level is ScenarioComplexityLevel.MEDIUM
    assert CoronaDischarge("i", "n", difficulty_level="VERY_HIGH").difficulty_level == 5
    with pytest.raises(ValueError, match="VERY_LOW"):
        CoronaDischarge("i", "n", difficulty_level="EASY")
    with pytest.raises(TypeError):
        CoronaDischarge("i", "n", difficulty_level=3)
    with pytest.raises(ScenarioInvalid, match="CUSTOM"):
        BaseScenario.from_scenario_definition_dict(a_record(difficulty_level="CUSTOM"))


def test_id_and_name_are_not_empty():
    for identity, name in (("", "n"), ("i", "")):
        with pytest.raises(ValueError, match="not empty"):
            CoronaDischarge(identity, name)


def test_validation_names_what_later_changes_broke():
    scenario = a_scenario("CoronaDischarge")
    scenario.expected_duration_seconds = -1.0
    assert scenario.validate() == ["expected_duration_seconds: expected a number above 0"]
    scenario.expected_duration_seconds = 5.0
    scenario.version = 0
    assert "version" in scenario.validate()[0]


def test_a_record_of_another_family_is_not_what_was_asked_for():
    with pytest.raises(ScenarioInvalid, match="is no ArcingEvent"):
        ArcingEvent.from_scenario_definition_dict(a_record())


@pytest.mark.parametrize("content", [b"[]", b"{", b"\xff", b"[" * 100_000, b" " * (3 << 20)])
def test_files_that_hold_no_scenario_are_refused(tmp_path: Path, content: bytes):
    (tmp_path / "s.json").write_bytes(content)
    with pytest.raises(ScenarioInvalid, match=r"s\.json cannot be read"):
        BaseScenario.load_from_json_file(tmp_path / "s.json")


def test_the_duration_follows_from_the_details():
    assert WeatherEvent("i", "n").expected_duration_seconds == 3600
    assert WeatherEvent("i", "n", weather_event_type="high_wind").expected_duration_seconds == 7200
    assert InsulationBreakdown("i", "n", expected_duration_seconds=5.0).expected_duration_seconds == 7200
    assert CoronaDischarge("i", "n", expected_duration_seconds=5.0).expected_duration_seconds == 5


def test_stages_of_insulation_follow_each_other():
    scenario, orchestrator = a_scenario("InsulationBreakdown"), EnvironmentOrchestrator()
    scenario.setup_environment(orchestrator)
    stages = []
    for _ in range(4):
        scenario.update(50.0, orchestrator)
        labels = scenario.get_ground_truth_labels(orchestrator.get_state())
        stages.append((labels["event_subtype"], scenario.is_completed(orchestrator.get_state())))
    assert stages == [("stage_1", False), ("stage_1", False), ("stage_2", False), ("stage_2", True)]


def test_behaviour_is_family_parameters_and_duration():
    base = a_record()
    same = a_record(name="other", tags=["x"], version=9, scenario_definition_id="z", author=None)
    assert behaviour_hash(base) == behaviour_hash(same)
    parameters = json.loads(base["specific_params_json"])
    whole = json.dumps(parameters | {"emf_strength_v_m": 50}, indent=1)
    assert behaviour_hash(base) == behaviour_hash(a_record(specific_params_json=whole))
    others = [
        a_record(specific_params_json=json.dumps(parameters | {"emf_strength_v_m": 50.5})),
        a_record(expected_duration_seconds=1201.0),
        a_record(scenario_class_name="ArcingEvent"),
    ]
    assert len({behaviour_hash(one) for one in [base, *others]}) == 4


def test_a_registry_keeps_one_family_for_each_pair():
    registry = ScenarioRegistry()
    assert registry.register(CoronaDischarge) is registry.register(CoronaDischarge)
    other = type("CoronaDischarge", (ArcingEvent,), {"__module__": CoronaDischarge.__module__})
    with pytest.raises(ValueError, match="another scenario family"):
        registry.register(other)
    with pytest.raises(UnknownScenarioClass):
        registry.named("ArcingEvent")


def test_metadata_has_no_parameters():
    assert list(a_scenario("ArcingEvent").get_metadata()) == [name for name in FIELDS if name != "specific_params_json"]
    assert a_scenario("ArcingEvent").creation_timestamp_utc == CLOCK
