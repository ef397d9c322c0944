"""The manager's contract: what it asks its collaborators, with which arguments, and what it makes of the answers."""

from __future__ import annotations

import inspect
from datetime import UTC, datetime
from typing import Any

import pytest

from builders.feedback import MISCLASSIFIED, UNCERTAIN, example, feedback
from builders.recording import Recorder, a_repository
from uqueue_config.learning.feedback import ModelPerformanceData
from uqueue_worker.learning.errors import (
    ActiveLearningError,
    CircuitOpen,
    DatasetFormat,
    EmptyDataset,
    EndpointTimeout,
    RepositoryUnavailable,
    ScenarioInvalid,
)
from uqueue_worker.learning.interfaces import ActiveLearningManagerInterface, MLDataGeneratorInterface
from uqueue_worker.learning.manager import ActiveLearningManager
from uqueue_worker.learning.sensors import DEFAULT_SENSOR_ID_TO_TYPE_MAPPING
from uqueue_worker.learning.strategies import make_strategy
from uqueue_worker.learning.targeting.cycle import Cycle

NOW = datetime(2026, 3, 2, 9, 14, 7, tzinfo=UTC)
SUMMARY = UNCERTAIN["sample_features_summary"]
PHENOL = "sensor_readings_map.readings.U19_TFSGS.voc_channel_4_phenol_ppb"
SAMPLE = {"scenario_id": "s", "timestamp_scenario_seconds": 1.0, "sensor_readings": {}, "labels": {}}


def a_spot(
    kind: str = "high_uncertainty_sample", sensor_id: str | None = "U19_TFSGS", **details: Any
) -> dict[str, Any]:
    return {
        "weakness_id": "w1",
        "type": kind,
        "priority": 0.5,
        "sensor_id": sensor_id,
        "raw_sample_id": "r1",
        "details": details,
    }


def a_scenario(name: str = "s", version: int = 3) -> dict[str, Any]:
    return {"scenario_definition_id": name, "scenario_instance_id": name, "version": version}


def a_generator(**answers: Any) -> Recorder:
    said = {
        "generate_training_dataset": lambda scenarios, **_: [
            {**SAMPLE, "scenario_id": one["scenario_definition_id"]} for one in scenarios
        ],
        "export": lambda samples, output_format, dataset_name: samples,
    }
    return Recorder(**{**said, **answers})


def a_manager(repository: Any = None, generator: Any = None, model: Any = "model", **more: Any) -> Any:
    strategy = more.pop("strategy", None) or make_strategy("real_time")
    return ActiveLearningManager(
        data_generator=generator or a_generator(),
        scenario_repository=repository if repository is not None else a_repository(),
        model_interface=model,
        prioritization_strategy=strategy,
        clock=lambda: NOW,
        **more,
    )


def metadata(weakness_id: str = "w1", scenario: str | None = "s", version: int | None = 3) -> dict[str, Any]:
    return {
        "originating_weak_spot_id": weakness_id,
        "scenario_definition_id": scenario,
        "scenario_version": version,
        "alm_run_id": None,
        "alm_cycle": None,
    }


# Construction and sensors


def test_parameters_are_those_of_the_interface():
    constructor = inspect.signature(ActiveLearningManager).parameters
    assert list(constructor)[:5] == [
        "data_generator",
        "scenario_repository",
        "model_interface",
        "prioritization_strategy",
        "sensor_id_to_type_map",
    ]
    assert constructor["sensor_id_to_type_map"].default is None
    for name, method in vars(ActiveLearningManagerInterface).items():
        if not name.startswith("_"):
            promised, kept = (
                inspect.signature(one).parameters for one in (method, getattr(ActiveLearningManager, name))
            )
            assert {key: (value.kind, value.default) for key, value in promised.items()} == {
                key: (value.kind, value.default) for key, value in kept.items()
            }


@pytest.mark.parametrize(
    ("given", "used"),
    [(None, dict(DEFAULT_SENSOR_ID_TO_TYPE_MAPPING)), ({}, {}), ({"A": "IMU"}, {"A": "IMU"})],
)
def test_the_map_of_sensors(given: Any, used: dict[str, str]):
    strategy = make_strategy("real_time")
    manager = a_manager(strategy=strategy, sensor_id_to_type_map=given)
    assert manager.sensor_id_to_type_map == used
    assert strategy.sensor_id_to_type_map is manager.sensor_id_to_type_map
    assert manager.sensor_type_of(None) is None
    assert manager.sensor_type_of("nobody") is None
    assert manager.sensor_type_of("A") == used.get("A")


