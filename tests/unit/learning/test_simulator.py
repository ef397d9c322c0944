"""The simulator: strength falls with distance and wind, humid air and confounders interfere, seeds decide."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders.learning_scenarios import CLOCK, a_scenario
from uqueue_worker.learning.avro.checks import sample_problems
from uqueue_worker.learning.avro.records import sample_record
from uqueue_worker.learning.simulator import EnvironmentOrchestrator, Imperfections, SensorUnit, Source, physics
from uqueue_worker.learning.simulator.orchestrator import EnvironmentState
from uqueue_worker.learning.simulator.runs import Simulator, derived_seed, run, stratified_times

IDEAL = Imperfections(noise_scale=0)
VOC, PM, MIC, HEAT, EMF = "U19_TFSGS", "U20_SPS30", "U27_SPU0410HR5H", "U26_Lepton35", "U29_TFEMF"
metres = st.floats(0, 100)


def looked_at(source: Source | None = None, **surroundings: float) -> tuple[dict[str, Any], dict[str, float]]:
    """Return what ideal sensors read of a source in still surroundings."""
    orchestrator = EnvironmentOrchestrator(seed=5)
    orchestrator.surround(**surroundings)
    if source is not None:
        orchestrator.place("one", source)
    return SensorUnit(image_pixels=(160, 120)).read(orchestrator.get_state(), CLOCK, IDEAL)


def a_state(**surroundings: float) -> EnvironmentState:
    orchestrator = EnvironmentOrchestrator(seed=5)
    orchestrator.surround(**surroundings)
    return orchestrator.get_state()


@given(metres, metres, st.floats(0, 60))
def test_nothing_grows_with_the_distance(one: float, other: float, wind: float):
    near, far = sorted((one, other))
    assert physics.dilution(near, wind) >= physics.dilution(far, wind) > 0
    assert physics.field_microteslas(50, near) >= physics.field_microteslas(50, far)
    assert physics.thermal_rise_celsius(500, near) >= physics.thermal_rise_celsius(500, far)
    assert physics.level_at(90, near) >= physics.level_at(90, far)


@given(metres, st.floats(0, 60), st.floats(0, 60))
def test_wind_dilutes(distance: float, one: float, other: float):
    calm, windy = sorted((one, other))
    assert physics.dilution(distance, calm) >= physics.dilution(distance, windy)
    assert physics.dilution(0, 0) == 1


def test_two_equal_sounds_are_three_decibels_louder():
    assert physics.summed_levels([60, 60]) == pytest.approx(60 + 10 * math.log10(2))
    assert physics.summed_levels([]) == 0


def test_a_part_per_billion_is_what_chemistry_says():
    assert physics.parts_per_billion("Phenol", 94.11) == pytest.approx(24.45)


def test_each_kind_of_source_shows_in_its_own_sensor():
    at = (3.0, 0.0, 0.0)
    quiet, _ = looked_at()
    smoke, _ = looked_at(Source(at, emissions_g_s={"Phenol": 8e-4, "PM2.5": 5e-3}))
    spark, _ = looked_at(Source(at, emf_v_m=1000, emf_frequency_hz=60, acoustic_db=90))
    hot, _ = looked_at(Source(at, heat_w=2000))
    phenol, fine = "voc_channel_4_phenol_ppb", "mass_concentration_pm2_5_micrograms_per_m3"
    assert smoke[VOC][phenol] > 20 * quiet[VOC][phenol]
    assert smoke[PM][fine] > 20 * quiet[PM][fine]
    assert smoke[EMF] == quiet[EMF]
    assert spark[EMF]["ac_field_strength_microteslas"] > 5 * quiet[EMF]["ac_field_strength_microteslas"]
    assert spark[EMF]["dominant_frequency_hz"] == 60
    assert spark[MIC]["sound_pressure_level_db"] > quiet[MIC]["sound_pressure_level_db"] + 20
    assert hot[HEAT]["derived_max_temp_celsius"] > quiet[HEAT]["derived_max_temp_celsius"] + 30
    assert hot[VOC] == quiet[VOC]


def test_humid_air_moves_gas_channels_and_hides_ozone():
    dry, humid = looked_at(relative_humidity_percent=50.0)[0][VOC], looked_at(relative_humidity_percent=95.0)[0][VOC]
    assert humid["voc_channel_7_general_ppb"] > 1.2 * dry["voc_channel_7_general_ppb"]
    assert physics.ozone_left(95) < 0.5 < physics.ozone_left(60) == 1
    corona = Source((2.0, 0.0, 0.0), emissions_g_s={"Ozone": 1e-3})
    shown = {}
    for humidity in (55.0, 95.0):
        with_it, without = (looked_at(one, relative_humidity_percent=humidity)[0][VOC] for one in (corona, None))
        shown[humidity] = with_it["voc_channel_8_general_ppb"] - without["voc_channel_8_general_ppb"]
    assert shown[95.0] < 0.7 * shown[55.0]


def test_confounders_look_like_events():
    calm, busy = looked_at(traffic=0.0, machinery=0.0)[0], looked_at(traffic=1.0, machinery=1.0)[0]
    for sensor, field in (
        (VOC, "voc_channel_7_general_ppb"),
        (PM, "mass_concentration_pm2_5_micrograms_per_m3"),
        (MIC, "sound_pressure_level_db"),
        (EMF, "ac_field_strength_microteslas"),
        (HEAT, "derived_max_temp_celsius"),
    ):
        assert busy[sensor][field] > calm[sensor][field] * 1.1


def test_noise_is_log_normal():
    unit, state = SensorUnit({VOC: "VOCSensorArray"}, seed=4), a_state()
    ideal = unit.read(state, CLOCK, IDEAL)[0][VOC]
    logs = []
    for _ in range(800):
        reading = unit.read(state, CLOCK)[0][VOC]
        logs.append(math.log(reading["voc_channel_7_general_ppb"] / ideal["voc_channel_7_general_ppb"]))
    mean = sum(logs) / len(logs)
    assert mean == pytest.approx(0, abs=0.02)
    assert math.sqrt(sum((one - mean) ** 2 for one in logs) / len(logs)) == pytest.approx(0.12, rel=0.1)


def test_sensors_drop_out_as_often_as_asked():
    unit, state = SensorUnit({PM: "ParticulateMatterSensor", "U21": "TempHumiditySensor"}), a_state()
    looks = [unit.read(state, CLOCK, Imperfections(dropout_probability=0.3)) for _ in range(600)]
    assert 130 < sum(records[PM] is None for records, _ in looks) < 230
    assert 130 < sum(not scalars for _, scalars in looks) < 230


def test_sensors_of_other_kinds_give_scalars_by_sensor_quantity_and_unit():
    records, scalars = looked_at()
    assert set(records) == {VOC, PM, MIC, "U28_SPU0410HR5H", HEAT, EMF}
    assert {"U21_SHT85__air_temperature_celsius", "U22_SHT85__relative_humidity_percent"} <= set(scalars)
    assert {name.split("__")[0] for name in scalars} == {
        "U21_SHT85",
        "U22_SHT85",
        "U23_BMP388",
        "U24_FT205",
        "U25_AS3935",
        "U30_BMI270",
    }
    assert SensorUnit({}).read(a_state(), CLOCK) == ({}, {})


def test_the_image_has_the_size_of_the_camera_and_its_hottest_pixel():
    heat = looked_at(Source((2.0, 3.0, 1.0), heat_w=3000))[0][HEAT]
    image = heat["thermal_image_celsius"]
    assert (len(image), len(image[0])) == (heat["image_height_pixels"], heat["image_width_pixels"]) == (120, 160)
    assert max(map(max, image)) == heat["derived_max_temp_celsius"]


def test_one_long_step_is_distributed_as_many_short_ones():
    moved = {}
    for steps in (1, 30):
        found = []
        for seed in range(400):
            orchestrator = EnvironmentOrchestrator(seed)
            first = orchestrator.get_state().surroundings.air_temperature_celsius
            for _ in range(steps):
                orchestrator.update(60.0 / steps)
            found.append((orchestrator.get_state().surroundings.air_temperature_celsius - first) ** 2)
        moved[steps] = sum(found) / len(found)
    assert moved[1] == pytest.approx(moved[30], rel=0.25)


def test_sample_times_are_one_in_each_part_of_the_duration():
    times = stratified_times(600.0, 50, seed=3)
    assert [int(time // 12) for time in times] == list(range(50))
    assert stratified_times(600.0, 50, seed=4) != times == stratified_times(600.0, 50, seed=3)
    assert stratified_times(600.0, 0, seed=3) == []


def a_run(seed: int) -> list[dict[str, Any]]:
    simulator = Simulator(EnvironmentOrchestrator(), SensorUnit(image_pixels=(8, 6)), 1.0)
    return list(run(a_scenario("ArcingEvent"), [1.0, 2.5, 30.0], seed, simulator))


def test_a_seed_decides_everything():
    assert a_run(1) == a_run(1)
    assert a_run(1)[0]["sensor_readings"] != a_run(2)[0]["sensor_readings"]
    assert derived_seed(1, "a") != derived_seed(1, "b")


@given(st.floats(-50, 60), st.floats(0, 100), st.floats(0, 60), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1e6))
def test_what_sensors_read_passes_the_value_checks(
    air: float, humidity: float, wind: float, traffic: float, machinery: float, heat: float
):
    orchestrator, unit = EnvironmentOrchestrator(seed=1), SensorUnit(image_pixels=(8, 6))
    orchestrator.surround(
        air_temperature_celsius=air,
        relative_humidity_percent=humidity,
        wind_speed_mps=wind,
        traffic=traffic,
        machinery=machinery,
    )
    orchestrator.place("all", Source((0, 0, 0), heat, {"Phenol": 1.0, "PM2.5": 10.0}, 1e5, 1e6, 160.0))
    readings, scalars = unit.read(orchestrator.get_state(), CLOCK, Imperfections(noise_scale=10))
    raw = {"timestamp_scenario_seconds": 0.0, "scenario_id": "s", "labels": {}, "sensor_readings": readings}
    record = sample_record(raw | {"sample_metadata": scalars}, seed=0, index=0, generated=CLOCK)
    assert sample_problems(record) == []
