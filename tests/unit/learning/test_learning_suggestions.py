"""Suggestions: every kind, its fields, ids, tags, confidence and order."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from builders.feedback import MISCLASSIFIED, UNCERTAIN, example, feedback
from builders.learning_scenarios import a_scenario
from builders.recording import Recorder, a_repository
from uqueue_config.learning.feedback import ModelPerformanceData
from uqueue_config.learning.suggestions import read_suggestion
from uqueue_worker.learning.crafting import ClassFamilies
from uqueue_worker.learning.errors import RepositoryUnavailable
from uqueue_worker.learning.manager import ActiveLearningManager
from uqueue_worker.learning.strategies import make_strategy
from uqueue_worker.learning.targeting.cycle import Cycle

PHENOL = UNCERTAIN["sample_features_summary"]["top_n_features"][0]["feature_path"]
PARTICLES = UNCERTAIN["sample_features_summary"]["top_n_features"][1]["feature_path"]


def suggestions(spots: list[Any], repository: Any = None, **options: Any) -> list[Any]:
    manager = ActiveLearningManager(None, repository, None, None, **options)
    return manager.suggest_scenario_modifications(weakness_analysis=spots)


def spots(**changes: Any) -> list[Any]:
    """Return the spots of the example: an error, an uncertain sample, and classes that are missed."""
    data = ModelPerformanceData.read(example() | changes)
    return make_strategy("high_fidelity").identify_weaknesses(data)


def spot_of(sample: dict[str, Any], kind: str = "uncertain", **changes: Any) -> Any:
    told = {**copy.deepcopy(sample), **changes}
    given = feedback(**{kind: [told]})
    return make_strategy("high_fidelity", epistemic_threshold=0.0).identify_weaknesses(given)[0]


def test_nothing_is_suggested_for_nothing():
    assert suggestions([]) == []


def test_the_scenario_of_an_uncertain_sample_is_modified():
    (found,) = suggestions([spot_of(UNCERTAIN)], families=ClassFamilies({"FIRE_PRECURSOR": "LigninDecomposition"}))
    weakness = f"hf_unc_{UNCERTAIN['raw_sample_id']}"
    assert found["kind"] == "modify_existing_scenario"
    assert found["target_scenario_definition_id"] == "smoulder-distant-012"
    assert found["originating_weak_spot_ids"] == (weakness,)
    assert found["priority"] == pytest.approx(0.224315)
    assert found["suggestion_confidence"] == pytest.approx(0.224315 + 0.2 * 0.31 + 0.1)
    assert found["suggested_metadata_updates"].model_dump() == {
        "tags": {"operation": "add_if_not_exists", "value": f"alm_focus_{weakness}"}
    }
    first, second = found["suggested_modifications_for_specific_params"]
    assert (first.param_path, first.operation, first.value) == (
        "base_emission_rates_g_s.Phenol",
        "vary_around_value",
        1.9,
    )
    assert (second.param_path, second.value) == ("base_emission_rates_g_s.PM2.5", 14.2)
    assert PHENOL in first.comment
    assert found["original_weak_spot_info"]["weakness_id"] == weakness
    assert found.state == "proposed"
    assert read_suggestion(found.model_dump(mode="json")) == found


def test_at_most_two_features_are_modified():
    summary = copy.deepcopy(UNCERTAIN["sample_features_summary"])
    summary["top_n_features"] += [{"feature_path": PHENOL, "importance_score": 0.01, "raw_value": 1}]
    (found,) = suggestions([spot_of(UNCERTAIN, sample_features_summary=summary)])
    assert len(found["suggested_modifications_for_specific_params"]) == 2


def test_the_family_is_that_of_the_stored_scenario():
    stored = a_scenario("BaselineOperation").to_definition()
    repository = a_repository(get_scenario_by_id=stored)
    families = ClassFamilies({"FIRE_PRECURSOR": "LigninDecomposition"})
    (found,) = suggestions([spot_of(UNCERTAIN)], repository, families=families)
    assert repository.calls == [("get_scenario_by_id", (), {"scenario_id": "smoulder-distant-012"})]
    (only,) = found["suggested_modifications_for_specific_params"]  # traffic moves both features, once
    assert (only.param_path, only.value) == ("environment.traffic", 1.9)


@pytest.mark.parametrize("answer", [None, RuntimeError("broken")])
def test_where_the_scenario_is_not_found_its_class_says_the_family(answer: Any):
    families = ClassFamilies({"FIRE_PRECURSOR": "LigninDecomposition"})
    (found,) = suggestions([spot_of(UNCERTAIN)], a_repository(get_scenario_by_id=answer), families=families)
    assert found["suggested_modifications_for_specific_params"][0].param_path == "base_emission_rates_g_s.Phenol"


def test_without_a_class_the_sensor_says_the_family():
    (found,) = suggestions([spot_of(UNCERTAIN)])  # FIRE_PRECURSOR is no event type; U19_TFSGS is a gas sensor
    assert found["suggested_modifications_for_specific_params"][0].param_path == "base_emission_rates_g_s.Phenol"


@pytest.mark.parametrize(
    "changes",
    [
        {"sensor_id": None},
        {
            "sample_features_summary": {
                "method": "API",
                "top_n_features": [{"feature_path": "sample_metadata.U30_BMI270__tilt_degrees", "raw_value": 3}],
            }
        },
    ],
)
def test_what_no_rule_resolves_is_left_to_a_person(changes: dict[str, Any]):
    (found,) = suggestions([spot_of(UNCERTAIN, **changes)])
    for one in found["suggested_modifications_for_specific_params"]:
        assert one.param_path.startswith("heuristic_map(")
        assert one.needs_mapping
    path = found["suggested_modifications_for_specific_params"][0].param_path
    assert path in (f"heuristic_map({PHENOL})", "heuristic_map(sample_metadata.U30_BMI270__tilt_degrees)")
    with pytest.raises(ValueError, match="names no parameter yet"):
        found.moved_to("approved").moved_to("applied")


def test_a_sample_without_features_only_gets_the_tag():
    (found,) = suggestions([spot_of(UNCERTAIN, sample_features_summary=None)])
    assert found["suggested_modifications_for_specific_params"] == ()
    assert found["suggestion_confidence"] == pytest.approx(0.224315 + 0.2 * 0.31)


def test_a_wrong_sample_has_no_share_of_its_uncertainty():
    (found,) = suggestions([spot_of(MISCLASSIFIED, "misclassified")])
    assert found["priority"] == pytest.approx(0.724)
    assert found["suggestion_confidence"] == pytest.approx(0.824)
    assert found["suggested_modifications_for_specific_params"][0].value == 41.7


def test_confidence_is_clipped():
    (found,) = suggestions([{**dict(spot_of(MISCLASSIFIED, "misclassified")), "priority": 0.95}])
    assert found["suggestion_confidence"] == 1.0


@pytest.mark.parametrize(
    ("sensor_id", "tags"),
    [
        ("U19_TFSGS", ("alm_generated", "sensor_U19_TFSGS", "type_VOCSensorArray")),
        ("nobody", ("alm_generated", "sensor_nobody", "type_any")),
        (None, ("alm_generated", "sensor_any", "type_any")),
    ],
)
def test_a_sample_without_a_scenario_gets_a_new_one(sensor_id: str | None, tags: tuple[str, ...]):
    (found,) = suggestions([spot_of(UNCERTAIN, original_scenario_id=None, sensor_id=sensor_id)])
    assert found["kind"] == "create_new_scenario"
    basis = found["basis_for_new_scenario"]
    assert basis["scenario_definition_id_suggestion"] == f"alm_new_hf_unc_{UNCERTAIN['raw_sample_id']}"
    assert basis["category"] == "ACTIVE_LEARNING_TARGETED"
    assert basis["tags"] == tags
    assert basis["author"] == "ActiveLearningManager"
    assert basis["specific_params_json_template"].keys() == {"alm_focus_features"}
    assert basis["specific_params_json_template"]["alm_focus_features"]["method"] == "OCCLUSION"
    assert basis["name"]
    assert basis["description"]


@pytest.mark.parametrize(
    ("sensor_id", "name", "sensor_tag", "sensor_type"),
    [("U26_Lepton35", "U26_Lepton35", "sensor_U26_Lepton35", "ThermalCamera"), (None, "any", "sensor_any", None)],
)
def test_a_class_that_is_missed_is_boosted(sensor_id: Any, name: str, sensor_tag: str, sensor_type: Any):
    spot = {
        "weakness_id": "w1",
        "type": "low_recall_class",
        "priority": 0.375,
        "sensor_id": sensor_id,
        "raw_sample_id": None,
        "details": {"class_name": "FIRE", "recall": 0.625, "epistemic_uncertainty_score": 1.0},
    }
    (found,) = suggestions([spot])
    assert found["kind"] == "create_new_scenario"
    assert found["suggestion_confidence"] == pytest.approx(0.375)
    basis = found["basis_for_new_scenario"]
    assert basis["scenario_definition_id_suggestion"] == f"alm_boost_FIRE_{name}"
    assert basis["category"] == "ACTIVE_LEARNING_CLASS_BOOST"
    assert basis["tags"] == ("alm_generated", sensor_tag, "class_FIRE")
    assert basis["specific_params_json_template"] == {
        "target_class_to_boost": "FIRE",
        "target_sensor_type": sensor_type,
    }
    assert "0.625" in found["reason"]


@pytest.mark.parametrize(("predicted", "says"), [("OTHER", "takes sample"), (None, "interval misses sample")])
def test_the_reason_says_what_was_wrong(predicted: str | None, says: str) -> None:
    spot = spot_of(MISCLASSIFIED, "misclassified", predicted_label=predicted or MISCLASSIFIED["true_label"])
    (found,) = suggestions([spot])
    assert says in found["reason"]


def test_the_order_is_kept_and_unknown_types_are_only_logged(capsys: pytest.CaptureFixture[str]):
    given = spots()
    odd = {**dict(given[0]), "type": "something else", "weakness_id": "odd"}
    found = suggestions([given[1], odd, given[0], *given[2:]])
    ids = [given[1].weakness_id, given[0].weakness_id, *(one.weakness_id for one in given[2:])]
    assert [one["originating_weak_spot_ids"] for one in found] == [(one,) for one in ids]
    assert {one["kind"] for one in found} == {"modify_existing_scenario", "create_new_scenario"}
    assert "odd" in capsys.readouterr().out


def test_ids_follow_from_run_cycle_and_spot():
    given = spots()
    made = [suggestions(given, cycle=Cycle(run, cycle)) for run, cycle in (("a", 0), ("a", 0), ("a", 1), ("b", 0))]
    ids = [[one.suggestion_id for one in found] for found in made]
    assert ids[0] == ids[1]
    assert len({one for found in ids for one in found}) == 3 * len(given)


def test_one_spot_that_cannot_be_told_does_not_touch_the_others(capsys: pytest.CaptureFixture[str]):
    long = {**dict(spot_of(UNCERTAIN)), "weakness_id": "w" * 495}
    found = suggestions([long, spot_of(MISCLASSIFIED, "misclassified")])
    assert len(found) == 1
    assert "no suggestion" in capsys.readouterr().out


def test_a_repository_that_does_not_answer_is_told():
    repository = Recorder(get_scenario_by_id=RepositoryUnavailable(reason="down"))
    with pytest.raises(RepositoryUnavailable):
        suggestions([spot_of(UNCERTAIN)], repository)