@pytest.mark.parametrize("own", [{}, {"B": "EMFSensor"}])
def test_a_strategy_keeps_the_map_that_it_has(own: dict[str, str]):
    strategy = make_strategy("real_time", sensor_id_to_type_map=own)
    a_manager(strategy=strategy, sensor_id_to_type_map={"A": "IMU"})
    assert strategy.sensor_id_to_type_map is own


# Weak spots


def test_identify_hands_on_and_returns_the_very_list():
    found = ["anything"]
    strategy = Recorder(identify_weaknesses=found)
    strategy.sensor_id_to_type_map = {}
    data = example()
    manager = a_manager(strategy=strategy)
    assert manager.identify_weak_spots(data) is found
    assert manager.identify_weak_spots(model_performance_data=data, target_sensor_id="U19_TFSGS") is found
    (first, second) = strategy.of("identify_weaknesses")
    assert first == ((data,), {"target_sensor_id": None})
    assert second == ((data,), {"target_sensor_id": "U19_TFSGS"})
    assert first[0][0] is data


def test_without_a_model_interface_no_weak_spots_and_an_error_event(capsys: pytest.CaptureFixture[str]):
    strategy = Recorder(identify_weaknesses=["anything"])
    strategy.sensor_id_to_type_map = {}
    assert a_manager(strategy=strategy, model=None).identify_weak_spots(example()) == []
    assert strategy.calls == []
    said = capsys.readouterr().out
    assert "error" in said
    assert "there is no model interface" in said


# From weak spot to sample: the paths


@pytest.mark.parametrize("kind", ["high_uncertainty_sample", "misclassified_region"])
def test_a_sample_with_a_known_scenario_leads_to_a_variation(kind: str):
    base, varied = a_scenario("base"), a_scenario("s")
    repository = a_repository(get_scenario_by_id=base, create_scenario_variation=varied)
    generator = a_generator()
    spot = a_spot(kind, original_scenario_id="base-1", sample_features_summary=SUMMARY, true_label="T")
    found = a_manager(repository, generator).generate_targeted_samples([spot], num_samples_per_spot_type=7)
    assert repository.calls == [
        ("get_scenario_by_id", (), {"scenario_id": "base-1"}),
        (
            "create_scenario_variation",
            (),
            {
                "base_scenario": base,
                "new_id_suffix": "_alm_var_w1",
                "param_modifications": {
                    "alm_triggering_weak_spot_id": "w1",
                    "alm_focus_feature": PHENOL,
                    "alm_focus_feature_value": 1.9,
                },
                "sensor_context": {"sensor_id": "U19_TFSGS", "sensor_type": "VOCSensorArray"},
            },
        ),
    ]
    assert generator.calls[0] == (
        "generate_training_dataset",
        (),
        {"scenarios": [varied], "samples_per_scenario": 7, "output_format": "list_of_dicts"},
    )
    assert found == [{**SAMPLE, "sample_metadata": metadata()}]


@pytest.mark.parametrize(
    ("sensor_id", "context"),
    [(None, None), ("nobody", {"sensor_id": "nobody", "sensor_type": None})],
)
def test_a_variation_without_a_sensor_and_without_features(sensor_id: str | None, context: Any):
    repository = a_repository(get_scenario_by_id=a_scenario("base"), create_scenario_variation=a_scenario())
    a_manager(repository).generate_targeted_samples([a_spot(sensor_id=sensor_id, original_scenario_id="base")])
    (_, asked) = repository.of("create_scenario_variation")[0]
    assert asked["sensor_context"] == context
    assert asked["param_modifications"] == {"alm_triggering_weak_spot_id": "w1"}


def test_a_summary_without_features_has_no_focus():
    repository = a_repository(get_scenario_by_id=a_scenario("base"), create_scenario_variation=a_scenario())
    spot = a_spot(original_scenario_id="base", sample_features_summary={"method": "NONE", "top_n_features": []})
    a_manager(repository).generate_targeted_samples([spot])
    assert repository.of("create_scenario_variation")[0][1]["param_modifications"] == {
        "alm_triggering_weak_spot_id": "w1"
    }


