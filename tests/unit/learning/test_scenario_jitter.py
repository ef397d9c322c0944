"""Jitter: near the base, within limits, the same for the same seed, and no other label."""

from __future__ import annotations

import statistics
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field

from builders.learning_scenarios import PARAMETERS, a_scenario
from uqueue_worker.learning.scenarios import jitter_seed, jittered, numeric_parameters
from uqueue_worker.learning.scenarios.parameters import Parameters

FAMILIES = list(PARAMETERS)
FIXED = {"weather_event_type", "event_type", "season_name", "equipment_states"}


class Mixed(Parameters):
    """Kinds that no family has."""

    whole: int = Field(5, ge=0, le=10)
    choice: Literal["a", "b", "c"] = "a"
    maybe: float | None = Field(None, ge=0, le=1)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_number_of_every_family_has_a_range(family: str):
    for name, number in numeric_parameters(a_scenario(family).parameters).items():
        assert number.low <= number.usual_low < number.usual_high <= number.high, name
        assert number.low <= number.value <= number.high, name


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(FAMILIES), st.integers(0, 2**64 - 1), st.sampled_from([0.0, 0.05, 0.3, 5.0]))
def test_jittered_parameters_are_those_of_the_family(family: str, seed: int, sigma: float):
    scenario = a_scenario(family)
    base = scenario.parameters
    before = base.to_dict()
    found = jittered(base, seed=seed, sigma=sigma)
    assert jittered(base, seed=seed, sigma=sigma) == found
    assert base.to_dict() == before
    assert type(scenario).read_parameters(found.to_dict()) == found
    assert {name: before[name] for name in FIXED & before.keys()} == {
        name: value for name, value in found.to_dict().items() if name in FIXED
    }
    if sigma == 0:
        assert found == base
    else:
        assert found != base


def test_the_deviation_is_sigma_times_the_usual_range():
    base = a_scenario("CoronaDischarge", environment={"air_temperature_celsius": 16.5}).parameters
    moved = [jittered(base, seed=seed, sigma=0.05).environment.air_temperature_celsius - 16.5 for seed in range(1500)]
    assert statistics.mean(moved) == pytest.approx(0, abs=4 * 2.15 / 1500**0.5)
    assert statistics.stdev(moved) == pytest.approx(0.05 * 43, rel=0.08)


def test_the_focus_moves_twice_as_far_with_the_same_draw():
    base = a_scenario("CoronaDischarge").parameters
    for path, read in (("emf_strength_v_m", lambda p: p.emf_strength_v_m), ("location", lambda p: p.location[0])):
        near = read(jittered(base, seed=3, sigma=0.01)) - read(base)
        far = read(jittered(base, seed=3, sigma=0.01, focus=path)) - read(base)
        assert far == pytest.approx(2 * near)
    with_axis = jittered(base, seed=3, sigma=0.01, focus="location.0")
    assert with_axis == jittered(base, seed=3, sigma=0.01, focus="location")


def test_components_of_a_location_move_together():
    base = a_scenario("CellulosePyrolysis").parameters
    for seed in range(20):
        moved = jittered(base, seed=seed, sigma=0.01).location
        shares = [(new - old) / span for new, old, span in zip(moved, base.location, (25, 25, 5), strict=True)]
        assert shares == pytest.approx([shares[0]] * 3)


def test_fixed_paths_stay_and_leave_the_others_as_they_were():
    base = a_scenario("FirePrecursorCombo").parameters
    free = jittered(base, seed=8).to_dict()
    held = jittered(base, seed=8, fixed=["heat_source.location", "chemical_source"]).to_dict()
    assert held["chemical_source"] == base.to_dict()["chemical_source"]
    assert held["heat_source"]["location"] == base.to_dict()["heat_source"]["location"]
    free["heat_source"].pop("location")
    held["heat_source"].pop("location")
    assert held["heat_source"] == free["heat_source"]


def test_a_name_that_another_begins_with_is_not_it():
    base = a_scenario("CoronaDischarge").parameters
    assert jittered(base, seed=1, fixed=["emf"]) == jittered(base, seed=1)


def test_pairs_stay_in_order_around_what_is_fixed():
    base = a_scenario("DiurnalCycle", min_temp_celsius=20.0, max_temp_celsius=20.5).parameters
    for seed in range(40):
        held = jittered(base, seed=seed, sigma=1.0, fixed=["max_temp_celsius"])
        assert held.min_temp_celsius <= held.max_temp_celsius == 20.5
        held = jittered(base, seed=seed, sigma=1.0, fixed=["min_temp_celsius"])
        assert held.max_temp_celsius >= held.min_temp_celsius == 20.0


def test_a_cold_snap_stays_one():
    base = a_scenario("WeatherEvent", temperature_peak_delta_c=-0.5).parameters
    assert all(jittered(base, seed=seed, sigma=1.0).temperature_peak_delta_c < 0 for seed in range(40))


def test_choices_switch_one_time_in_twenty_and_integers_stay_whole():
    base = Mixed()
    found = [jittered(base, seed=seed, sigma=0.2) for seed in range(2000)]
    switched = [one.choice for one in found if one.choice != "a"]
    assert 60 < len(switched) < 145
    assert set(switched) == {"b", "c"}
    assert {type(one.whole) for one in found} == {int}
    assert set(range(11)) >= {one.whole for one in found} > {4, 5, 6}
    assert {one.maybe for one in found} == {None}


def test_the_seed_depends_on_run_cycle_spot_and_index():
    parts: list[Any] = [(0, 1, "rg_1", 0), (1, 1, "rg_1", 0), (0, 2, "rg_1", 0), (0, 1, "rg_2", 0), (0, 1, "rg_1", 1)]
    seeds = [jitter_seed(*part) for part in parts]
    assert len(set(seeds)) == 5
    assert all(0 <= seed < 2**64 for seed in seeds)
    assert jitter_seed(0, 1, "rg_1", 0) == seeds[0]


def test_what_makes_no_sense_is_refused():
    base = a_scenario("CoronaDischarge").parameters
    for sigma in (-0.1, float("nan")):
        with pytest.raises(ValueError, match="sigma"):
            jittered(base, seed=0, sigma=sigma)

    class Unlimited(Parameters):
        number: float = 1.0

    with pytest.raises(TypeError, match="limit"):
        jittered(Unlimited(), seed=0)


def test_open_limits_are_not_reached():
    base = a_scenario("CellulosePyrolysis", peak_time_factor=0.5).parameters
    found = [jittered(base, seed=seed, sigma=10.0).peak_time_factor for seed in range(50)]
    assert all(0 < value < 1 for value in found)
    assert min(found) < 0.01
    assert max(found) > 0.99


def test_normalised_places_are_shares_of_the_usual_range():
    numbers = numeric_parameters(a_scenario("CoronaDischarge", location=[12.5, -12.5, 2.5]).parameters)
    assert [numbers[f"location.{axis}"].normalised for axis in range(3)] == [1.0, 0.0, 0.5]
    assert numbers["environment.relative_humidity_percent"].normalised == pytest.approx((92 - 15) / 83)
