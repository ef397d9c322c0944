"""The table of levers is true of the simulator, and the forward response is what the simulator gives on average."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from builders.learning_scenarios import a_generator, a_scenario
from uqueue_worker.learning.crafting.forward import ForwardModel, Meter, SimulatorSpent
from uqueue_worker.learning.crafting.lever_table import DISTANCES, LEVERS, Lever
from uqueue_worker.learning.crafting.levers import focus_parameter, levers_of, weak_features
from uqueue_worker.learning.crafting.placing import location_at, ordinary_parameters, placed, with_surroundings
from uqueue_worker.learning.errors import ScenarioParameterError
from uqueue_worker.learning.scenarios import REGISTRY, FamilyScenario, numeric_parameters

READINGS = "sensor_readings_map.readings"
VOC = f"{READINGS}.U19_TFSGS.voc_channel_"
PATHS = [
    f"{VOC}1_formaldehyde_ppb",
    f"{VOC}2_acetaldehyde_ppb",
    f"{VOC}4_phenol_ppb",
    f"{VOC}6_guaiacol_ppb",
    f"{VOC}7_general_ppb",
    f"{VOC}8_general_ppb",
    f"{READINGS}.U20_SPS30.mass_concentration_pm2_5_micrograms_per_m3",
    f"{READINGS}.U20_SPS30.mass_concentration_pm10_0_micrograms_per_m3",
    f"{READINGS}.U29_TFEMF.ac_field_strength_microteslas",
    f"{READINGS}.U27_SPU0410HR5H.sound_pressure_level_db",
    f"{READINGS}.U26_Lepton35.thermal_image_celsius|max",
    f"{READINGS}.U26_Lepton35.derived_delta_temp_celsius_baseline",
    "sample_metadata.U21_SHT85__air_temperature_celsius",
    "sample_metadata.U21_SHT85__relative_humidity_percent",
    "sample_metadata.U24_FT205__wind_speed_mps",
]
SUBSTANCES = dict.fromkeys(("CH2O", "Acetaldehyde", "Phenol", "Guaiacol", "PM2.5"), 0.0005)
GIVEN: dict[str, dict[str, Any]] = {
    "CellulosePyrolysis": {"base_emission_rates_g_s": SUBSTANCES},
    "LigninDecomposition": {"base_emission_rates_g_s": SUBSTANCES},
    "EquipmentOverheat": {"offgas_profile_g_s": {"VOC": 0.0005, "Phenol": 0.0003}},
}
EVERY = [(pattern, lever) for pattern, levers in LEVERS for lever in levers]


def family_named(name: str) -> type[FamilyScenario]:
    family = REGISTRY.named(name)
    assert issubclass(family, FamilyScenario)
    return family


def path_of(pattern: re.Pattern[str]) -> str:
    return next(path for path in PATHS if pattern.search(path.rsplit(".", 1)[1].split("|")[0]))


def measured(family: type[FamilyScenario], lever: Lever, path: str) -> float:
    """Return what the lever's whole range does to a reading of an ordinary scenario that gives off something."""
    parameters = ordinary_parameters(family)
    if family.__name__ in GIVEN:
        parameters = with_surroundings(family, {**parameters.to_dict(), **GIVEN[family.__name__]})
    if lever.is_distance:
        ends = [placed(parameters, {lever.parameter: location_at(one, 0.0, 0.5)}) for one in DISTANCES]
    else:
        number = numeric_parameters(parameters)[".".join(lever.parameter)]
        ends = [placed(parameters, {lever.parameter: one}) for one in (number.usual_low, number.usual_high)]
    low, high = (ForwardModel().response(family, end, [path])[0] for end in ends)
    return float(high - low)


def test_every_lever_does_what_the_table_says():
    for pattern, lever in EVERY:
        found = measured(family_named(lever.family or "CoronaDischarge"), lever, path_of(pattern))
        assert found == pytest.approx(lever.direction * lever.gain, rel=0.02), (pattern.pattern, lever)


def test_levers_of_every_family_never_move_against_their_direction():
    for family in REGISTRY:
        assert issubclass(family, FamilyScenario)
        for path in PATHS:
            for lever in levers_of(path, family):
                assert lever.direction * measured(family, lever, path) > -1e-3, (family.__name__, path, lever)


def test_the_minimum_rules_are_there():
    asked = {
        "4_phenol_ppb": ("LigninDecomposition", ["base_emission_rates_g_s", "location"]),
        "6_guaiacol_ppb": ("LigninDecomposition", ["base_emission_rates_g_s", "location"]),
        "1_formaldehyde_ppb": ("CellulosePyrolysis", ["base_emission_rates_g_s", "peak_intensity"]),
        "2_acetaldehyde_ppb": ("CellulosePyrolysis", ["base_emission_rates_g_s", "peak_intensity"]),
        "pm2_5_mic": ("EarlyCombustion", ["chemical_emission_rates_g_s"]),
        "pm10_0_mic": ("EarlyCombustion", ["chemical_emission_rates_g_s"]),
        "|max": ("EquipmentOverheat", ["max_heat_w", "environment", "location"]),
        "delta_temp": ("EquipmentOverheat", ["max_heat_w", "location"]),
        "ac_field": ("ArcingEvent", ["base_intensity_emf_v_m", "location"]),
        "sound": ("ArcingEvent", ["base_intensity_acoustic_db"]),
        "relative_humidity": ("CoronaDischarge", ["environment"]),
        "wind_speed": ("CoronaDischarge", ["environment"]),
    }
    for part, (family, wanted) in asked.items():
        path = next(one for one in PATHS if part in one)
        found = [lever.parameter[0] for lever in levers_of(path, family_named(family))]
        assert [one for one in found if one in wanted][: len(wanted)] == wanted, part
    baseline = family_named("BaselineOperation")
    assert focus_parameter(PATHS[6], a_scenario("BaselineOperation")) == "environment.traffic"
    assert [".".join(one.parameter) for one in levers_of(PATHS[9], baseline)] == [
        "environment.machinery",
        "wind_speed_mps",
    ]
    assert focus_parameter("sample_metadata.U30_BMI270__tilt", a_scenario("ArcingEvent")) is None


