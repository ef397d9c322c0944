"""The data generator: samples of whole scenarios, balanced, at the edges, in sequences, and into files."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders.learning_scenarios import PARAMETERS, a_generator, a_scenario, raw_samples
from uqueue_worker.learning.avro import read_samples
from uqueue_worker.learning.errors import (
    GenerationFailed,
    ScenarioInvalid,
    ScenarioParameterError,
    UnknownScenarioClass,
)
from uqueue_worker.learning.generator import MLDataGenerator
from uqueue_worker.learning.scenarios import ArcingEvent, CoronaDischarge

FAMILIES = list(PARAMETERS)


class ShortArc(ArcingEvent):
    """An arc that says it lasts a minute and ends after a quarter of it."""

    def is_completed(self, state: Any) -> bool:
        return self.current_time_seconds > 15


class Empty(ArcingEvent):
    """An arc that is over before its first sample."""

    def is_completed(self, state: Any) -> bool:
        return True


class Broken(ArcingEvent):
    """An arc whose code is wrong."""

    def update(self, dt: float, orchestrator: Any) -> None:
        raise ZeroDivisionError("in the family")


def generated(folder: Path, scenarios: list[Any], count: Any, **options: Any) -> list[dict[str, Any]]:
    samples = a_generator(folder).generate_training_dataset(scenarios=scenarios, samples_per_scenario=count, **options)
    assert isinstance(samples, list)
    return samples


def test_parameters_have_the_names_of_the_interface():
    told = inspect.signature(MLDataGenerator.generate_training_dataset).parameters
    assert list(told)[1:] == [
        "scenarios",
        "samples_per_scenario",
        "output_format",
        "dataset_name",
        "imperfection_settings",
        "time_step_seconds",
        "seed",
    ]
    assert told["output_format"].default == "list_of_dicts"
    assert list(inspect.signature(MLDataGenerator.export).parameters)[1:] == [
        "samples",
        "output_format",
        "dataset_name",
    ]
    assert MLDataGenerator._export_data is MLDataGenerator.export
    assert MLDataGenerator.data_generator_version == "0.1.0"
    assert MLDataGenerator().simulation_engine_version == "0.0.0-unknown"


def test_samples_are_spread_over_the_whole_duration(tmp_path: Path):
    for family in FAMILIES:
        scenario = a_scenario(family)
        samples = generated(tmp_path, [scenario], 10)
        tenth = scenario.expected_duration_seconds / 10
        assert [int(one["timestamp_scenario_seconds"] // tenth) for one in samples] == list(range(10))


def test_scenarios_definitions_and_mappings_give_the_same(tmp_path: Path):
    scenario = a_scenario("CoronaDischarge")
    forms = [scenario, scenario.to_definition(), scenario.to_scenario_definition_dict()]
    one, two, three = (generated(tmp_path, [form], 4) for form in forms)
    assert one == two == three


def test_samples_of_a_definition_carry_its_id(tmp_path: Path):
    record = a_scenario("CoronaDischarge").to_scenario_definition_dict("the-definition")
    assert {one["scenario_id"] for one in generated(tmp_path, [record], 2)} == {"the-definition"}


def test_a_seed_decides_everything(tmp_path: Path):
    scenarios = [a_scenario("ArcingEvent"), a_scenario("CellulosePyrolysis")]
    base = generated(tmp_path, scenarios, [2, 3], seed=5)
    assert generated(tmp_path, scenarios, [2, 3], seed=5) == base
    assert generated(tmp_path, scenarios, [2, 3], seed=6) != base
    assert [one["scenario_id"] for one in base] == ["arcingevent-1"] * 2 + ["cellulosepyrolysis-1"] * 3


def test_the_same_scenario_twice_gives_other_samples(tmp_path: Path):
    samples = generated(tmp_path, [a_scenario("ArcingEvent")] * 2, 1)
    assert samples[0]["sensor_readings"] != samples[1]["sensor_readings"]


def test_the_same_samples_give_the_same_file(tmp_path: Path):
    files = []
    for name in ("one", "two"):
        generator = a_generator(tmp_path / name)
        path = generator.generate_training_dataset(
            scenarios=[a_scenario("ArcingEvent")], samples_per_scenario=3, output_format="avro", dataset_name="d"
        )
        files.append(Path(str(path)).read_bytes())
    assert files[0] == files[1]
    assert len({one["sample_id"] for one in read_samples(str(path))}) == 3


@pytest.mark.parametrize("count", [[1], [1, 2, 3], -1, True, 1.5, "3", [1, None]])
def test_counts_that_make_no_sense_are_refused(tmp_path: Path, count: Any):
    with pytest.raises((ValueError, TypeError)):
        generated(tmp_path, [a_scenario("ArcingEvent")] * 2, count)


def test_settings_that_make_no_sense_are_refused(tmp_path: Path):
    scenarios = [a_scenario("ArcingEvent")]
    with pytest.raises(ValueError, match=r"imperfection_settings: noise_scale.*; colour"):
        generated(tmp_path, scenarios, 1, imperfection_settings={"noise_scale": -1, "colour": 1})
    with pytest.raises(ValueError, match="time step"):
        generated(tmp_path, scenarios, 1, time_step_seconds=0)
    with pytest.raises(ValueError, match="no output format 'exe'; there are list_of_dicts, avro"):
        generated(tmp_path, scenarios, 1, output_format="exe")


def test_imperfections_reach_the_sensors(tmp_path: Path):
    samples = generated(tmp_path, [a_scenario("ArcingEvent")], 3, imperfection_settings={"dropout_probability": 1.0})
    assert all(reading is None for one in samples for reading in one["sensor_readings"].values())


def test_a_scenario_that_ends_early_is_run_again(tmp_path: Path):
    generator = a_generator(tmp_path)
    samples = generator.generate_training_dataset(scenarios=[ShortArc("s", "short")], samples_per_scenario=40)
    assert samples is not None
    (report,) = generator.reports
    assert (report.requested, report.generated, len(samples)) == (40, 40, 40)
    assert report.runs > 1
    assert max(one["timestamp_scenario_seconds"] for one in samples) <= 15
    assert len({one["sample_metadata"]["simulation_seed"] for one in samples}) == report.runs
    written = generator.export(samples, "avro", "short")
    assert len(read_samples(str(written))) == 40


def test_what_never_comes_is_reported(tmp_path: Path):
    generator = a_generator(tmp_path)
    assert generator.generate_training_dataset(scenarios=[Empty("e", "empty")], samples_per_scenario=5) == []
    (report,) = generator.reports
    assert (report.requested, report.generated, report.runs) == (5, 0, 1)


def test_a_simulation_that_fails_gives_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    generator = a_generator(tmp_path)
    assert generator.generate_training_dataset(scenarios=[Broken("b", "broken")], samples_per_scenario=5) is None
    assert "scenario b stopped with ZeroDivisionError: in the family" in capsys.readouterr().out


def test_scenarios_that_cannot_be_built_are_refused_before_anything_runs(tmp_path: Path):
    record = a_scenario("ArcingEvent").to_scenario_definition_dict()
    with pytest.raises(UnknownScenarioClass):
        generated(tmp_path, [record | {"scenario_class_module": "os", "scenario_class_name": "system"}], 1)
    with pytest.raises(ScenarioParameterError):
        generated(tmp_path, [record | {"specific_params_json": '{"volts": 1}'}], 1)
    with pytest.raises(ScenarioInvalid, match="expected_duration_seconds"):
        generated(tmp_path, [a_scenario("ArcingEvent", expected_duration_seconds=-60.0)], 1)


@pytest.mark.parametrize(
    "name", ["../evil", "a/b", "/tmp/x", "..", "", ".hidden", "a\\b", "a\x00b", "x" * 201, "a..b", "é", "a\n"]
)
@pytest.mark.parametrize("output_format", ["avro", "list_of_dicts"])
def test_names_that_are_paths_are_refused(tmp_path: Path, name: str, output_format: str):
    generator = a_generator(tmp_path / "out")
    with pytest.raises(GenerationFailed, match="no path"):
        generator.export([], output_format, name)
    with pytest.raises(GenerationFailed, match="no path"):
        generator.generate_training_dataset([], 1, output_format, name)
    assert list(tmp_path.iterdir()) == []


def test_an_export_that_fails_gives_none_and_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "out").write_text("a file where the folder should be")
    assert a_generator(tmp_path / "out").export(raw_samples(tmp_path), "avro", "d") is None
    assert a_generator(tmp_path).export([{"no": "sample"}], "avro", "d") is None
    bad = raw_samples(tmp_path)
    bad[0]["sensor_readings"]["U20_SPS30"]["mass_concentration_pm1_0_micrograms_per_m3"] = -1.0
    assert a_generator(tmp_path).export(bad, "avro", "d") is None
    assert capsys.readouterr().out.count("export failed") == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d.avro.rejected.jsonl", "out"]


def test_ids_are_uuids_of_the_fourth_version_and_no_two_are_equal(tmp_path: Path):
    raw = raw_samples(tmp_path)
    exported = a_generator(tmp_path).export(raw + raw, "list_of_dicts", "d")
    ids = [one["sample_id"] for one in exported or []]
    assert len(set(ids)) == len(ids) == 12
    assert {one[14] for one in ids} == {"4"}
    again = a_generator(tmp_path, seed=1).export(raw, "list_of_dicts", "d")
    assert not {one["sample_id"] for one in again or []} & set(ids)


def an_entry(value: str, needed: int) -> dict[str, Any]:
    scenario = a_scenario("InsulationBreakdown")
    return {
        "scenario": scenario,
        "target_label_key": "event_subtype",
        "target_label_value": value,
        "samples_needed": needed,
    }


def test_a_balanced_data_set_has_what_was_asked_for(tmp_path: Path):
    generator = a_generator(tmp_path)
    entries = [an_entry("stage_1", 12), an_entry("stage_2", 12)]
    samples = generator.generate_balanced_dataset(entries, lambda sample: sample["labels"]["event_subtype"])
    assert [one["extracted_class_label"] for one in samples] == ["stage_1"] * 12 + ["stage_2"] * 12
    times = [one["timestamp_scenario_seconds"] for one in samples[12:]]
    assert min(times) >= 120
    assert max(times) > 150  # drawn from all of the stage and not from its beginning
    assert [(one.requested, one.generated) for one in generator.reports] == [(12, 12), (12, 12)]


def test_samples_beyond_those_needed_are_left_out_by_chance(tmp_path: Path):
    times = []
    for seed in range(60):
        generator = a_generator(tmp_path, seed=seed)
        (sample,) = generator.generate_balanced_dataset([an_entry("stage_2", 1)], lambda sample: "x")
        times.append(sample["timestamp_scenario_seconds"])
    assert sum(times) / len(times) == pytest.approx(150, abs=4 * 17.3 / 60**0.5)  # the middle of the stage


def test_a_label_that_never_comes_ends_at_the_limit(tmp_path: Path):
    generator = a_generator(tmp_path)
    assert generator.generate_balanced_dataset([an_entry("stage_9", 5)], lambda sample: None, 40) == []
    assert generator.reports[0].generated == 0


def test_edge_cases_are_modified_and_say_how(tmp_path: Path):
    def louder(definition: Any, random: Any) -> Any:
        return definition.replace(specific_params_json={"acoustic_level_db": 60 + random.random()})

    generator = a_generator(tmp_path)
    bases = [a_scenario("CoronaDischarge"), a_scenario("CoronaDischarge", "corona-2")]
    strategies = {"humid": {"environment": {"relative_humidity_percent": 97.0}}, "loud": louder}
    samples = generator.generate_edge_cases(bases, strategies, 10, samples_per_modified_scenario=4)
    told = [(one["sample_metadata"]["edge_case_strategy"], one["scenario_id"]) for one in samples]
    first, second = ["coronadischarge-1"], ["corona-2"]
    assert [name for name, _ in told] == ["humid"] * 10 + ["loud"] * 10
    assert [identity for _, identity in told] == (first * 4 + second * 4 + first * 2) * 2
    humidity = [one["sample_metadata"]["U21_SHT85__relative_humidity_percent"] for one in samples[:10]]
    assert min(humidity) > 88
    with pytest.raises(ScenarioParameterError):
        generator.generate_edge_cases(bases, {"wrong": {"fog": 1}}, 1)
    with pytest.raises(ValueError, match="a base scenario"):
        generator.generate_edge_cases([], strategies, 1)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 12), st.integers(0, 11), st.integers(0, 25))
def test_windows_are_as_many_as_the_formula_says(length: int, overlap: int, limit: int):
    generator = a_generator(Path("never-written"))
    if overlap >= length:
        with pytest.raises(ValueError, match="overlap"):
            generator.generate_temporal_sequences(a_scenario("ArcingEvent"), length, overlap, limit)
        return
    samples = generator.generate_temporal_sequences(a_scenario("ArcingEvent"), length, overlap, limit)
    windows = 1 + (limit - length) // (length - overlap) if limit >= length else 0
    assert len(samples) == windows * length
    for place, sample in enumerate(samples):
        told = sample["sample_metadata"]
        assert told["sequence_id"] == f"arcingevent-1_seq{place // length}"
        assert (told["sequence_index"], told["sequence_total_length"]) == (place % length, length)
        assert sample["timestamp_scenario_seconds"] == pytest.approx(
            place // length * (length - overlap) + place % length
        )


def test_a_sequence_ends_with_its_scenario_and_can_be_written(tmp_path: Path):
    generator = a_generator(tmp_path)
    samples = generator.generate_temporal_sequences(a_scenario("ArcingEvent"), 20, 10)
    assert len(samples) == 5 * 20  # a minute, one sample a second
    assert len(read_samples(str(generator.export(samples, "avro", "windows")))) == 100


def test_statistics_are_those_of_the_samples(tmp_path: Path):
    raw = raw_samples(tmp_path)
    raw[0]["sensor_readings"]["U20_SPS30"] = None
    generator = a_generator(tmp_path)
    found = generator.compute_dataset_statistics(raw)
    assert found["n_samples"] == 6
    assert found["label_distribution"] == {"corona_discharge": 3, "early_combustion": 3}
    assert found["label_shares"]["corona_discharge"] == 0.5
    assert found["anomaly_share"] == 1
    assert found["scenarios"] == {"coronadischarge-1": 3, "earlycombustion-1": 3}
    assert found["sensors"]["U20_SPS30"] == {"readings": 5, "missing_share": pytest.approx(1 / 6)}
    column = found["values"]["U27_SPU0410HR5H.sound_pressure_level_db"]
    levels = [one["sensor_readings"]["U27_SPU0410HR5H"]["sound_pressure_level_db"] for one in raw]
    assert column["mean"] == pytest.approx(sum(levels) / 6)
    assert (column["count"], column["min"], column["max"]) == (6, min(levels), max(levels))
    exported = generator.export(raw, "list_of_dicts", "d")
    assert exported is not None
    assert generator.compute_dataset_statistics(exported) == found
    assert generator.compute_dataset_statistics([])["label_distribution"] == {}
    assert generator.compute_dataset_statistics(raw, "colour")["label_distribution"] == {None: 6}


def test_a_scenario_of_ones_own_needs_no_registration_to_run_here(tmp_path: Path):
    class Louder(CoronaDischarge):
        """A corona of one's own."""

    assert len(generated(tmp_path, [Louder("l", "louder")], 2)) == 2