@pytest.mark.parametrize(
    "answers",
    [
        {"get_scenario_by_id": None},
        {"get_scenario_by_id": RuntimeError("broken")},
        {"get_scenario_by_id": a_scenario("base"), "create_scenario_variation": None},
        {"get_scenario_by_id": a_scenario("base"), "create_scenario_variation": ScenarioInvalid(reason="no")},
    ],
)
def test_without_a_variation_one_is_crafted_from_the_features(answers: dict[str, Any]):
    repository = a_repository(**answers, craft_scenario_from_features=a_scenario())
    spot = a_spot(original_scenario_id="base", sample_features_summary=SUMMARY, true_label="T", predicted_label="P")
    assert a_manager(repository).generate_targeted_samples([spot])
    assert repository.of("craft_scenario_from_features") == [
        (
            (),
            {
                "features_summary": SUMMARY,
                "base_id": "alm_crafted_w1",
                "target_class": "T",
                "sensor_type": "VOCSensorArray",
            },
        )
    ]
    assert repository.of("get_default_exploration_scenario") == []


def test_crafting_without_an_original_aims_at_the_predicted_class_where_no_true_one_is_known():
    repository = a_repository(craft_scenario_from_features=a_scenario())
    spot = a_spot(sensor_id=None, sample_features_summary=SUMMARY, predicted_label="P")
    assert a_manager(repository).generate_targeted_samples([spot])
    (_, asked) = repository.of("craft_scenario_from_features")[0]
    assert (asked["target_class"], asked["sensor_type"]) == ("P", None)
    assert repository.of("get_scenario_by_id") == []


@pytest.mark.parametrize("crafted", [None, ValueError("no")])
def test_where_nothing_can_be_crafted_the_exploration_scenario_is_run(crafted: Any):
    repository = a_repository(craft_scenario_from_features=crafted, get_default_exploration_scenario=a_scenario())
    assert a_manager(repository).generate_targeted_samples([a_spot(sample_features_summary=SUMMARY)])
    assert repository.of("get_default_exploration_scenario") == [
        ((), {"scenario_id": "alm_explore_w1", "sensor_type": "VOCSensorArray"})
    ]


def test_without_original_and_features_only_exploration_is_asked_for():
    repository = a_repository(get_default_exploration_scenario=a_scenario())
    assert a_manager(repository).generate_targeted_samples([a_spot()])
    assert [name for name, _, _ in repository.calls] == ["get_default_exploration_scenario"]


def test_a_class_is_run_with_two_of_its_scenarios_in_one_call():
    pair = [a_scenario("a", 1), a_scenario("b", 2)]
    repository, generator = a_repository(get_scenarios_by_class_label=pair), a_generator()
    spot = a_spot("low_recall_class", sensor_id="U26_Lepton35", class_name="FIRE", recall=0.4)
    found = a_manager(repository, generator).generate_targeted_samples([spot], 3)
    assert repository.calls == [
        (
            "get_scenarios_by_class_label",
            (),
            {"class_label": "FIRE", "sensor_type": "ThermalCamera", "num_to_get": 2},
        )
    ]
    assert generator.of("generate_training_dataset") == [
        ((), {"scenarios": pair, "samples_per_scenario": 3, "output_format": "list_of_dicts"})
    ]
    assert [one["sample_metadata"]["scenario_version"] for one in found] == [1, 2]


@pytest.mark.parametrize("answer", [[], None, RuntimeError("broken")])
def test_a_class_without_scenarios_explores(answer: Any):
    repository = a_repository(get_scenarios_by_class_label=answer, get_default_exploration_scenario=a_scenario())
    assert a_manager(repository).generate_targeted_samples([a_spot("low_recall_class", class_name="FIRE")])
    assert len(repository.of("get_default_exploration_scenario")) == 1
    assert repository.of("craft_scenario_from_features") == []


def test_a_spot_of_an_unknown_type_explores():
    repository = a_repository(get_default_exploration_scenario=a_scenario())
    assert a_manager(repository).generate_targeted_samples([a_spot("something else", original_scenario_id="base")])
    assert [name for name, _, _ in repository.calls] == ["get_default_exploration_scenario"]


@pytest.mark.parametrize(
    "error", [RepositoryUnavailable(reason="down"), CircuitOpen(target="db", retry_after_seconds=9)]
)
@pytest.mark.parametrize(
    "method", ["get_scenario_by_id", "craft_scenario_from_features", "get_default_exploration_scenario"]
)
def test_a_repository_that_does_not_answer_ends_it(method: str, error: Exception):
    repository, generator = a_repository(**{method: error}), a_generator()
    spot = a_spot(original_scenario_id="base", sample_features_summary=SUMMARY)
    with pytest.raises(type(error)):
        a_manager(repository, generator).generate_targeted_samples([spot])
    assert generator.calls == []


def test_a_collaborator_with_other_parameters_is_no_empty_repository():
    class Older:
        def get_scenario_by_id(self, identifier: str) -> None:
            raise AssertionError("it cannot be called")

    with pytest.raises(TypeError, match="does not take the arguments of the interface"):
        a_manager(Older()).generate_targeted_samples([a_spot(original_scenario_id="base")])


