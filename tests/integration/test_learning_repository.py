"""What both scenario repositories do, the one in memory and the one in PostgreSQL."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest

from builders.learning_scenarios import a_scenario
from builders.postgres import migrated_database, postgres_server
from builders.scenario_rows import a_creation, a_definition, a_modification
from uqueue_config.learning.scenario import ScenarioDefinition
from uqueue_worker.learning.errors import (
    ScenarioConflict,
    ScenarioInvalid,
    ScenarioNotFound,
    ScenarioParameterError,
    UnknownScenarioClass,
)
from uqueue_worker.learning.repository import CraftingRun, MemoryScenarioRepository, ScenarioRepository, paging
from uqueue_worker.learning.repository.connection import Database
from uqueue_worker.learning.repository.postgres import PostgresScenarioRepository
from uqueue_worker.learning.repository.stored import Change
from uqueue_worker.learning.scenarios import BaseScenario

Make = Callable[..., ScenarioRepository]


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    with postgres_server() as server, migrated_database(server) as dsn, Database(dsn) as opened:
        yield opened


@pytest.fixture(params=["memory", "postgres"])
def make(request: pytest.FixtureRequest, database: Database) -> Make:
    """Return what makes an empty repository."""
    if request.param == "memory":
        return MemoryScenarioRepository
    for table in ("scenario_definition_history", "scenario_definitions"):
        database.write(lambda connection, table=table: connection.execute(f"delete from simulation.{table}"))
    return lambda **options: PostgresScenarioRepository(database, **options)


@pytest.fixture
def repository(make: Make) -> ScenarioRepository:
    return make()


def ids(definitions: Any) -> list[str]:
    return [definition.scenario_definition_id for definition in definitions]


# --- saving, reading, changing


@pytest.mark.parametrize("family", ["CoronaDischarge", "InsulationBreakdown", "WeatherEvent", "FirePrecursorCombo"])
def test_what_was_saved_is_read_back(repository: ScenarioRepository, family: str) -> None:
    given = a_definition("heat_event", family, related_scenario_ids=["other"], description="ünïcode — 雷")
    before = copy.deepcopy(given)
    assert repository.save_scenario_definition(given) == "heat_event"
    assert given == before
    found = repository.get_scenario_by_id("heat_event")
    expected = ScenarioDefinition.read({**given, "tags": ["made", f"class_{a_scenario(family).event_type}"]})
    assert found == expected
    assert found["name"] == given["name"]


def test_ids_come_in_two_forms_and_both_are_found(repository: ScenarioRepository) -> None:
    chosen = str(uuid4())
    assert repository.save_scenario_definition(a_definition(chosen.upper())) == chosen
    assert repository.get_scenario_by_id(chosen.upper()) == repository.get_scenario_by_id(chosen)
    repository.save_scenario_definition(a_definition("scenario_heat_event"))
    stored = repository.get_stored("scenario_heat_event")
    assert stored is not None
    assert repository.get_scenario_by_id(str(stored.key)) == stored.definition
    made = repository.save_scenario_definition({"name": "Without an id"})
    assert str(UUID(made)) == made
    assert repository.get_scenario_by_id(made) is not None


@pytest.mark.parametrize("scenario_id", ["absent", "", "x" * 501, "a\x00b", "\ud800", None, 7, str(UUID(int=4))])
def test_what_is_absent_or_no_id_is_none_or_false(repository: ScenarioRepository, scenario_id: Any) -> None:
    assert repository.get_scenario_by_id(scenario_id) is None
    assert repository.get_version(scenario_id, 1) is None
    assert repository.restore_version(scenario_id, 1) is None
    assert repository.get_history(scenario_id) == []
    assert repository.update_scenario_definition(scenario_id, {"name": "x"}) is False
    assert repository.archive(scenario_id) is False
    assert repository.promote(scenario_id) is False


def test_saving_the_same_twice_makes_one_version(repository: ScenarioRepository) -> None:
    repository.save_scenario_definition(a_definition())
    repository.save_scenario_definition(a_definition(version=7, creation_timestamp_utc=5))
    repository.save_scenario_definition(repository.get_scenario_by_id("corona-1"))
    assert [entry["version"] for entry in repository.get_history("corona-1")] == [1]
    repository.save_scenario_definition(a_definition(name="Another", version=99))
    assert repository.get_scenario_by_id("corona-1").version == 2


def test_an_update_is_partial_and_written_to_the_history(make: Make) -> None:
    repository = make(changed_by="somebody")
    repository.save_scenario_definition(a_definition())
    before = repository.get_stored("corona-1")
    updates = {"name": "Renamed", "specific_params": {"environment": {"traffic": 0.9}}, "tags": ["a", "class_x"]}
    assert repository.update_scenario_definition("corona-1", updates) is True
    after = repository.get_stored("corona-1")
    assert after.definition.name == "Renamed"
    assert after.definition.tags == ("a", "class_x")
    assert after.definition.specific_params["environment"] == {
        **before.definition.specific_params["environment"],
        "traffic": 0.9,
    }
    assert after.definition.creation_timestamp_utc == before.definition.creation_timestamp_utc
    assert after.updated_at > before.updated_at
    history = repository.get_history("corona-1")
    assert [(one["version"], one["operation"], one["changed_by"]) for one in history] == [
        (1, "insert", "somebody"),
        (2, "update", "somebody"),
    ]
    assert history[0]["snapshot"]["definition"] == before.definition.to_record()
    assert repository.get_version("corona-1", 1) == before.definition
    assert repository.get_version("corona-1", 2) == after.definition
    assert repository.get_version("corona-1", 3) is None


def test_an_expected_version_that_is_not_there_any_more_is_a_conflict(repository: ScenarioRepository) -> None:
    repository.save_scenario_definition(a_definition())
    assert repository.update_scenario_definition("corona-1", {"name": "b"}, expected_version=1)
    with pytest.raises(ScenarioConflict, match="at version 2, not at 1"):
        repository.update_scenario_definition("corona-1", {"name": "c"}, expected_version=1)
    assert repository.get_scenario_by_id("corona-1").name == "b"
    with pytest.raises(ScenarioInvalid, match="expected_version"):
        repository.update_scenario_definition("corona-1", {"name": "c"}, expected_version=True)


def test_of_two_threads_with_the_same_version_one_wins(repository: ScenarioRepository) -> None:
    repository.save_scenario_definition(a_definition())
    together, outcomes = threading.Barrier(2), []

    def change(name: str) -> None:
        together.wait()
        try:
            outcomes.append(repository.update_scenario_definition("corona-1", {"name": name}, expected_version=1))
        except ScenarioConflict as error:
            outcomes.append(error.code)

    threads = [threading.Thread(target=change, args=(name,)) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(str, outcomes)) == ["True", "scenario_conflict"]
    assert repository.get_scenario_by_id("corona-1").version == 2


def test_of_many_writers_none_is_lost(repository: ScenarioRepository) -> None:
    repository.save_scenario_definition(a_definition(tags=["class_x"], specific_params_json={}))
    failures: list[Exception] = []

    def add(number: int) -> None:
        try:
            for _ in range(100):
                current = repository.get_scenario_by_id("corona-1")
                tags = [*current.tags, f"writer_{number}"]
                try:
                    repository.update_scenario_definition("corona-1", {"tags": tags}, expected_version=current.version)
                    return
                except ScenarioConflict:
                    continue
            raise AssertionError("never got through")
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=add, args=(number,)) for number in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    final = repository.get_scenario_by_id("corona-1")
    assert set(final.tags) == {"class_x", *(f"writer_{number}" for number in range(32))}
    history = repository.get_history("corona-1")
    assert [entry["version"] for entry in history] == list(range(1, 34))
    assert [len(entry["snapshot"]["definition"]["tags"]) for entry in history] == list(range(1, 34))


def test_blind_writers_leave_a_history_without_gaps(repository: ScenarioRepository) -> None:
    repository.save_scenario_definition(a_definition())
    names = [f"name {number}" for number in range(32)]
    threads = [
        threading.Thread(target=repository.update_scenario_definition, args=("corona-1", {"name": name}))
        for name in names
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    history = repository.get_history("corona-1")
    assert [entry["version"] for entry in history] == list(range(1, 34))
    assert sorted(entry["snapshot"]["definition"]["name"] for entry in history[1:]) == sorted(names)


def test_archive_takes_out_of_lists_and_restore_brings_back(repository: ScenarioRepository) -> None:
    repository.save_scenario_definition(a_definition())
    repository.update_scenario_definition("corona-1", {"name": "Second"})
    assert repository.archive("corona-1") is True
    assert repository.archive("corona-1") is True
    assert repository.get_scenarios_by_category("electrical_fault") == []
    assert ids(repository.search(filters={"archived": True}).scenarios) == ["corona-1"]
    assert repository.get_scenario_by_id("corona-1").name == "Second"
    repository.update_scenario_definition("corona-1", {"author": "somebody"})
    assert repository.get_stored("corona-1").archived_at is not None
    restored = repository.restore_version("corona-1", 1)
    assert (restored.name, restored.version) == ("A CoronaDischarge", 5)
    assert ids(repository.get_scenarios_by_category("electrical_fault")) == ["corona-1"]
    operations = [entry["operation"] for entry in repository.get_history("corona-1")]
    assert operations == ["insert", "update", "archive", "update", "restore"]
    assert repository.restore_version("corona-1", 1).version == 5
    assert repository.restore_version("corona-1", 99) is None
    repository.archive("corona-1")
    repository.save_scenario_definition(a_definition())
    assert repository.get_stored("corona-1").archived_at is None


# --- what is refused


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"scenario_class_module": "os", "scenario_class_name": "system"}, UnknownScenarioClass),
        ({"scenario_class_module": "antigravity"}, UnknownScenarioClass),
        ({"specific_params_json": {"emf_strength_v_m": -1}}, ScenarioParameterError),
        ({"specific_params_json": {"no_such": 1}}, ScenarioParameterError),
        ({"specific_params_json": "[]"}, ScenarioInvalid),
        ({"name": ""}, ScenarioInvalid),
        ({"surprise": 1}, ScenarioInvalid),
        ({"category": "x" * 501}, ScenarioInvalid),
        ({"scenario_definition_id": "x" * 501}, ScenarioInvalid),
        ({"tags": ["a\x00"]}, ScenarioInvalid),
        ({"difficulty_level": "EASY"}, ScenarioInvalid),
        ({"expected_duration_seconds": 0}, ScenarioInvalid),
    ],
)
def test_what_is_no_scenario_is_not_saved(
    repository: ScenarioRepository, changes: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        repository.save_scenario_definition(a_definition(**changes))
    assert repository.search(filters={"archived": None, "draft": None}).scenarios == ()
    repository.save_scenario_definition(a_definition())
    if "scenario_definition_id" not in changes:
        with pytest.raises(error):
            repository.update_scenario_definition("corona-1", changes)
    assert repository.get_scenario_by_id("corona-1").version == 1


@pytest.mark.parametrize("key", ["version", "scenario_definition_id", "creation_timestamp_utc", "alm_focus_feature", 3])
def test_an_update_of_what_is_not_the_users_is_refused(repository: ScenarioRepository, key: Any) -> None:
    repository.save_scenario_definition(a_definition())
    with pytest.raises(ScenarioInvalid, match="not a field that can be changed"):
        repository.update_scenario_definition("corona-1", {key: "x"})


@pytest.mark.parametrize(
    "parameters",
    [
        {"text": "a\x00b"},
        {"a\x00b": 1},
        {"deep": [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]},
        {"large": 2**1024},
    ],
)
def test_parameters_that_no_database_holds_are_refused(
    repository: ScenarioRepository, parameters: dict[str, Any]
) -> None:
    with pytest.raises(ScenarioInvalid, match="specific_params"):
        repository.save_scenario_definition({"name": "A draft", "specific_params_json": parameters})


def test_numbers_and_texts_of_parameters_come_back_as_they_are(repository: ScenarioRepository) -> None:
    given = {"a": 1e300, "b": 1e-300, "c": -0.0, "d": 0.1, "e": 2**70, "f": 1.0, "g": [None, True, "', \\ \" ☃ %s"]}
    saved = repository.save_scenario_definition({"name": "A draft", "specific_params_json": given})
    found = repository.get_scenario_by_id(saved)
    assert found.specific_params == given
    repository.save_scenario_definition(
        {"name": "A draft", "specific_params_json": given, "scenario_definition_id": saved}
    )
    assert repository.get_scenario_by_id(saved).version == 1


def test_what_fails_half_way_leaves_nothing(repository: ScenarioRepository) -> None:
    repository.save_scenario_definition(a_definition())

    def half(backend: Any) -> None:
        found = backend.find("corona-1", alone=True)
        repository._writer(backend).insert(ScenarioDefinition.read(a_definition("second")), "half")
        repository._writer(backend).put(found, found, Change("update"))
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        repository._writing(half)
    assert repository.get_scenario_by_id("second") is None
    assert repository.get_history("second") == []
    assert repository.get_scenario_by_id("corona-1").version == 1
    assert len(repository.get_history("corona-1")) == 1


# --- lists by category, class and sensor


def test_lists_are_by_the_latest_update_and_of_the_asked_length(repository: ScenarioRepository) -> None:
    for number in range(4):
        repository.save_scenario_definition(a_definition(f"s{number}", category="c", name=f"Number {number}"))
    repository.save_scenario_definition(a_definition("other", category="C"))
    repository.update_scenario_definition("s1", {"name": "Changed"})
    assert ids(repository.get_scenarios_by_category("c")) == ["s1", "s3", "s2", "s0"]
    assert ids(repository.get_scenarios_by_category("c", num_to_get=2)) == ["s1", "s3"]
    assert repository.get_scenarios_by_category("c", num_to_get=0) == []
    assert repository.get_scenarios_by_category("c' or '1'='1") == []
    with pytest.raises(ScenarioInvalid, match="num_to_get"):
        repository.get_scenarios_by_category("c", num_to_get=-1)


@pytest.mark.parametrize("form", ["class_FIRE", "target_class_FIRE"])
@pytest.mark.parametrize(
    "sensor",
    ["sensor_VOC", "target_sensor_VOC", "variation_for_sensor_VOC", "exploration_sensor_VOC", "type_VOC"],
)
def test_classes_and_sensors_are_read_in_every_form(repository: ScenarioRepository, form: str, sensor: str) -> None:
    repository.save_scenario_definition(a_definition("wanted", tags=[form, sensor]))
    repository.save_scenario_definition(a_definition("unwanted", tags=["class_FIRE_TOO", "sensor_EMF"]))
    assert ids(repository.get_scenarios_by_class_label(class_label="FIRE")) == ["wanted"]
    assert ids(repository.get_scenarios_by_class_label(class_label="FIRE", sensor_type="VOC", num_to_get=2)) == [
        "wanted"
    ]
    assert repository.get_scenarios_by_class_label(class_label="FIRE", sensor_type="EMF") == []
    assert ids(repository.get_scenarios_by_category("electrical_fault", sensor_type="VOC")) == ["wanted"]


def test_a_scenario_is_found_by_the_class_of_its_family(repository: ScenarioRepository) -> None:
    repository.save_scenario_definition(a_definition("plain", tags=[]))
    repository.save_scenario_definition(a_definition("labelled", tags=["class_CORONA"]))
    assert ids(repository.get_scenarios_by_class_label("corona_discharge")) == ["plain"]


# --- variations


def test_a_variation_is_stored_with_where_it_comes_from(repository: ScenarioRepository) -> None:
    base = a_definition(tags=["alm_focus_older"])
    repository.save_scenario_definition(base)
    modifications = {
        "specific_params": {"environment": {"traffic": 0.8}},
        "specific_params.environment.machinery": 0.1,
        "author": "somebody",
        "alm_triggering_weak_spot_id": "ws1",
        "alm_focus_feature": "environment.relative_humidity_percent",
        "alm_focus_feature_value": 91.5,
    }
    given = copy.deepcopy((base, modifications))
    made = repository.create_scenario_variation(
        base_scenario=base,
        new_id_suffix="_alm_var_ws1",
        param_modifications=modifications,
        sensor_context={"sensor_id": "U29_TFEMF", "sensor_type": "EMFSensor"},
    )
    assert (base, modifications) == given
    assert made == repository.get_scenario_by_id("corona-1_alm_var_ws1")
    assert (made.name, made.version, made.author) == ("A CoronaDischarge_alm_var_ws1", 1, "somebody")
    assert made.related_scenario_ids == ("corona-1",)
    assert set(made.tags) == {"alm_generated", "sensor_EMFSensor", "alm_focus_ws1", "class_corona_discharge"}
    parameters = made.specific_params
    assert (parameters["environment"]["traffic"], parameters["environment"]["machinery"]) == (0.8, 0.1)
    assert parameters["emf_strength_v_m"] != 50.0
    stored = repository.get_stored(made.scenario_definition_id)
    assert stored.parent == repository.get_stored("corona-1").key
    assert stored.weak_spot_ids == ("ws1",)
    assert stored.origin == {
        "focus_feature": "environment.relative_humidity_percent",
        "focus_value": 91.5,
        "method": "variation",
    }
    assert ids(repository.find_by_weak_spot("ws1")) == ["corona-1_alm_var_ws1"]
    assert ids(repository.search(filters={"parent": "corona-1"}).scenarios) == ["corona-1_alm_var_ws1"]
    assert repository.get_scenario_by_id("corona-1").version == 1
    assert BaseScenario.from_scenario_definition_dict(made).to_definition() == made


@pytest.mark.parametrize("form", ["definition", "record", "scenario"])
def test_a_base_may_be_given_in_every_form_and_need_not_be_stored(repository: ScenarioRepository, form: str) -> None:
    scenario = a_scenario("EarlyCombustion", "base")
    base = {
        "definition": scenario.to_definition(),
        "record": scenario.to_scenario_definition_dict(),
        "scenario": scenario,
    }[form]
    made = repository.create_scenario_variation(base, "_v", {"description": "varied"})
    assert repository.get_stored(made.scenario_definition_id).parent is None
    assert (made.description, made.related_scenario_ids) == ("varied", ("base",))


def test_the_same_call_gives_the_same_variation_and_another_run_another(repository: ScenarioRepository) -> None:
    base = a_scenario("CoronaDischarge", "base")
    first = repository.create_scenario_variation(base, "_v", {})
    assert repository.create_scenario_variation(base, "_v", {}) == first
    made = [
        repository.in_run(CraftingRun("run", 1, seed=1, index=index)).create_scenario_variation(base, "_v", {})
        for index in (0, 1, 0)
    ]
    assert ids(made) == ["base_v_2", "base_v_3", "base_v_2"]
    assert len({one.specific_params_json for one in (first, *made)}) == 3
    assert repository.get_stored("base_v_2").origin == {"run": "run", "cycle": 1, "seed": 1, "method": "variation"}


def test_a_variation_that_does_the_same_is_none(repository: ScenarioRepository) -> None:
    still = repository.in_run(CraftingRun(jitter_sigma=0))
    base = a_scenario("CoronaDischarge", "base")
    defaults_left_out = {**base.to_scenario_definition_dict(), "specific_params_json": {}}
    whole = {"specific_params_json": {"emf_strength_v_m": 50}}
    assert still.create_scenario_variation(base, "_v", {"name": "Another", "tags": ["x"]}) is None
    assert still.create_scenario_variation(defaults_left_out, "_v", whole) is None
    assert still.search().scenarios == ()
    assert still.create_scenario_variation(base, "_v", {"specific_params.emf_strength_v_m": 51}) is not None


@pytest.mark.parametrize(
    ("modifications", "error"),
    [
        ({"specific_params": 3}, ScenarioInvalid),
        ({"specific_params.emf_strength_v_m.deeper": 3}, ScenarioInvalid),
        ({"specific_params.": 3}, ScenarioInvalid),
        ({"specific_params..a": 3}, ScenarioInvalid),
        ({"emf_strength_v_m": 3}, ScenarioInvalid),
        ({"scenario_id) values (1); drop table x; --": 3}, ScenarioInvalid),
        ({"version": 3}, ScenarioInvalid),
        ({"alm_triggering_weak_spot_id": ["a"]}, ScenarioInvalid),
        ({"specific_params.emf_strength_v_m": -3}, ScenarioParameterError),
        ({"specific_params.unknown": 3}, ScenarioParameterError),
        ({"scenario_class_name": "ForkBomb"}, UnknownScenarioClass),
    ],
)
def test_modifications_that_make_no_sense_are_refused(
    repository: ScenarioRepository, modifications: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        repository.create_scenario_variation(a_scenario("CoronaDischarge"), "_v", modifications)
    assert repository.search(filters={"archived": None, "draft": None}).scenarios == ()


# --- crafting, exploration, suggestions


class OneCrafter:
    """Gives the definition that it was made with, under the id asked for."""

    def __init__(self, definition: dict[str, Any] | None) -> None:
        self.definition, self.asked = definition, []

    def __call__(self, **asked: Any) -> Any:
        self.asked.append({name: value for name, value in asked.items() if name != "repository"})
        if self.definition is None:
            return None
        record = {**self.definition, "scenario_definition_id": asked["base_id"]}
        definition = ScenarioDefinition.read(record)
        return SimpleNamespace(definition=definition, origin={"crafter": "one", "crafter_version": "3"})


AIM = {"features_summary": {"method": "NONE"}, "target_class": "CORONA", "sensor_type": "EMFSensor"}


def test_crafting_delegates_and_stores_once(make: Make) -> None:
    crafter = OneCrafter(a_definition(tags=["alm_focus_ws1"], specific_params_json={"emf_strength_v_m": 70}))
    repository = make(crafter=crafter)
    made = repository.craft_scenario_from_features(base_id="alm_crafted_ws1", **AIM)
    assert crafter.asked == [{**AIM, "base_id": "alm_crafted_ws1"}]
    assert ids([made]) == ["alm_crafted_ws1"]
    assert set(made.tags) == {"alm_focus_ws1", "alm_generated", "class_CORONA", "sensor_EMFSensor"}
    origin = {"crafter": "one", "crafter_version": "3", "method": "crafting"}
    assert repository.get_stored("alm_crafted_ws1").origin == origin
    assert ids(repository.find_by_weak_spot("ws1")) == ["alm_crafted_ws1"]
    assert repository.craft_scenario_from_features(base_id="alm_crafted_ws2", **AIM) == made
    crafter.definition["specific_params_json"] = {"emf_strength_v_m": 71}
    assert ids([repository.craft_scenario_from_features(base_id="alm_crafted_ws1", **AIM)]) == ["alm_crafted_ws1_2"]


def test_without_a_crafter_or_a_draft_there_is_nothing(make: Make) -> None:
    assert make().craft_scenario_from_features(base_id="x", **AIM) is None
    assert make(crafter=OneCrafter(None)).craft_scenario_from_features(base_id="x", **AIM) is None
    with pytest.raises(UnknownScenarioClass):
        make(crafter=OneCrafter(a_definition(scenario_class_name="X"))).craft_scenario_from_features(base_id="x", **AIM)
    assert make().search().scenarios == ()


def test_one_exploration_scenario_per_type_of_sensor(repository: ScenarioRepository) -> None:
    first = repository.get_default_exploration_scenario(scenario_id="alm_explore_a", sensor_type="EMFSensor")
    again = repository.get_default_exploration_scenario(scenario_id="alm_explore_b", sensor_type="EMFSensor")
    other = repository.get_default_exploration_scenario(scenario_id="alm_explore_a", sensor_type=None)
    assert first == again
    assert first.category == "EXPLORATION"
    assert "sensor_EMFSensor" in first.tags
    assert other.scenario_definition_id not in ("alm_explore_a", "alm_explore_b")
    assert other == repository.get_default_exploration_scenario("alm_explore_c")
    for made in (first, other):
        assert BaseScenario.from_scenario_definition_dict(made).scenario_id == made.scenario_instance_id


def test_many_threads_get_one_exploration_scenario(repository: ScenarioRepository) -> None:
    found: list[Any] = []
    threads = [
        threading.Thread(
            target=lambda number=number: found.append(
                repository.get_default_exploration_scenario(f"alm_explore_{number}", "ThermalCamera")
            )
        )
        for number in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(ids(found))) == 1


def test_a_draft_is_offered_once_somebody_approved_it(repository: ScenarioRepository) -> None:
    drafting = repository.in_run(CraftingRun("run", 1, draft=True))
    base = a_scenario("CoronaDischarge", "base")
    made = drafting.create_scenario_variation(base, "_v", {"alm_triggering_weak_spot_id": "ws1"})
    assert repository.get_scenarios_by_class_label("corona_discharge") == []
    assert repository.search().scenarios == ()
    assert repository.search(filters={"draft": True}).scenarios == (made,)
    assert repository.find_by_weak_spot("ws1") == [made]
    assert repository.promote("base_v") is True
    assert repository.promote("base_v") is True
    assert ids(repository.get_scenarios_by_class_label("corona_discharge")) == ["base_v"]
    assert repository.get_scenario_by_id("base_v").version == 2


def test_a_suggested_modification_moves_the_parameter_and_tags(repository: ScenarioRepository) -> None:
    repository.save_scenario_definition(a_definition())
    before = repository.get_scenario_by_id("corona-1").specific_params
    inside = a_modification("corona-1", "environment.relative_humidity_percent", 40.0)
    changed = repository.apply(inside)
    assert repository.apply(inside) == changed
    assert changed.version == 2
    assert "alm_focus_ws1" in changed.tags
    moved = changed.specific_params
    assert 20 < moved["environment"]["relative_humidity_percent"] < 60
    assert moved["environment"]["relative_humidity_percent"] != 40
    moved["environment"]["relative_humidity_percent"] = before["environment"]["relative_humidity_percent"]
    assert moved == before
    beyond = a_modification("corona-1", "specific_params.environment.traffic", 1900.0, number=2)
    assert repository.apply(beyond.model_dump()).specific_params["environment"]["traffic"] != 0.2
    assert ids(repository.find_by_weak_spot("ws2")) == ids(repository.find_by_weak_spot("ws1")) == ["corona-1"]


def test_suggestions_that_cannot_be_applied_are_refused(repository: ScenarioRepository) -> None:
    repository.save_scenario_definition(a_definition())
    repository.save_scenario_definition({"scenario_definition_id": "draft", "name": "A draft"})
    with pytest.raises(ScenarioNotFound):
        repository.apply(a_modification("absent", "emf_strength_v_m", 1))
    for target, path in (("corona-1", "no_such"), ("corona-1", "heuristic_map(a.b)"), ("draft", "a")):
        with pytest.raises(ScenarioInvalid):
            repository.apply(a_modification(target, path, 1))
    with pytest.raises(ScenarioInvalid, match="rejected"):
        repository.apply(a_creation().model_copy(update={"state": "rejected"}))
    with pytest.raises(ScenarioInvalid, match="expected a suggestion"):
        repository.apply({"kind": "something"})
    assert repository.get_scenario_by_id("corona-1").version == 1


def test_a_suggested_scenario_is_crafted_or_a_draft(make: Make) -> None:
    plain = make()
    draft = plain.apply(a_creation("alm_new_ws1", alm_focus_features={"method": "NONE"}))
    assert (draft.scenario_class_name, draft.specific_params) == ("", {"alm_focus_features": {"method": "NONE"}})
    assert plain.apply(a_creation("alm_new_ws1", alm_focus_features={"method": "NONE"})) == draft
    crafter = OneCrafter(a_definition(tags=["class_CORONA"]))
    able = make(crafter=crafter)
    made = able.apply(a_creation("alm_new_ws3", alm_focus_features={"method": "NONE"}))
    assert crafter.asked[0] == {
        "features_summary": {"method": "NONE"},
        "target_class": "CORONA",
        "sensor_type": "VOCSensorArray",
        "base_id": "alm_new_ws3",
    }
    assert (made.scenario_class_name, made.name) == ("CoronaDischarge", "New for ws1")
    assert set(made.tags) == {"alm_generated", "sensor_U19_TFSGS", "type_VOCSensorArray", "class_CORONA"}
    assert able.get_stored("alm_new_ws3").origin["suggestions"] == ["sugg_000000000001"]


# --- searching


@pytest.fixture
def library(repository: ScenarioRepository) -> ScenarioRepository:
    """A few scenarios whose words, tags and parameters differ."""
    for number, (name, description, tags, parameters) in enumerate(
        [
            ("Corona in humid air", "Measured near insulators", ["class_CORONA"], {"wind": 1, "place": [1, 2]}),
            ("Arc", "A corona precedes it; insulator tests", ["class_ARC", "fire_precursor"], {"wind": 5.5, "p": "x"}),
            ("Smoulder", "Nothing of the kind", ["class_FIRE", "fire_precursor"], {"wind": None, "a": {"b": True}}),
            ("Wind", "Corona_free air, humid", ["class_NORMAL", "sensor_VOC"], {"a": {"b": 1, "c": ["k", 2]}}),
        ]
    ):
        repository.save_scenario_definition(
            {
                "scenario_definition_id": f"s{number}",
                "name": name,
                "description": description,
                "tags": tags,
                "category": "electrical_fault" if number < 2 else "normal",
                "specific_params_json": parameters,
                "expected_duration_seconds": 10.0 * (number + 1) if number else None,
                "difficulty_level": ["LOW", "MEDIUM", "HIGH", "CUSTOM"][number],
                "author": f"author {number}",
                "creation_timestamp_utc": 1000 * number,
            }
        )
    return repository


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("corona", ["s0", "s3", "s1"]),
        ("CORONA", ["s0", "s3", "s1"]),
        ("fire precursor", ["s2", "s1"]),
        ("fire_precursor", ["s2", "s1"]),
        ("class_FIRE", ["s2"]),
        ("insulators", ["s1", "s0"]),
        ('"humid air"', ["s0"]),
        ("corona -humid", ["s1"]),
        ("-corona", ["s2"]),
        ("smoulder or arc", ["s2", "s1"]),
        ("the corona", ["s0", "s3", "s1"]),
        ("absent", []),
        ("'; drop table simulation.scenario_definitions; --", []),
        ("corona & | ! ( ) : * <-> \\", ["s0", "s3", "s1"]),
        ("!!! ---", []),
        ("%s %(a)s {}", []),
    ],
)
def test_words_find_the_best_first(library: ScenarioRepository, query: str, expected: list[str]) -> None:
    found = ids(library.search(query).scenarios)
    assert sorted(found) == sorted(expected)
    if "corona" in query.lower() and len(expected) == 3:
        assert found[0] == "s0"  # a name counts more than a description


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, ["s3", "s2", "s1", "s0"]),
        ({"category": "normal"}, ["s3", "s2"]),
        ({"difficulty": "HIGH"}, ["s2"]),
        ({"difficulty": ["LOW", "CUSTOM"]}, ["s3", "s0"]),
        ({"duration_min_seconds": 30}, ["s3", "s2"]),
        ({"duration_max_seconds": 30}, ["s2", "s1"]),
        ({"author": "author 1"}, ["s1"]),
        ({"created_after": 1000, "created_before": "1970-01-01T00:00:02Z"}, ["s2", "s1"]),
        ({"updated_before": "2001-01-01"}, []),
        ({"updated_after": "2001-01-01"}, ["s3", "s2", "s1", "s0"]),
        ({"tags": "fire_precursor"}, ["s2", "s1"]),
        ({"tags": ["fire_precursor", "class_ARC"]}, ["s1"]),
        ({"tags": {"any": ["class_ARC", "class_CORONA"]}}, ["s1", "s0"]),
        ({"tags": {"none": ["fire_precursor"]}}, ["s3", "s0"]),
        ({"tags": {"all": ["fire_precursor"], "none": ["class_ARC"]}}, ["s2"]),
        ({"class_label": "ARC"}, ["s1"]),
        ({"sensor_type": "VOC"}, ["s3"]),
        ({"contains": {"a": {"b": True}}}, ["s2"]),
        ({"contains": {"place": [2]}}, ["s0"]),
        ({"archived": True}, []),
        ({"weak_spot_id": "none"}, []),
        ({"parent": "s0"}, []),
    ],
)
def test_filters(library: ScenarioRepository, filters: dict[str, Any], expected: list[str]) -> None:
    assert ids(library.search(filters=filters).scenarios) == expected


@pytest.mark.parametrize(
    ("path", "operator", "value", "expected"),
    [
        ("wind", "eq", 1, ["s0"]),
        ("wind", "eq", 1.0, ["s0"]),
        ("wind", "eq", True, []),
        ("wind", "eq", None, ["s2"]),
        ("wind", "ne", 1, ["s2", "s1"]),
        ("wind", "lt", 5.5, ["s0"]),
        ("wind", "le", 5.5, ["s1", "s0"]),
        ("wind", "gt", 1, ["s1"]),
        ("wind", "ge", 1, ["s1", "s0"]),
        ("specific_params.wind", "in", [1, 5.5, "x"], ["s1", "s0"]),
        ("wind", "exists", True, ["s2", "s1", "s0"]),
        ("wind", "exists", False, ["s3"]),
        ("a.b", "eq", True, ["s2"]),
        ("a.b", "eq", 1, ["s3"]),
        ("a.c", "contains", "k", ["s3"]),
        ("a.c", "contains", [2], ["s3"]),
        ("a", "contains", {"b": True}, ["s2"]),
        ("a", "eq", {"b": True}, ["s2"]),
        ("place", "eq", [1, 2], ["s0"]),
        ("place", "eq", [2, 1], []),
        ("place.1", "eq", 2, ["s0"]),
        ("place.1", "ge", 2, ["s0"]),
        ("place.7", "exists", True, []),
        ("a.c.1", "in", [2], ["s3"]),
        ("p", "eq", "x' or '1'='1", []),
        ("p", "lt", 5, []),
    ],
)
def test_parameters_are_compared(
    library: ScenarioRepository, path: str, operator: str, value: Any, expected: list[str]
) -> None:
    asked = {"parameters": [{"path": path, "op": operator, "value": value}]}
    assert ids(library.search(filters=asked).scenarios) == expected


@pytest.mark.parametrize(
    "filters",
    [
        {"surprise": 1},
        {"category; drop table x": "c"},
        {"parameters": [{"path": "a'b", "op": "eq", "value": 1}]},
        {"parameters": [{"path": "a..b", "op": "eq", "value": 1}]},
        {"parameters": [{"path": "", "op": "eq", "value": 1}]},
        {"parameters": [{"path": "a", "op": "like", "value": 1}]},
        {"parameters": [{"path": "a", "op": "lt", "value": "1"}]},
        {"parameters": [{"path": "a", "op": "in", "value": []}]},
        {"parameters": [{"path": "a", "op": "exists", "value": 1}]},
        {"parameters": [{"path": "a\n", "op": "eq", "value": 1}]},
        {"parameters": [{"path": "a", "op": "eq", "value": "\x00"}]},
        {"parameters": [{"path": "a", "op": "eq", "value": float("nan")}]},
        {"contains": [1]},
        {"created_after": "yesterday"},
        {"difficulty": "EASY"},
        {"tags": {"some": ["a"]}},
        [1],
    ],
)
def test_filters_that_make_no_sense_are_refused(repository: ScenarioRepository, filters: Any) -> None:
    with pytest.raises(ScenarioInvalid, match="filters"):
        repository.search(filters=filters)


@pytest.mark.parametrize(
    "asked",
    [
        {"limit": 0},
        {"limit": 501},
        {"limit": True},
        {"limit": "1"},
        {"cursor": "nonsense"},
        {"cursor": "W10"},
        {"cursor": "💥"},
        {"query": "a\x00"},
        {"query": "x" * 1001},
        {"query": " ".join(f"a{number}" for number in range(51))},
        {"query": 3},
    ],
)
def test_searches_that_make_no_sense_are_refused(repository: ScenarioRepository, asked: dict[str, Any]) -> None:
    with pytest.raises(ScenarioInvalid):
        repository.search(**asked)


@pytest.mark.parametrize("query", [None, "corona"])
def test_pages_hold_everything_once_while_rows_come_and_go(repository: ScenarioRepository, query: str | None) -> None:
    for number in range(7):
        name = "corona " * (number % 3 + 1)
        repository.save_scenario_definition({"scenario_definition_id": f"s{number}", "name": name})
    expected = ids(repository.search(query, limit=100).scenarios)
    assert len(expected) == 7
    found: list[str] = []
    page = repository.search(query, limit=3)
    while True:
        found += ids(page.scenarios)
        if page.cursor is None:
            break
        assert len(page.scenarios) == 3
        repository.save_scenario_definition({"scenario_definition_id": f"new {len(found)}", "name": "corona " * 5})
        page = repository.search(query, limit=3, cursor=page.cursor)
    assert found == expected


def read_all(repository: ScenarioRepository, query: str, limit: int, **filters: Any) -> list[list[str]]:
    """Return the ids of each page, asked for with the cursor of the one before."""
    pages, cursor = [], None
    while cursor is not None or not pages:
        page = repository.search(query, filters, limit, cursor)
        pages.append(ids(page.scenarios))
        cursor = page.cursor
    return pages


@pytest.fixture
def eight(repository: ScenarioRepository, monkeypatch: pytest.MonkeyPatch) -> ScenarioRepository:
    """Eight scenarios of which five are ranked; those with an even number are the best."""
    monkeypatch.setattr(paging, "MOST_RANKED", 5)
    for number in range(8):
        name = "Humid" if number % 2 == 0 else "Other"
        record = {"scenario_definition_id": f"s{number}", "name": name, "description": "humid air", "category": "c"}
        repository.save_scenario_definition({**record, "specific_params_json": {"wind": number}})
    return repository


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 5, 6, 7, 8])
def test_the_latest_matches_are_ranked_and_the_others_follow(eight: ScenarioRepository, limit: int) -> None:
    expected = ["s6", "s4", "s7", "s5", "s3", "s2", "s1", "s0"]
    pages = read_all(eight, "humid", limit)
    assert [one for page in pages for one in page] == expected
    assert all(len(page) == limit for page in pages[:-1])
    assert eight.search("humid", limit=limit).ranked_all is False
    some = {"parameters": [{"path": "wind", "op": "lt", "value": 7}], "category": "c"}
    found = [one for page in read_all(eight, "humid", limit, **some) for one in page]
    assert found == ["s6", "s4", "s2", "s5", "s3", "s1", "s0"]


def test_where_no_more_match_than_are_ranked_all_are(eight: ScenarioRepository) -> None:
    few = {"parameters": [{"path": "wind", "op": "le", "value": 4}]}
    page = eight.search("humid", few, limit=3)
    assert (ids(page.scenarios), page.ranked_all) == (["s4", "s2", "s0"], True)
    page = eight.search("humid", few, limit=3, cursor=page.cursor)
    assert (ids(page.scenarios), page.ranked_all, page.cursor) == (["s3", "s1"], True, None)
    assert eight.search(filters=few).ranked_all is True
    assert eight.search("absent").ranked_all is True


@pytest.mark.parametrize("limit", [2, 3])
def test_pages_behind_the_ranked_ones_stay_while_rows_come(eight: ScenarioRepository, limit: int) -> None:
    found, cursor = [], None
    while cursor is not None or not found:
        page = eight.search("humid", limit=limit, cursor=cursor)
        assert page.ranked_all is False
        found += ids(page.scenarios)
        cursor = page.cursor
        eight.save_scenario_definition({"scenario_definition_id": f"new {len(found)}", "name": "Humid humid humid"})
    assert found == ["s6", "s4", "s7", "s5", "s3", "s2", "s1", "s0"]


def test_more_terms_rank_fewer(eight: ScenarioRepository) -> None:
    words = " or ".join(["humid", *(f"absent{number}" for number in range(15))])
    found = [one for page in read_all(eight, words, 3) for one in page]
    assert found == ["s6", "s7", "s5", "s4", "s3", "s2", "s1", "s0"]


def test_a_cursor_that_leads_behind_the_ranked_ones_goes_on_without_words(eight: ScenarioRepository) -> None:
    cursor = eight.search("humid", limit=6).cursor
    assert ids(eight.search(cursor=cursor).scenarios) == ["s1", "s0"]
