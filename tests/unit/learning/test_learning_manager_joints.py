"""The manager with nothing replaced: a real model, strategy, repository, crafter, simulator and Avro files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fastavro
import pandas as pd
import pytest

from builders.learning_runs import a_workshop, an_engine, scenarios, small_config
from builders.learning_scenarios import a_generator
from builders.learning_world import FAMILIES, Pool, a_crafter, a_manager, a_pool, labelled
from uqueue_worker.learning.campaign import InProcessCampaign
from uqueue_worker.learning.engine.adapters import strategies
from uqueue_worker.learning.errors import ActiveLearningError, RunNotFound
from uqueue_worker.learning.manager import ActiveLearningManager
from uqueue_worker.learning.repository import CraftingRun, MemoryScenarioRepository


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    return a_pool(tmp_path_factory.mktemp("pool"))


@pytest.fixture
def repository() -> MemoryScenarioRepository:
    return MemoryScenarioRepository(**a_crafter())


@pytest.fixture
def manager(pool: Pool, repository: MemoryScenarioRepository, tmp_path: Path) -> ActiveLearningManager:
    return a_manager(pool, repository, tmp_path)


def test_from_feedback_to_an_avro_file_that_any_reader_understands(
    pool: Pool, manager: ActiveLearningManager, repository: MemoryScenarioRepository
):
    spots = manager.identify_weak_spots(pool.feedback)
    assert spots
    path = manager.generate_targeted_samples(spots, 2, output_format="avro", dataset_name_prefix="aimed")
    assert isinstance(path, str)
    assert Path(path).name == "aimed_20260302_090000.avro"
    with Path(path).open("rb") as file:
        samples: list[Any] = list(fastavro.reader(file))
    readings = [repr(one["sensor_readings_map"]["readings"]) for one in samples]
    assert len(set(readings)) == len(samples)  # even where a scenario serves two spots
    known = {spot.weakness_id: spot for spot in spots}
    assert {one["sample_metadata"]["originating_weak_spot_id"] for one in samples} == known.keys()
    for one in samples:
        told = one["sample_metadata"]
        stored = repository.get_scenario_by_id(told["scenario_definition_id"])
        assert stored is not None
        assert stored.version == told["scenario_version"]
        assert one["scenario_id"] == told["scenario_definition_id"]
        assert (told["alm_run_id"], told["alm_cycle"]) == ("run-1", 0)
        spot = known[told["originating_weak_spot_id"]]
        if spot.type != "low_recall_class":
            assert stored.scenario_definition_id == f"{spot.details['original_scenario_id']}_alm_var_{spot.weakness_id}"
            assert f"alm_focus_{spot.weakness_id}" in stored.tags
            assert repository.find_by_weak_spot(spot.weakness_id) == [stored]


@pytest.mark.parametrize(("output_format", "suffix"), [("dataframe_parquet", "parquet"), ("dataframe_csv", "csv")])
def test_targeted_samples_become_a_table(pool: Pool, manager: ActiveLearningManager, output_format: str, suffix: str):
    spots = manager.identify_weak_spots(pool.feedback)
    path = manager.generate_targeted_samples(spots, 2, output_format=output_format, dataset_name_prefix="aimed")
    assert Path(str(path)).name == f"aimed_20260302_090000.{suffix}"
    frame = pd.read_parquet(str(path)) if suffix == "parquet" else pd.read_csv(str(path))
    assert set(frame["sample_metadata.originating_weak_spot_id"]) == {spot.weakness_id for spot in spots}


def test_what_has_no_scenario_any_more_is_crafted_for_its_class(
    pool: Pool, manager: ActiveLearningManager, repository: MemoryScenarioRepository, tmp_path: Path
):
    spot = next(one for one in manager.identify_weak_spots(pool.feedback) if one.type != "low_recall_class")
    lost = spot.model_copy(update={"details": {**spot.details, "original_scenario_id": "gone"}})
    samples = manager.generate_targeted_samples([lost], 3)
    assert isinstance(samples, list)
    assert len(samples) == 3
    made = repository.get_stored(f"alm_crafted_{spot.weakness_id}")
    assert made is not None
    assert made.origin["crafter"] == "template"
    assert made.origin["crafter_version"] == "1"
    assert made.weak_spot_ids == (spot.weakness_id,)
    family = FAMILIES.of_class(spot.details["true_label"])
    assert family is not None
    assert made.definition.scenario_class_name == family.__name__
    assert f"class_{spot.details['true_label']}" in made.definition.tags
    assert {one["ground_truth_labels"]["event_type"] for one in samples} == {family.event_type}
    assert made.definition in repository.get_scenarios_by_class_label(class_label=spot.details["true_label"])


def test_an_empty_repository_makes_a_scenario_by_rule_and_explores_without_features(
    pool: Pool, repository: MemoryScenarioRepository, tmp_path: Path
):
    strategy = strategies(repository)(small_config())
    manager = ActiveLearningManager(a_generator(tmp_path), repository, pool.model, strategy)
    spot = next(one for one in manager.identify_weak_spots(pool.feedback) if one.type != "low_recall_class")
    assert manager.generate_targeted_samples([spot], 1)
    made = repository.get_stored(f"alm_crafted_{spot.weakness_id}")
    assert made is not None
    assert made.origin["crafter"] in ("rule", "optimise")
    bare = {**dict(spot), "weakness_id": "bare", "details": {}}
    assert manager.generate_targeted_samples([bare], 1)
    (explored,) = repository.get_scenarios_by_category(category="EXPLORATION")
    assert explored.scenario_definition_id == "alm_explore_bare"


def test_suggestions_are_applied_to_the_scenarios_that_they_name(
    pool: Pool, manager: ActiveLearningManager, repository: MemoryScenarioRepository
):
    spots = manager.identify_weak_spots(pool.feedback)
    in_run = repository.in_run(CraftingRun("run-1", 0))
    found = manager.suggest_scenario_modifications(spots)
    assert len(found) == len(spots)
    applied = 0
    for one in found:
        if one.needs_mapping:
            continue
        stored = in_run.apply(one)
        assert stored is not None
        assert set(one.originating_weak_spot_ids) <= set(
            repository.get_stored(stored.scenario_definition_id).weak_spot_ids
        )  # type: ignore[union-attr]
        applied += 1
    assert applied > 0


def test_field_samples_that_the_model_gets_wrong_lead_to_samples(
    pool: Pool, manager: ActiveLearningManager, repository: MemoryScenarioRepository, tmp_path: Path
):
    field = labelled(tmp_path, scenarios(40, 3), 3)
    manager.process_real_world_feedback({"samples": field})
    spots = manager.take_field_spots()
    assert spots
    assert all(spot.details["origin"] == "field" for spot in spots)
    assert [spot.priority for spot in spots] == sorted((spot.priority for spot in spots), reverse=True)
    samples = manager.generate_targeted_samples(spots[:2], 1)
    assert isinstance(samples, list)
    assert len(samples) == 2


def test_runs_go_through_the_engine(tmp_path: Path):
    engine = an_engine(tmp_path, workshop=a_workshop(tmp_path))
    manager = ActiveLearningManager(None, None, None, None, campaign=InProcessCampaign(engine, small_config()))
    assert manager.status() == {}
    first = manager.run_cycle()
    assert (first.cycle, first.state) == (0, "completed")
    assert manager.status()["cycle"] == 1
    second = manager.run_cycle()
    assert (second.run_id, second.cycle, second.state) == (first.run_id, 1, "completed")
    assert manager.status()["status"] == "completed"
    with pytest.raises(ActiveLearningError, match="complete"):
        manager.resume(first.run_id)
    with pytest.raises(RunNotFound):
        manager.resume("nobody's")


def test_a_run_keeps_to_its_cycles_and_budget_and_is_stopped_and_resumed(tmp_path: Path):
    engine = an_engine(tmp_path, workshop=a_workshop(tmp_path))
    manager = ActiveLearningManager(None, None, None, None, campaign=InProcessCampaign(engine, small_config()))
    seen: list[str] = []

    def stop(run: Any) -> bool:
        seen.append(run.state)
        return run.state == "training"

    stopped = manager.run(n_cycles=1, budget=5, stop=stop)
    assert (stopped.status, stopped.stop_reason) == ("cancelled", "manual")
    assert seen[-1] == "training"
    whole = manager.resume(stopped.run_id)
    assert (whole.run_id, whole.status, whole.cycle) == (stopped.run_id, "completed", 0)
    assert whole.samples_spent <= 5
    assert whole.config.max_cycles == 1