# Samples and their export


def test_missing_parts_and_no_spots_give_none():
    complete = {"data_generator": a_generator(), "scenario_repository": a_repository()}
    for missing in complete:
        parts = {**complete, missing: None}
        manager = ActiveLearningManager(**parts, model_interface=None, prioritization_strategy=None)
        assert manager.generate_targeted_samples([a_spot()]) is None
    generator = a_generator()
    assert a_manager(generator=generator).generate_targeted_samples([]) is None
    assert a_manager(generator=generator).generate_targeted_samples([a_spot()]) is None  # no scenario at all
    assert generator.calls == []


def test_a_spot_whose_samples_fail_does_not_touch_the_others():
    answers = iter([None, RuntimeError("broken"), [SAMPLE]])

    def generate(scenarios: Any, samples_per_scenario: int, output_format: str) -> Any:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    repository = a_repository(get_default_exploration_scenario=a_scenario())
    generator = a_generator(generate_training_dataset=generate)
    spots = [{**a_spot(), "weakness_id": name} for name in ("w1", "w2", "w3")]
    found = a_manager(repository, generator).generate_targeted_samples(spots)
    assert found == [{**SAMPLE, "sample_metadata": metadata("w3")}]
    assert len(generator.of("export")) == 1


def test_nothing_produced_is_not_exported():
    repository, generator = (
        a_repository(get_default_exploration_scenario=a_scenario()),
        a_generator(generate_training_dataset=None),
    )
    assert a_manager(repository, generator).generate_targeted_samples([a_spot()]) is None
    assert generator.of("export") == []


@pytest.mark.parametrize("method", ["export", "_export_data"])
@pytest.mark.parametrize("answer", ["/data/x.avro", None])
def test_the_export_is_called_once_with_positions_and_its_answer_is_the_answer(method: str, answer: Any):
    generate = {"generate_training_dataset": [SAMPLE]}
    generator = Recorder(**generate, **{method: answer})
    repository = a_repository(get_default_exploration_scenario=a_scenario())
    manager = a_manager(repository, generator)
    spots = [a_spot(), {**a_spot(), "weakness_id": "w2"}]
    assert manager.generate_targeted_samples(spots, output_format="avro", dataset_name_prefix="mine") == answer
    told = [{**SAMPLE, "sample_metadata": metadata(name)} for name in ("w1", "w2")]
    assert generator.of(method) == [((told, "avro", "mine_20260302_091407"), {})]


@pytest.mark.parametrize("export", [{}, {"export": AttributeError("not mine")}])
@pytest.mark.parametrize(("output_format", "kept"), [("list_of_dicts", True), ("avro", False)])
def test_without_an_export_only_a_list_is_there(export: dict[str, Any], output_format: str, kept: bool):
    generator = Recorder(generate_training_dataset=[SAMPLE], **export)
    repository = a_repository(get_default_exploration_scenario=a_scenario())
    found = a_manager(repository, generator).generate_targeted_samples([a_spot()], output_format=output_format)
    assert found == ([{**SAMPLE, "sample_metadata": metadata()}] if kept else None)


def test_a_generator_of_the_interface_without_an_export_gives_the_list():
    class Small(MLDataGeneratorInterface):
        def generate_training_dataset(self, scenarios: Any, samples_per_scenario: Any, *_: Any, **__: Any) -> Any:
            return [SAMPLE] * samples_per_scenario

    repository = a_repository(get_default_exploration_scenario=a_scenario())
    assert len(a_manager(repository, Small()).generate_targeted_samples([a_spot()], 4)) == 4


def test_samples_say_the_run_and_cycle_and_are_copies():
    repository = a_repository(get_default_exploration_scenario=a_scenario("s", 9))
    raw = {**SAMPLE, "sample_metadata": {"sample_index": 4}}
    generator = a_generator(generate_training_dataset=[raw])
    manager = a_manager(repository, generator, cycle=Cycle(run_id="run-1", number=2))
    (found,) = manager.generate_targeted_samples([a_spot()])
    assert found["sample_metadata"] == {
        "sample_index": 4,
        "originating_weak_spot_id": "w1",
        "scenario_definition_id": "s",
        "scenario_version": 9,
        "alm_run_id": "run-1",
        "alm_cycle": 2,
    }
    assert raw["sample_metadata"] == {"sample_index": 4}


