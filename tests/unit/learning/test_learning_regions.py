"""Region spots: which scenarios are drawn, and what their variations are."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders.learning_scenarios import PARAMETERS, a_scenario
from builders.recording import Recorder
from uqueue_worker.learning.repository.memory import MemoryScenarioRepository
from uqueue_worker.learning.scenarios import BaseScenario, FamilyScenario, jittered
from uqueue_worker.learning.targeting.cycle import Cycle
from uqueue_worker.learning.targeting.regions import is_region, region_draws, region_variation, scenarios_of_samples

HUMIDITY = "sample_metadata.U21_SHT85__relative_humidity_percent"


def a_spot(members: dict[str, float], **details: Any) -> dict[str, Any]:
    """Return a region spot; members by raw sample id with their scores."""
    told = [{"raw_sample_id": name, "score": score} for name, score in members.items()]
    return {"weakness_id": "rg_misc_a", "type": "misclassified_region", "details": {"members": told, **details}}


def humid(value: float) -> dict[str, Any]:
    features = [{"feature_path": HUMIDITY, "importance_score": 1.0, "raw_value": value}]
    return {"sample_features_summary": {"method": "OCCLUSION", "top_n_features": features}}


ORIGIN = {name: f"scenario-{name}" for name in "abcde"}


def test_no_scenario_comes_again_before_all_were_drawn():
    spot = a_spot({"a": 0.1, "b": 5.0, "c": 1.0})
    drawn = region_draws(spot, 7, Cycle(), ORIGIN)
    assert len(drawn) == 7
    assert sorted(drawn[:3]) == sorted(drawn[3:6]) == ["scenario-a", "scenario-b", "scenario-c"]
    assert region_draws(spot, 4, Cycle(), ORIGIN) == drawn[:4]


def test_draws_are_in_proportion_to_the_scores():
    spot = a_spot({"a": 1.0, "b": 2.0, "c": 5.0})
    first = Counter(region_draws(spot, 1, Cycle(seed=seed), ORIGIN)[0] for seed in range(3000))
    for name, share in (("a", 1 / 8), ("b", 2 / 8), ("c", 5 / 8)):
        deviation = (share * (1 - share) / 3000) ** 0.5
        assert first[ORIGIN[name]] / 3000 == pytest.approx(share, abs=4 * deviation)


def test_samples_of_one_scenario_add_up():
    spot = a_spot({"a": 1.0, "b": 1.0, "c": 2.0})
    both = {**ORIGIN, "b": "scenario-a"}
    first = Counter(region_draws(spot, 1, Cycle(seed=seed), both)[0] for seed in range(2000))
    assert first["scenario-a"] / 2000 == pytest.approx(0.5, abs=0.05)
    assert len(region_draws(spot, 5, Cycle(), both)) == 5


@pytest.mark.parametrize(
    ("members", "scenario_of", "possible"),
    [
        ({"a": 1.0, "b": 1.0}, {"a": "scenario-a"}, {"scenario-a"}),
        ({"a": 0.0, "b": 1.0}, ORIGIN, {"scenario-b"}),
        ({"a": 0.0, "b": 0.0}, ORIGIN, {"scenario-a", "scenario-b"}),
        ({"a": 1.0}, {}, set()),
        ({}, ORIGIN, set()),
    ],
)
def test_only_members_that_have_a_scenario_and_weigh_something_count(
    members: dict[str, float], scenario_of: dict[str, str], possible: set[str]
):
    spot = a_spot(members)
    assert set(region_draws(spot, 6, Cycle(), scenario_of)) == possible
    assert is_region(spot) == bool(members)


def test_members_may_name_their_scenario_themselves():
    spot = a_spot({})
    spot["details"]["members"] = [{"raw_sample_id": "a", "score": 1.0, "original_scenario_id": "own"}]
    assert region_draws(spot, 2, Cycle(), ORIGIN) == ["own", "own"]


def test_other_runs_cycles_and_spots_draw_otherwise():
    members = dict.fromkeys("abcde", 1.0)
    spot = a_spot(members)
    other = {**spot, "weakness_id": "rg_misc_b"}
    drawn = [
        tuple(region_draws(one, 20, cycle, ORIGIN))
        for one, cycle in ((spot, Cycle()), (spot, Cycle(seed=1)), (spot, Cycle(number=1)), (other, Cycle()))
    ]
    assert len(set(drawn)) == 4


def test_scenarios_of_the_samples_of_feedback():
    samples = [
        {"raw_sample_id": "a", "original_scenario_id": "s"},
        {"raw_sample_id": "b", "original_scenario_id": None},
        {"raw_sample_id": None, "original_scenario_id": "s"},
        {},
    ]
    assert scenarios_of_samples(samples) == {"a": "s"}


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(list(PARAMETERS)), st.integers(0, 5), st.sampled_from([0.02, 0.05, 0.5]))
def test_a_variation_is_the_jitter_of_its_stream_and_nothing_more(family: str, index: int, sigma: float):
    """The repository adds nothing random of its own, whichever family it is."""
    repository = MemoryScenarioRepository()
    scenario = a_scenario(family)
    repository.save_scenario_definition(scenario_def=scenario.to_scenario_definition_dict())
    base = repository.get_scenario_by_id(scenario.scenario_id)
    assert base is not None
    cycle = Cycle("run-1", 2, seed=7, sigma=sigma)
    spot = a_spot({"a": 1.0}, **humid(90.0))
    made = region_variation(spot, base, index, cycle, repository, {"sensor_id": "s", "sensor_type": "EMFSensor"})
    assert made is not None
    built, original = (BaseScenario.from_scenario_definition_dict(one) for one in (made, base))
    assert isinstance(built, FamilyScenario)
    assert isinstance(original, FamilyScenario)
    focus = "environment.relative_humidity_percent"
    expected = [
        jittered(original.parameters, seed=cycle.stream("rg_misc_a", index), sigma=sigma, focus=one).to_dict()
        for one in (focus, "target_relative_humidity_percent", "max_humidity_percent", "end_avg_humidity_percent", None)
    ]
    assert built.parameters.to_dict() in expected
    assert made.scenario_definition_id.endswith(f"_alm_var_rg_misc_a_c2_{index}")
    assert made.related_scenario_ids[0] == base.scenario_definition_id
    assert "sensor_EMFSensor" in made.tags
    assert (
        region_variation(spot, base, index, cycle, repository, {"sensor_id": "s", "sensor_type": "EMFSensor"}) == made
    )
    assert repository.get_scenario_by_id(scenario.scenario_id) == base


def test_the_parameter_behind_the_top_feature_moves_twice_as_far():
    base = a_scenario("CoronaDischarge", environment={"relative_humidity_percent": 55.0}).to_definition()
    repository = Recorder(create_scenario_variation=lambda **told: told["param_modifications"]["specific_params"])
    moved = []
    for spot in (a_spot({"a": 1.0}, **humid(90.0)), a_spot({"a": 1.0})):
        cycles = [Cycle(seed=seed) for seed in range(50)]
        found: list[Any] = [region_variation(spot, base, 0, cycle, repository) for cycle in cycles]
        moved.append([one["environment"]["relative_humidity_percent"] - 55.0 for one in found])
    for focused, plain in zip(*moved, strict=True):
        assert focused == pytest.approx(2 * plain)


def test_without_spread_the_scenario_itself_is_used():
    base = a_scenario("CoronaDischarge").to_definition()
    assert region_variation(a_spot({"a": 1.0}), base, 0, Cycle(sigma=0.0), Recorder()) is base


def test_two_cycles_make_different_variations_of_one_scenario():
    repository = MemoryScenarioRepository()
    base = a_scenario("ArcingEvent").to_definition()
    repository.save_scenario_definition(scenario_def=base)
    spot = a_spot({"a": 1.0})
    made = [
        region_variation(spot, base, index, Cycle("run", number), repository) for number in (0, 1) for index in (0, 1)
    ]
    assert len({one.specific_params_json for one in made if one is not None}) == 4
    assert len({one.scenario_definition_id for one in made if one is not None}) == 4