def test_the_forward_response_is_the_mean_of_many_samples(tmp_path: Any):
    scenario = a_scenario("CoronaDischarge", environment={"wind_speed_mps": 2.0, "traffic": 0.3})
    samples = a_generator(tmp_path).generate_training_dataset(scenarios=[scenario], samples_per_scenario=400, seed=3)
    assert isinstance(samples, list)
    levels = [one["sensor_readings"]["U27_SPU0410HR5H"]["sound_pressure_level_db"] for one in samples]
    warmth = [one["sample_metadata"]["U21_SHT85__air_temperature_celsius"] for one in samples]
    ozone = [one["sensor_readings"]["U19_TFSGS"]["voc_channel_8_general_ppb"] for one in samples]
    found = ForwardModel().response(type(scenario), scenario.parameters, [PATHS[9], PATHS[12], PATHS[5]])
    assert found[0] == pytest.approx(np.median(levels), abs=0.5)
    assert found[1] == pytest.approx(np.mean(warmth), abs=0.15)
    assert found[2] == pytest.approx(np.median(ozone), rel=0.05)


def test_what_the_simulator_does_not_give_is_nan():
    scenario = a_scenario("ArcingEvent")
    paths = [
        f"{READINGS}.NOBODY.x",
        f"{READINGS}.U26_Lepton35.thermal_image_celsius",
        f"{READINGS}.U26_Lepton35.lens_type",
        f"{READINGS}.U29_TFEMF.base_data[3]",
        "sample_metadata.nothing",
        PATHS[8],
    ]
    found = ForwardModel().response(type(scenario), scenario.parameters, paths)
    assert np.isnan(found).tolist() == [True] * 5 + [False]


def test_a_meter_stops_after_its_calls_and_at_its_deadline():
    scenario = a_scenario("ArcingEvent")
    meter = Meter(ForwardModel(), 2, 100.0)
    for _ in range(2):
        meter.response(type(scenario), scenario.parameters, [PATHS[8]])
    with pytest.raises(SimulatorSpent):
        meter.response(type(scenario), scenario.parameters, [PATHS[8]])
    times = iter([0.0, 1.0, 5.0])
    late = Meter(ForwardModel(), 100, 5.0, clock=lambda: next(times))
    late.response(type(scenario), scenario.parameters, [PATHS[8]])
    with pytest.raises(SimulatorSpent):
        late.response(type(scenario), scenario.parameters, [PATHS[8]])


def test_placing_makes_levels_settles_pairs_and_refuses_what_is_not_there():
    overheat = ordinary_parameters(family_named("EquipmentOverheat"))
    assert placed(overheat, {("start_heat_w",): 1500.0}).max_heat_w == 1500.0
    assert placed(overheat, {("max_heat_w",): 50.0}).start_heat_w == 50.0
    assert placed(overheat, {("offgas_profile_g_s", "Phenol"): 0.1}).offgas_profile_g_s == {"Phenol": 0.1}
    breakdown = ordinary_parameters(family_named("InsulationBreakdown"))
    assert placed(breakdown, {("stage_signatures", "1", "thermal_w"): 7.0}).stage_signatures[1].thermal_w == 7.0
    for path in (("nothing",), ("stage_signatures", "9", "thermal_w"), ("max_heat_w", "x"), ("location", "x")):
        with pytest.raises(ScenarioParameterError):
            placed(overheat if path[0] != "stage_signatures" else breakdown, {path: 1.0})
    assert np.linalg.norm(location_at(3.0, 2.0, 1.0)) == pytest.approx(3.0)
    assert location_at(1.0, 0.0, 5.0) == [0.0, 0.0, 1.0]


@pytest.mark.parametrize(
    ("features", "kept"),
    [
        ([], []),
        ([{"feature_path": PATHS[2], "raw_value": 1.9}], [(PATHS[2], 1.9)]),
        ([{"feature_path": "a b", "raw_value": 1.9}, {"feature_path": PATHS[2], "raw_value": None}], []),
        ([{"feature_path": PATHS[2], "raw_value": True}, {"feature_path": PATHS[2], "raw_value": float("nan")}], []),
        (["text", {"raw_value": 1}, {"feature_path": 3, "raw_value": 1}], []),
    ],
)
def test_only_features_with_a_number_count(features: list[Any], kept: list[tuple[str, float]]):
    found = weak_features({"method": "API", "top_n_features": features})
    assert [(one.path, one.value) for one in found] == kept
