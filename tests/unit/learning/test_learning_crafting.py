"""Crafting: each strategy reaches what it is for, and the crafter tries them in order."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders.feedback import MISCLASSIFIED, UNCERTAIN
from builders.learning_scenarios import a_scenario
from builders.recording import Recorder
from uqueue_config.learning.scenario import ScenarioDefinition
from uqueue_worker.learning.crafting import (
    CRAFTERS,
    ClassFamilies,
    Crafted,
    CraftingContext,
    CraftingLimits,
    CraftingStrategy,
    Draft,
    ForwardModel,
    ScenarioCrafter,
    make_crafters,
    register_crafter,
)
from uqueue_worker.learning.crafting.forward import Meter
from uqueue_worker.learning.crafting.lever_search import LeverSearch
from uqueue_worker.learning.crafting.levers import WeakFeature, levers_of
from uqueue_worker.learning.crafting.placing import ordinary_parameters, placed, with_surroundings
from uqueue_worker.learning.crafting.space import ParameterSpace
from uqueue_worker.learning.errors import CircuitOpen, CraftingFailed, RepositoryUnavailable, ScenarioInvalid
from uqueue_worker.learning.scenarios import (
    REGISTRY,
    BaseScenario,
    CoronaDischarge,
    FamilyScenario,
    ScenarioRegistry,
    behaviour_hash,
    numeric_parameters,
)

READINGS = "sensor_readings_map.readings"
PHENOL = f"{READINGS}.U19_TFSGS.voc_channel_4_phenol_ppb"
FAMILIES = ClassFamilies({"FIRE_PRECURSOR": "LigninDecomposition", "EQUIPMENT_OVERHEAT": "EquipmentOverheat"})
FORWARD = ForwardModel()


def summary(*features: tuple[str, float]) -> dict[str, Any]:
    told = [{"feature_path": path, "importance_score": 1.0, "raw_value": value} for path, value in features]
    return {"method": "OCCLUSION", "top_n_features": told}


def a_crafter(*order: Any, **options: Any) -> ScenarioCrafter:
    return ScenarioCrafter(order or ("rule",), **{"families": FAMILIES, **options})


def crafted(crafter: ScenarioCrafter, sample: dict[str, Any] = UNCERTAIN, n: int = 1, **more: Any) -> list[Crafted]:
    told = {"features_summary": sample["sample_features_summary"], "target_class": sample["true_label"], **more}
    return crafter.craft(crafter.context(base_id="alm_crafted_w1", **told), n)


def response(definition: ScenarioDefinition, *paths: str) -> list[float]:
    scenario = BaseScenario.from_scenario_definition_dict(definition)
    assert isinstance(scenario, FamilyScenario)
    return FORWARD.response(type(scenario), scenario.parameters, paths).tolist()


class Shelf:
    """Stored scenarios of classes."""

    def __init__(self, *definitions: ScenarioDefinition) -> None:
        self.definitions = definitions
        self.asked: list[tuple[str, str | None, int]] = []

    def get_scenario_by_id(self, scenario_id: str) -> ScenarioDefinition | None:
        return next((one for one in self.definitions if one.scenario_definition_id == scenario_id), None)

    def get_scenarios_by_class_label(
        self, class_label: str, sensor_type: str | None = None, num_to_get: int = 5
    ) -> Sequence[ScenarioDefinition]:
        self.asked.append((class_label, sensor_type, num_to_get))
        wanted = {f"class_{class_label}"} | ({f"sensor_{sensor_type}"} if sensor_type else set())
        return [one for one in self.definitions if wanted <= set(one.tags)][:num_to_get]


def stored(name: str, family: str = "LigninDecomposition", label: str = "FIRE_PRECURSOR", **parameters: Any) -> Any:
    return a_scenario(family, name, tags=[f"class_{label}"], **parameters).to_definition()


# Rule


@pytest.mark.parametrize("sample", [UNCERTAIN, MISCLASSIFIED])
def test_a_rule_meets_the_features_that_were_seen(sample: dict[str, Any]):
    (found,) = crafted(a_crafter("rule"), sample)
    features = sample["sample_features_summary"]["top_n_features"]
    reached = response(found.definition, *(one["feature_path"] for one in features))
    for one, value in zip(features, reached, strict=True):
        assert value == pytest.approx(one["raw_value"], rel=0.1)
    assert reached[0] == pytest.approx(features[0]["raw_value"], rel=0.03)
    assert found.crafter == "rule"
    assert found.expected_effect["features"][0]["reached"] == pytest.approx(reached[0])


def test_what_a_rule_makes_is_described_and_tagged():
    (found,) = crafted(a_crafter("rule"), sensor_type="VOCSensorArray")
    definition = found.definition
    assert definition.scenario_definition_id == "alm_crafted_w1"
    assert definition.scenario_class_name == "LigninDecomposition"
    assert definition.category == "ACTIVE_LEARNING_TARGETED"
    assert definition.tags == ("alm_generated", "class_FIRE_PRECURSOR", "sensor_VOCSensorArray", "alm_focus_w1")
    assert definition.author == "ActiveLearningManager"
    assert found.origin.keys() == {"crafter", "crafter_version", "rationale", "expected_effect"}
    assert (found.origin["crafter"], found.origin["crafter_version"]) == ("rule", "1")
    assert found.behaviour_hash == behaviour_hash(definition)


def test_a_distant_source_is_put_where_the_reading_is():
    """At eight metres no usual rate gives that much, so the second lever moves: the distance."""
    far = [8.0, 0.0, 0.5]
    rate = {"base_emission_rates_g_s": {"Phenol": 0.0008}, "location": far}
    shelf = Shelf(stored("a", "CellulosePyrolysis", "SMOKE", **rate))
    families = ClassFamilies({"SMOKE": "CellulosePyrolysis"})
    told = {"features_summary": summary((PHENOL, 46.0)), "target_class": "SMOKE", "repository": shelf}
    crafter = ScenarioCrafter(("rule",), families)
    (found,) = crafter.craft(crafter.context(base_id="alm_crafted_w1", **told))
    assert found.expected_effect["features"][0]["parameter"] == "location"
    assert response(found.definition, PHENOL)[0] == pytest.approx(46.0, rel=0.03)
    assert math.hypot(*found.definition.specific_params["location"]) < 8


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([name.__name__ for name in REGISTRY]), st.floats(0.5, 0.95), st.integers(0, 2**32))
def test_every_family_meets_a_reading_that_its_first_lever_can_give(family: str, share: float, seed: int):
    made = REGISTRY.named(family)
    assert issubclass(made, FamilyScenario)
    path = f"{READINGS}.U27_SPU0410HR5H.sound_pressure_level_db"
    context = CraftingContext(summary((path, 0.0)), "alm_crafted_w1", made.event_type, forward=FORWARD, seed=seed)
    base = context.ordinary(made)
    lever = levers_of(path, made)[0]
    number = numeric_parameters(base)[".".join(lever.parameter)]
    wanted = response_at(made, base, lever.parameter, number.usual_low + share * number.span, path)
    crafter = ScenarioCrafter(("rule",), seed=seed)
    told = crafter.context(summary((path, wanted)), "alm_crafted_w1", made.event_type)
    (found,) = crafter.craft(told)
    assert response(found.definition, path)[0] == pytest.approx(wanted, rel=0.15)
    assert found.definition.scenario_class_name == family


def response_at(family: Any, parameters: Any, path: tuple[str, ...], value: float, feature: str) -> float:
    return float(FORWARD.response(family, placed(parameters, {path: value}), [feature])[0])


@pytest.mark.parametrize(
    "features",
    [
        summary((PHENOL, 1e6)),  # no parameter reaches it
        summary(("sample_metadata.U30_BMI270__tilt", 3.0)),  # no lever
        summary((f"{READINGS}.NOBODY.voc_channel_4_phenol_ppb", 3.0)),  # a lever, and a sensor that is not there
        {"method": "NONE", "top_n_features": []},
        {},
    ],
)
def test_a_rule_has_nothing_where_no_lever_reaches_the_value(features: dict[str, Any]):
    assert crafted(a_crafter("rule"), features_summary=features) == []


def test_the_type_of_sensor_gives_the_family_where_no_class_does():
    crafter = a_crafter("rule")
    (found,) = crafted(crafter, target_class="UNHEARD_OF", sensor_type="VOCSensorArray")
    assert found.definition.scenario_class_name == "LigninDecomposition"
    assert "class_FIRE_PRECURSOR" in found.definition.tags  # what it shows, and not what was asked for
    assert "class_UNHEARD_OF" not in found.definition.tags
    assert crafted(crafter, target_class="UNHEARD_OF") == []
    (classed,) = crafted(crafter, MISCLASSIFIED, sensor_type="EMFSensor")
    assert classed.definition.scenario_class_name == "EquipmentOverheat"


def test_stored_scenarios_say_the_family_of_a_class_that_no_table_knows():
    shelf = Shelf(stored("a", "CellulosePyrolysis", "HAZE", base_emission_rates_g_s={"Phenol": 0.0008}))
    asked = {"target_class": "HAZE", "sensor_type": "VOCSensorArray", "features_summary": summary((PHENOL, 5.0))}
    for name in ("rule", "optimise", "explore"):
        (found,) = crafted(a_crafter(name), repository=shelf, **asked)
        assert found.definition.scenario_class_name == "CellulosePyrolysis"
        assert "class_HAZE" in found.definition.tags


FIELD = f"{READINGS}.U29_TFEMF.ac_field_strength_microteslas"


def by_rule(definition: Any, *features: tuple[str, float]) -> Any:
    label = definition.tags[0].removeprefix("class_")
    shelf, asked = Shelf(definition), {"target_class": label, "features_summary": summary(*features)}
    (found,) = crafted(a_crafter("rule"), repository=shelf, **asked)
    return found


def test_a_parameter_that_this_kind_of_the_family_lacks_is_passed_over():
    parameters = {"stage_durations_s": [600.0], "stage_signatures": [{"emf_v_m": 5.0}]}
    found = by_rule(stored("a", "InsulationBreakdown", "FAULT", **parameters), (FIELD, 0.2))
    assert found.expected_effect["features"][0]["parameter"] == "environment.machinery"


def test_a_parameter_that_does_nothing_here_is_passed_over():
    family = REGISTRY.named("InsulationBreakdown")
    assert issubclass(family, FamilyScenario)
    first_stage_lasts = {"stage_durations_s": [9000.0, 10.0, 10.0]}
    parameters = with_surroundings(family, first_stage_lasts)
    meter = Meter(FORWARD, 200, 60.0)
    search = LeverSearch(
        family, WeakFeature(FIELD, float(FORWARD.response(family, parameters, [FIELD])[0])), meter, 0.0
    )
    found = search.first(parameters, levers_of(FIELD, family))
    assert found is not None
    assert found[1].parameter == ("environment", "machinery")


def test_a_value_out_of_reach_costs_two_simulations_for_each_lever():
    family = REGISTRY.named("ArcingEvent")
    assert issubclass(family, FamilyScenario)
    meter = Meter(FORWARD, 200, 60.0)
    levers = levers_of(FIELD, family)
    assert LeverSearch(family, WeakFeature(FIELD, 1e6), meter, 0.0).first(ordinary_parameters(family), levers) is None
    assert meter.calls == 2 * len(levers)


def test_a_second_feature_does_not_undo_the_first():
    gas, humidity = (
        f"{READINGS}.U19_TFSGS.voc_channel_7_general_ppb",
        "sample_metadata.U21_SHT85__relative_humidity_percent",
    )
    found = by_rule(stored("a", "CoronaDischarge", "CORONA"), (gas, 62.0), (humidity, 94.0))
    assert response(found.definition, gas, humidity) == [pytest.approx(62.0, rel=0.03), pytest.approx(94.0, rel=0.03)]


def test_two_features_move_two_parameters():
    fine, coarse = (f"{READINGS}.U20_SPS30.mass_concentration_pm{one}_micrograms_per_m3" for one in ("2_5", "10_0"))
    found = by_rule(stored("a", "EarlyCombustion", "FLAME", location=[8.0, 0.0, 0.5]), (fine, 300.0), (coarse, 420.0))
    moved = [one["parameter"] for one in found.expected_effect["features"]]
    assert moved == ["chemical_emission_rates_g_s.PM2.5", "location"]
    assert response(found.definition, fine)[0] == pytest.approx(300.0, rel=0.03)


# Optimise


@pytest.mark.parametrize("sample", [UNCERTAIN, MISCLASSIFIED])
def test_inverse_design_finds_scenarios_with_these_features(sample: dict[str, Any]):
    (found,) = crafted(a_crafter("optimise"), sample)
    features = sample["sample_features_summary"]["top_n_features"]
    reached = response(found.definition, *(one["feature_path"] for one in features))
    assert found.expected_effect["residual"] < 0.05
    for one, value in zip(features, reached, strict=True):
        assert value == pytest.approx(one["raw_value"], rel=0.15)


def test_inverse_design_gives_different_solutions_within_its_limit():
    found = crafted(a_crafter("optimise"), n=4)
    assert len(found) == 4
    assert all(one.expected_effect["residual"] <= 0.25 for one in found)
    assert len({one.behaviour_hash for one in found}) == 4
    assert [one.definition.scenario_definition_id for one in found] == [
        "alm_crafted_w1",
        "alm_crafted_w1_2",
        "alm_crafted_w1_3",
        "alm_crafted_w1_4",
    ]
    distances = [math.hypot(*one.definition.specific_params["location"]) for one in found]
    assert max(distances) - min(distances) > 3


class Counting(ForwardModel):
    calls = 0

    def response(self, *given: Any) -> Any:
        type(self).calls += 1
        return super().response(*given)


def test_inverse_design_keeps_to_its_calls_and_its_deadline():
    class Own(Counting):
        pass

    crafted(a_crafter("optimise", forward=Own(), limits=CraftingLimits(max_residual=1e-9)), n=5)
    assert 64 < Own.calls <= 200


def test_inverse_design_stops_at_its_deadline():
    for calls_in_time, reason in ((0, "no time for a single simulation"), (3, "standard deviations away")):
        now = iter(range(1000))
        limits = CraftingLimits(deadline_seconds=calls_in_time + 0.5, max_residual=0.0)
        asked = {"features_summary": UNCERTAIN["sample_features_summary"], "target_class": "FIRE_PRECURSOR"}
        context = CraftingContext(
            **asked, base_id="x", families=FAMILIES, limits=limits, clock=lambda now=now: float(next(now))
        )
        with pytest.raises(CraftingFailed, match=reason):
            make_crafters(["optimise"])[0].craft(context, 1)
        assert next(now) <= calls_in_time + 3  # a look at the clock at the start, before each call, and before refining


def test_a_residual_over_the_limit_is_refused():
    crafter = a_crafter("optimise")
    assert crafted(crafter, features_summary=summary((PHENOL, 1e6))) == []
    assert crafter.outcomes == {("optimise", "failed"): 1}
    unseen = summary((f"{READINGS}.NOBODY.x", 1.0))
    assert crafted(crafter, features_summary=unseen) == []


def test_features_that_the_simulator_does_not_give_are_left_out():
    features = summary((f"{READINGS}.NOBODY.x", 1.0), (PHENOL, 5.0))
    (found,) = crafted(a_crafter("optimise"), features_summary=features)
    assert [one["feature_path"] for one in found.expected_effect["features"]] == [PHENOL]
    assert response(found.definition, PHENOL)[0] == pytest.approx(5.0, rel=0.1)


# Explore


def test_exploring_covers_the_deployment_ranges_evenly():
    found = crafted(a_crafter("explore"), n=64)
    assert len(found) == 64
    parameters = [one.definition.specific_params for one in found]
    humidity = sorted((one["environment"]["relative_humidity_percent"] - 15) / 83 for one in parameters)
    distance = sorted((math.hypot(*one["location"]) - 1) / 24 for one in parameters)
    quarters = {(one["location"][0] > 0, one["location"][1] > 0) for one in parameters}
    assert len(quarters) == 4
    for shares in (humidity, distance):
        assert [int(share * 64) for share in shares] == pytest.approx(list(range(64)), abs=2)  # a (t, m, s)-net
    assert crafted(a_crafter("explore"), n=64)[5].definition.specific_params == parameters[5]
    assert crafted(a_crafter("explore", seed=1), n=64)[5].definition.specific_params != parameters[5]


def test_exploring_takes_the_ranges_that_it_is_given():
    ranges = {"LigninDecomposition": {"location": (20.0, 25.0), "environment.traffic": (0.9, 1.0)}}
    found = crafted(a_crafter(CRAFTERS["explore"](ranges)), n=16)  # type: ignore[call-arg]
    assert all(20 <= math.hypot(*one.definition.specific_params["location"]) <= 25.0001 for one in found)
    assert all(one.definition.specific_params["environment"]["traffic"] >= 0.9 for one in found)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([family.__name__ for family in REGISTRY]), st.data())
def test_every_point_of_the_space_is_a_scenario(family: str, data: st.DataObject):
    made = REGISTRY.named(family)
    assert issubclass(made, FamilyScenario)
    space = ParameterSpace.of(CraftingContext({}, "x").ordinary(made), choices=True)
    point = data.draw(st.lists(st.floats(0, 1), min_size=space.axes, max_size=space.axes))
    assert made("x", "x", **space.parameters(point).to_dict()).validate() == []


# Template


def test_a_template_is_the_stored_scenario_whose_readings_are_nearest():
    near = {"base_emission_rates_g_s": {"Phenol": 7e-5}, "location": [8.0, 0.0, 0.5]}
    shelf = Shelf(stored("loud"), stored("near", **near), stored("far", location=[1.0, 0.0, 0.5]))
    (found,) = crafted(a_crafter("template"), repository=shelf, sensor_type="VOCSensorArray")
    assert found.expected_effect == {"template": "near"}
    assert found.definition.related_scenario_ids == ("near",)
    assert shelf.asked == [("FIRE_PRECURSOR", "VOCSensorArray", 50), ("FIRE_PRECURSOR", None, 50)]
    assert "class_FIRE_PRECURSOR" in found.definition.tags


def test_a_template_is_jittered_inside_the_region():
    box = {
        "environment.relative_humidity_percent": {"min": 90.0, "max": 96.0},
        "location[0]": {"min": 15.0, "max": 15.2},
        "unheard_of": {"min": 0.0, "max": 1.0},
    }
    dry = stored("dry", environment={"relative_humidity_percent": 20.0}, location=[15.1, 0.0, 0.5])
    humid = stored("humid", environment={"relative_humidity_percent": 97.0}, location=[14.0, 0.0, 0.5])
    crafter = a_crafter("template")
    spot = {"details": {"region": box}}
    told = {"repository": Shelf(dry, humid), "spot": spot, "features_summary": {}}
    found = crafted(crafter, n=6, **told)
    assert found[0].expected_effect == {"template": "humid"}  # 1.0 m and 1 % away, and not 70 %
    assert len({one.behaviour_hash for one in found}) == 6
    for one in found:
        inside = one.definition.specific_params
        assert 90 <= inside["environment"]["relative_humidity_percent"] <= 96
        assert 15 <= inside["location"][0] <= 15.2


def test_inside_the_region_is_nearest_and_a_parameter_that_is_missing_is_far():
    wide = {"environment.relative_humidity_percent": {"min": 20.0, "max": 98.0}}
    dry = stored("dry", environment={"relative_humidity_percent": 18.0})
    inside = stored("inside", environment={"relative_humidity_percent": 60.0})
    dusty = {"base_emission_rates_g_s.PM2.5": {"min": 0.0005, "max": 0.001}}
    little = stored("little", base_emission_rates_g_s={"Phenol": 0.001, "PM2.5": 0.0003})
    cases = [(wide, [dry, inside], "inside"), (dusty, [stored("none"), little], "little")]
    for box, definitions, name in cases:
        told = {"repository": Shelf(*definitions), "spot": {"details": {"region": box}}, "features_summary": {}}
        (found,) = crafted(a_crafter("template"), **told)
        assert found.expected_effect == {"template": name}


def test_a_template_is_near_the_parameters_of_the_sample_where_no_region_is_known():
    shelf = Shelf(stored("a", peak_intensity=0.4), stored("b", peak_intensity=0.9))
    for wanted, name in ((0.45, "a"), (0.85, "b")):
        spot = {"details": {"medoid_position": {"peak_intensity": wanted}}}
        (found,) = crafted(a_crafter("template"), repository=shelf, spot=spot, features_summary={})
        assert found.expected_effect == {"template": name}


def test_without_a_stored_scenario_that_can_run_there_is_no_template():
    gone = stored("gone").replace(scenario_class_module="somewhere.else")
    for shelf in (Shelf(), Shelf(gone), None):
        crafter = a_crafter("template")
        assert crafted(crafter, repository=shelf) == []
        assert not crafter.outcomes  # it was not tried


# The crafter


class Say(CraftingStrategy):
    """Answers what a test says."""

    def __init__(self, name: str, answer: Any, worth: float = 1.0) -> None:
        self.name = name  # type: ignore[misc]
        self.answer = answer
        self.worth = worth

    def supports(self, context: CraftingContext) -> float:
        return self.worth

    def craft(self, context: CraftingContext, n: int) -> Sequence[Draft]:
        if isinstance(self.answer, Exception):
            raise self.answer
        return [Draft(one, "because") for one in self.answer]


def test_the_first_valid_draft_wins_and_failures_are_counted(capsys: pytest.CaptureFixture[str]):
    good, other = stored("good"), stored("other", peak_intensity=0.7)
    broken = good.replace(specific_params_json={"peak_intensity": 99})
    strategies = [
        Say("unfit", [good], worth=0.0),
        Say("failing", RuntimeError("broken")),
        Say("empty", []),
        Say("wrong", [broken]),
        Say("late", [broken, good, other]),
        Say("never", AssertionError("not reached")),
    ]
    crafter = a_crafter(*strategies)
    (found,) = crafted(crafter)
    assert (found.crafter, found.definition.scenario_definition_id) == ("late", "good")
    assert crafter.outcomes == {
        ("failing", "failed"): 1,
        ("wrong", "invalid"): 1,
        ("late", "invalid"): 1,
        ("late", "created"): 2,
    }
    said = capsys.readouterr().out
    assert "broken" in said
    assert "peak_intensity" in said


def test_what_is_stored_or_was_drafted_before_is_not_made_again():
    known, fresh = stored("known"), stored("fresh", peak_intensity=0.7)
    again = known.replace(scenario_definition_id="again", name="Another name")
    crafter = a_crafter(Say("one", [again]), Say("two", [again, fresh, fresh.replace(scenario_definition_id="b")]))
    found = crafted(crafter, n=5, repository=Shelf(known))
    assert [one.definition.scenario_definition_id for one in found] == ["fresh"]
    assert crafter.outcomes == {("one", "duplicate"): 1, ("two", "duplicate"): 2, ("two", "created"): 1}


def test_defaults_that_are_left_out_are_no_other_scenario():
    plain = stored("plain")
    short = {
        "peak_intensity": plain.specific_params["peak_intensity"],
        "environment": plain.specific_params["environment"],
    }
    left_out = plain.replace(specific_params_json=short)
    crafter = a_crafter(Say("one", [plain.replace(scenario_definition_id="again")]))
    assert crafted(crafter, repository=Shelf(left_out)) == []


@pytest.mark.parametrize(
    "error", [RepositoryUnavailable(reason="down"), CircuitOpen(target="db", retry_after_seconds=3)]
)
def test_a_repository_that_does_not_answer_comes_through(error: Exception):
    repository = Recorder(get_scenarios_by_class_label=error)
    with pytest.raises(type(error)):
        crafted(a_crafter("template", "rule"), repository=repository)


def test_a_repository_that_fails_otherwise_leaves_what_needs_no_repository():
    repository = Recorder(get_scenarios_by_class_label=ScenarioInvalid(reason="no"))
    crafter = a_crafter("template", "rule", "optimise", "explore")
    assert crafted(crafter, repository=repository) == []
    assert {outcome for _, outcome in crafter.outcomes} == {"failed"}


def test_the_default_order_and_what_it_makes_of_a_spot():
    crafter = ScenarioCrafter(families=FAMILIES)
    assert [one.name for one in crafter.strategies] == ["template", "rule", "optimise", "explore"]
    before = copy.deepcopy(UNCERTAIN["sample_features_summary"])
    asked = {"features_summary": before, "base_id": "alm_crafted_w1", "target_class": "FIRE_PRECURSOR"}
    found = crafter(**asked)
    assert found is not None
    assert found.crafter == "rule"  # nothing is stored
    assert before == UNCERTAIN["sample_features_summary"]
    reachless = {**asked, "features_summary": summary((PHENOL, 1e6))}
    explored = crafter(**reachless)
    assert explored is not None
    assert explored.crafter == "explore"
    assert crafter(**{**asked, "target_class": None}) is None


def test_the_same_seed_and_spot_give_the_same_scenarios():
    for name in ("rule", "optimise", "explore"):
        one, two = ([made.behaviour_hash for made in crafted(a_crafter(name), n=3)] for _ in range(2))
        other = [made.behaviour_hash for made in crafted(a_crafter(name, seed=1), n=3)]
        assert one == two
        assert not set(one) & set(other)


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(st.text(max_size=5), st.none() | st.booleans() | st.floats() | st.text(max_size=5), max_size=4),
    st.text(max_size=20),
    st.none() | st.text(max_size=20),
    st.none() | st.text(max_size=20),
)
def test_nothing_that_data_says_makes_the_crafter_fail(features: Any, name: str, label: Any, sensor: Any):
    asked = {"method": "API", "top_n_features": [features, {"feature_path": PHENOL, **features}]}
    crafter = a_crafter("rule", "explore")
    found = crafter(
        features_summary=asked, base_id=f"alm_crafted_{name}", target_class=label, sensor_type=sensor or "EMFSensor"
    )
    assert found is None or BaseScenario.from_scenario_definition_dict(found.definition).validate() == []


def test_names_are_unique_and_known():
    with pytest.raises(ValueError, match="there are template, rule, optimise, explore"):
        make_crafters(["guess"])

    class Second(Say):
        name = "rule"

    with pytest.raises(ValueError, match="registered"):
        register_crafter(Second)


# Classes and families


def test_labels_are_event_types_or_what_the_table_says():
    families = ClassFamilies({"SMOULDERING": "CellulosePyrolysis"})
    names = {
        "SMOULDERING": "CellulosePyrolysis",
        "cellulose_pyrolysis": "CellulosePyrolysis",
        "lignin_decomposition": "LigninDecomposition",
        "normal_weather_event": "WeatherEvent",
    }
    for label, name in names.items():
        found = families.of_class(label)
        assert found is not None
        assert found.__name__ == name
    assert families.of_class("unheard of") is None
    assert families.of_class(None) is None
    assert families.of_sensor_type("IMU") is None
    for family in REGISTRY:
        assert issubclass(family, FamilyScenario)
        assert ClassFamilies().of_class(family.event_type) is family
    assert families.of_definition({"scenario_class_module": "os", "scenario_class_name": "system"}) is None
    assert families.of_definition({}) is None


def test_a_table_from_the_events_of_a_classifier():
    families = ClassFamilies.of_events(
        {"arcing_event": "ARC", "corona_discharge": "ELECTRICAL", "insulation_breakdown": "ELECTRICAL"}
    )
    assert [families.of_class(label).__name__ for label in ("ARC", "ELECTRICAL")] == ["ArcingEvent", "CoronaDischarge"]  # type: ignore[union-attr]
    with pytest.raises(ValueError, match="unheard_of"):
        ClassFamilies.of_events({"unheard_of": "X"})


def test_the_family_that_was_registered_first_stands_for_an_event():
    class Other(CoronaDischarge):
        """A corona of another kind."""

    registry = ScenarioRegistry()
    for family in (CoronaDischarge, Other):
        registry.register(family)
    for families in (ClassFamilies(registry=registry), ClassFamilies.of_events({"corona_discharge": "C"}, registry)):
        assert families.of_class("corona_discharge") is CoronaDischarge
    assert ClassFamilies.of_events({"corona_discharge": "C"}, registry).of_class("C") is CoronaDischarge