class Seeded:
    """A generator with a seed of its own, as ours."""

    def __init__(self) -> None:
        self.seeds: list[Any] = []

    def generate_training_dataset(
        self, scenarios: Any, samples_per_scenario: Any, output_format: str, seed: int | None = None
    ) -> Any:
        self.seeds.append(seed)
        return [SAMPLE]


def test_a_scenario_that_serves_two_spots_is_simulated_with_another_seed():
    repository, generator = a_repository(get_default_exploration_scenario=a_scenario()), Seeded()
    spots = [{**a_spot(), "weakness_id": name} for name in ("w1", "w2", "w3")]
    manager = a_manager(repository, generator)
    manager.generate_targeted_samples(spots)
    assert generator.seeds == [None, Cycle().stream("w2", 0), Cycle().stream("w3", 0)]
    manager.cycle = Cycle("run", 1)
    manager.generate_targeted_samples(spots[:1])
    assert generator.seeds[3:] == [Cycle("run", 1).stream("w1", 0)]


# Samples from the field


def test_field_samples_go_to_the_model_and_the_wrong_ones_become_spots():
    model = Recorder(get_model_performance_feedback=example())
    manager = a_manager(model=model)
    samples = [{"sample_id": "a"}]
    assert manager.process_real_world_feedback({"samples": samples, "model_version_tag": "7"}) is None
    assert model.calls == [
        ("get_model_performance_feedback", (), {"evaluation_dataset": samples, "model_version_tag": "7"})
    ]
    (spot,) = manager.take_field_spots()
    assert spot.weakness_id == f"field_misc_{MISCLASSIFIED['raw_sample_id']}"
    assert (spot.type, spot.details["origin"]) == ("misclassified_region", "field")
    assert spot.priority == pytest.approx(0.8 + 0.1 * 0.71)  # the strategy's own formula
    assert spot.details["original_scenario_id"] == "overheat-summer-003"
    assert manager.take_field_spots() == []


def test_a_field_sample_counts_once_however_often_it_comes():
    manager = a_manager(model=Recorder(get_model_performance_feedback=ModelPerformanceData.read(example())))
    for _ in range(3):
        manager.process_real_world_feedback({"dataset": "/data/field.avro"})
    assert len(manager.take_field_spots()) == 1


def test_no_more_than_a_thousand_field_spots_are_held_the_highest_ones():
    wrong = [
        {**MISCLASSIFIED, "raw_sample_id": f"s{number}", "confidence_of_prediction": number / 1500}
        for number in range(1500)
    ]
    manager = a_manager(model=Recorder(get_model_performance_feedback=feedback(misclassified=wrong)))
    manager.process_real_world_feedback({"samples": [{}]})
    held = manager.take_field_spots()
    assert [spot.raw_sample_id for spot in held] == [f"s{number}" for number in range(1499, 499, -1)]


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({}, DatasetFormat),
        ({"samples": [1], "dataset": "x"}, DatasetFormat),
        ({"samples": "text"}, DatasetFormat),
        ({"samples": [1], "sample": 2}, DatasetFormat),
        ({"samples": [1], "model_version_tag": 3}, DatasetFormat),
        ("text", DatasetFormat),
        ({"samples": []}, EmptyDataset),
    ],
)
def test_field_data_of_another_form_is_refused(given: Any, error: type[Exception]):
    model = Recorder(get_model_performance_feedback=example())
    with pytest.raises(error):
        a_manager(model=model).process_real_world_feedback(given)
    assert model.calls == []


def test_field_data_with_a_model_that_fails_or_is_missing(capsys: pytest.CaptureFixture[str]):
    failing = Recorder(get_model_performance_feedback=EndpointTimeout(url="http://x", timeout_seconds=3))
    with pytest.raises(EndpointTimeout):
        a_manager(model=failing).process_real_world_feedback({"samples": [{}]})
    assert a_manager(model=None).process_real_world_feedback({"samples": [{}]}) is None
    assert "there is no model interface" in capsys.readouterr().out


# Runs


def test_runs_are_handed_on_to_the_campaign():
    campaign = Recorder(run_cycle="cycle", run="run", status={"status": "running"}, resume="resumed")
    manager = a_manager(campaign=campaign)
    assert manager.run_cycle() == "cycle"
    assert manager.run(2, budget=9, stop="when") == "run"
    assert manager.status() == {"status": "running"}
    assert manager.resume("run-1") == "resumed"
    assert campaign.calls == [
        ("run_cycle", (), {}),
        ("run", (), {"n_cycles": 2, "budget": 9, "stop": "when"}),
        ("status", (), {}),
        ("resume", (), {"run_id": "run-1"}),
    ]
    with pytest.raises(ActiveLearningError, match="campaign"):
        a_manager().run(1)
